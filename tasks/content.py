"""Where the images of a split are: in memory, in files or in an archive. Nothing is decoded before it is asked for."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.errors import UserError
from mutant.tasks.images import ImageError, decode, from_array
from mutant.tasks.limits import Limits

Pixels = NDArray[np.uint8]
Reader = Callable[[int], Pixels]


class Content(Protocol):
    """A picklable sequence of images; equal indices always give equal pixels."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call image `index` when it cannot be read."""
        ...

    def reader(self, limits: Limits) -> AbstractContextManager[Reader]:
        """A function from an index to RGB pixels [h, w, 3], callable from many threads; it raises ImageError."""
        ...

    def take(self, indices: NDArray[np.int64]) -> Content:
        """The images at `indices`, in that order."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayContent:
    """Pixels in memory, uint8 [n, h, w] or [n, h, w, 1 | 3 | 4]."""

    pixels: Pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return f"example {index}"

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        yield lambda index: from_array(self.pixels[index])

    def take(self, indices: NDArray[np.int64]) -> ArrayContent:
        return ArrayContent(self.pixels[indices])


@dataclass(frozen=True, eq=False)
class BlobContent:
    """Encoded images in memory."""

    blobs: Sequence[bytes]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.blobs)

    def name(self, index: int) -> str:
        return self.names[index]

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        yield lambda index: decode(self.blobs[index], limits)

    def take(self, indices: NDArray[np.int64]) -> BlobContent:
        order: list[int] = indices.tolist()
        return BlobContent([self.blobs[i] for i in order], [self.names[i] for i in order])


@dataclass(frozen=True, eq=False)
class FileContent:
    """Image files under `root`."""

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        yield lambda index: decode(read_file(self.root / self.names[index], limits), limits)

    def take(self, indices: NDArray[np.int64]) -> FileContent:
        order: list[int] = indices.tolist()
        return FileContent(self.root, [self.names[i] for i in order])


@dataclass(frozen=True, eq=False)
class ZipContent:
    """Entries of a .zip archive, read in place: nothing is ever extracted."""

    path: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        with open_zip(self.path) as archive:
            yield lambda index: decode(read_entry(archive, self.names[index], limits.max_bytes), limits)

    def take(self, indices: NDArray[np.int64]) -> ZipContent:
        order: list[int] = indices.tolist()
        return ZipContent(self.path, [self.names[i] for i in order])


@contextmanager
def open_zip(path: Path) -> Generator[zipfile.ZipFile]:
    """The archive opened for reading; raises UserError when there is none or it is damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise UserError(f"No such file: '{path}'.") from error
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"'{path}' is no readable .zip archive: {error}.") from error
    with archive:
        yield archive


def read_entry(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """The entry's bytes, at most `max_bytes` of them whatever its header says; raises ImageError."""
    try:
        with archive.open(name) as entry:
            data = entry.read(max_bytes + 1)
    except Exception as error:  # zlib.error, BadZipFile, RuntimeError (encrypted), NotImplementedError, ...
        raise ImageError(f"Cannot be read from the archive: {error}.") from error
    if len(data) > max_bytes:
        raise ImageError(f"It unpacks to more than the limit of {max_bytes:,} bytes.")
    return data


def read_file(path: Path, limits: Limits) -> bytes:
    """The bytes of a regular file, at most `limits.max_bytes` of them; raises ImageError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("Not a regular file.")
        if found.st_size > limits.max_bytes:
            raise ImageError(f"{found.st_size:,} bytes are more than the limit of {limits.max_bytes:,}.")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("No such file.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"Cannot be read: {error}.") from error


@dataclass(frozen=True, eq=False)
class ChainContent:
    """Images of several contents: image k is image `index[k]` of `parts[part[k]]`."""

    parts: tuple[Content, ...]
    part: NDArray[np.int64]
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.part)

    def name(self, index: int) -> str:
        return self.parts[int(self.part[index])].name(int(self.index[index]))

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        with ExitStack() as stack:
            readers = [stack.enter_context(part.reader(limits)) for part in self.parts]
            yield lambda index: readers[int(self.part[index])](int(self.index[index]))

    def take(self, indices: NDArray[np.int64]) -> ChainContent:
        return ChainContent(self.parts, self.part[indices], self.index[indices])

    def compact(self) -> Content:
        """The same images without those parts, and without those images of a part, that are not used."""
        used = [int(p) for p in np.unique(self.part)]
        if len(used) == 1:
            return self.parts[used[0]].take(self.index)
        parts: list[Content] = []
        part, index = np.zeros_like(self.part), np.zeros_like(self.index)
        for place, p in enumerate(used):
            mask = self.part == p
            parts.append(self.parts[p].take(self.index[mask]))
            part[mask], index[mask] = place, np.arange(int(mask.sum()))
        return ChainContent(tuple(parts), part, index)
