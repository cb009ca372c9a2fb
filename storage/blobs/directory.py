"""A blob store in a directory: a file per blob, written beside its place, synced, then given its name."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mutant.storage.blobs.protocol import blob_name, gone, no_space
from mutant.tasks.errors import UserError

_OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.[0-9a-f]{16}")
"""The names of blobs, and of blobs that are being written."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Directory:
    """Blobs under `base/key`. `lazy`: it is made with the first blob, else it must be there (a disk can be missing)."""

    base: Path
    key: str
    lazy: bool

    @property
    def where(self) -> str:
        here = Path.cwd()
        return str(self.base.relative_to(here)) if self.base.is_relative_to(here) else str(self.base)

    @property
    def _own(self) -> Path:
        return self.base / self.key

    def prepare(self) -> None:
        if self.lazy:
            return
        with self._explained():
            _make(self._own)
            probe = self._own / f".{secrets.token_hex(8)}"
            probe.touch()
            probe.unlink()

    def put(self, digest: str, data: bytes) -> None:
        path = self._own / blob_name(digest)
        with self._explained():
            if not self.lazy and not self._own.is_dir():
                raise gone(self.where)
            _make(path.parent)
            beside = path.with_name(f".{digest}.{secrets.token_hex(8)}")
            try:
                with beside.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except BaseException:
                with suppress(OSError):
                    beside.unlink(missing_ok=True)
                raise
            sync(path.parent)

    def get(self, digest: str) -> bytes | None:
        with self._explained():
            try:
                return (self._own / blob_name(digest)).read_bytes()
            except FileNotFoundError:
                if not self._own.is_dir():
                    raise gone(self.where) from None
                return None

    def size(self, digest: str) -> int | None:
        with self._explained():
            try:
                return (self._own / blob_name(digest)).stat().st_size
            except FileNotFoundError:
                return None

    def names(self) -> Iterator[tuple[str, int]]:
        with self._explained():
            for path in self._own.glob("[0-9a-f][0-9a-f]/*"):
                with suppress(FileNotFoundError):  # deleted, or renamed, since it was listed
                    if _OURS.fullmatch(path.name):
                        yield f"{path.parent.name}/{path.name}", path.lstat().st_size

    def delete(self, names: Iterable[str]) -> None:
        with self._explained():
            for name in names:
                (self._own / name).unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self._own, ignore_errors=True)
        with suppress(OSError):  # others' parts are in it, or it was not there
            self.base.rmdir()

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn the faults of a disk into errors for people."""
        try:
            yield
        except OSError as error:
            raise self._fault(error) from error

    def _fault(self, error: OSError) -> UserError:
        if error.errno in _FULL:
            return no_space(self.where)
        if error.errno in _REFUSED:
            return UserError(
                f"The weights in '{self.where}' cannot be reached: {error.strerror}: '{error.filename}'.",
                hint="It must be yours to read, and to write for whatever changes the system.",
            )
        return UserError(
            f"Reading or writing the weights in '{self.where}' failed: {error.strerror or error}.",
            hint="Check that directory and its disk; then: mutant verify",
        )


def _make(directory: Path) -> None:
    """Make a directory and those above it, each there for good."""
    if directory.is_dir():
        return
    _make(directory.parent)
    directory.mkdir(exist_ok=True)
    sync(directory.parent)


def sync(directory: Path) -> None:
    """Wait until the disk has the names in a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
