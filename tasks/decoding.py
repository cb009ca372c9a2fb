"""Decode and hash what a task needs, once, in threads; skip by name what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock

from mutant.tasks.content import Content, Pixels, Reader
from mutant.tasks.errors import UserError, printable
from mutant.tasks.examples import content_hash
from mutant.tasks.images import ImageError
from mutant.tasks.limits import Limits
from mutant.tasks.perceptual import perceptual_hashes, thumbnail
from mutant.tasks.threads import map_indices

SHOWN = 5
BATCH = 1024


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Decoded:
    """A readable image's hashes of content and looks, and its pixels when the budget allows to keep them."""

    hash: str
    looks: bytes
    pixels: Pixels | None


@dataclass(frozen=True, eq=False)
class _Read:
    """A readable image before its looks are hashed, which is done for many at once."""

    hash: str
    thumbnail: bytes
    pixels: Pixels | None


class Budget:
    """Bytes that may still be kept; shared by the decoding threads."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = Lock()

    def take(self, size: int) -> bool:
        """Reserve `size` bytes if so many are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


def decode_all(content: Content, indices: Sequence[int], limits: Limits, budget: Budget) -> list[Decoded | Failure]:
    """For each index the decoded image or its failure, in order."""
    found: list[Decoded | Failure] = []
    with content.reader(limits) as read:
        items = map_indices(lambda index: _decode_one(content, read, index, budget), indices)
        while batch := list(islice(items, BATCH)):
            found += _with_looks(batch)
    return found


def skipped_notes(failures: Sequence[Failure], total: int, limits: Limits) -> tuple[str, ...]:
    """A note of what was skipped. Raises UserError above `limits.max_skipped` of `total`; one image is always allowed,
    if any other was read."""
    if not failures:
        return ()
    shown = "; ".join(f"{printable(f.name)}: {printable(f.reason)}" for f in failures[:SHOWN])
    rest = f"; and {len(failures) - SHOWN:,} more" if len(failures) > SHOWN else ""
    told = f"{len(failures):,} of {total:,} images cannot be read: {shown}{rest}"
    if len(failures) > max(1, int(limits.max_skipped * total)) or len(failures) == total:
        raise UserError(told, hint=f"At most {limits.max_skipped:.0%} are skipped. Repair or remove these files.")
    return ("skipped: " + told,)


def _with_looks(batch: Sequence[_Read | Failure]) -> list[Decoded | Failure]:
    looks = iter(perceptual_hashes([item.thumbnail for item in batch if isinstance(item, _Read)]))
    return [Decoded(item.hash, next(looks), item.pixels) if isinstance(item, _Read) else item for item in batch]


def _decode_one(content: Content, read: Reader, index: int, budget: Budget) -> _Read | Failure:
    try:
        image = read(index)
    except ImageError as error:
        return Failure(content.name(index), str(error))
    return _Read(content_hash(image), thumbnail(image), image if budget.take(image.nbytes) else None)
