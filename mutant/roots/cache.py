"""Downloaded weight files, kept under their SHA-256 and checked at every read."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mutant.tasks.errors import UserError


def cache_directory() -> Path:
    """`MUTANT_CACHE`, or the platform's place for caches."""
    if named := os.environ.get("MUTANT_CACHE"):
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("mutant")


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(directory: Path, sha256: str, file_name: str) -> Path | None:
    """The kept file, or None when it is not there or its bytes are no longer those of its digest."""
    path = directory / sha256 / file_name
    return path if path.is_file() and file_digest(path) == sha256 else None


def remembered(directory: Path, place: str) -> str | None:
    """The digest that a file from `place` had when it was kept."""
    note = _note(directory, place)
    return note.read_text().strip() if note.is_file() else None


def remember(directory: Path, place: str, sha256: str) -> None:
    with writing(_note(directory, place)) as partial:
        partial.write_text(sha256 + "\n")


def _note(directory: Path, place: str) -> Path:
    return directory / "places" / hashlib.sha256(place.encode()).hexdigest()


@contextmanager
def workspace(directory: Path) -> Generator[Path]:
    """An empty directory on the cache's file system, removed at the end; `UserError` if none can be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=directory, prefix=".partial-"))
    except OSError as error:
        raise UserError(
            f"Cannot write to the cache {directory}: {error.strerror or error}.",
            hint="Set MUTANT_CACHE to another place.",
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Generator[Path]:
    """A partial file that takes the place of `path` when the block ends well."""
    with workspace(path.parent) as directory:
        partial = directory / path.name
        yield partial
        partial.replace(path)


def keep(directory: Path, fetched: Path, sha256: str, file_name: str) -> Path:
    """Move a fetched file (on the same file system) to its place, at once and whole."""
    path = directory / sha256 / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    with fetched.open("rb") as file:
        os.fsync(file.fileno())
    fetched.replace(path)
    return path
