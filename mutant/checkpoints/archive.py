"""Zip archives of arrays, opened without trust."""

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mutant.tasks.errors import UserError

SMALL = 64 * 2**20
LARGEST_RATIO = 20


@contextmanager
def open_archive(path: Path) -> Generator[zipfile.ZipFile]:
    """A zip archive whose members cannot unpack to much more than it holds; its faults become `UserError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(SMALL, LARGEST_RATIO * path.stat().st_size):
                raise UserError(f"{path.name} unpacks to {unpacked:,} bytes: too much for its size to be weights.")
            yield archive
    except UserError:
        raise
    except Exception as error:  # zipfile and zlib raise many types on damaged bytes
        raise UserError(f"{path.name} is damaged: {error or type(error).__name__}.") from error
