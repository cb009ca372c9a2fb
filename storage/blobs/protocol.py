"""A blob store: bytes under the digest of their content, beside the database whose rows name them.

A blob is written before the transaction whose rows name it, and deleted after the one that dropped them, so that
whatever is killed leaves nothing but loose blobs. A system has a part of the store to itself, named by its own key.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from mutant.tasks.errors import UserError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-f]{16}")


class Blobs(Protocol):
    """One system's blobs. Whatever goes wrong with the place itself raises UserError."""

    @property
    def where(self) -> str:
        """The place, for messages."""
        ...

    def prepare(self) -> None:
        """Make the place ready for the first blob, and check that it can be written."""
        ...

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data`, whole or not at all, and for good once this returns; takes the place of what was there."""
        ...

    def get(self, digest: str) -> bytes | None:
        """What is there, whatever it is; None when nothing is."""
        ...

    def size(self, digest: str) -> int | None:
        """Bytes of what is there; None when nothing is."""
        ...

    def names(self) -> Iterator[tuple[str, int]]:
        """Names and sizes of all blobs, and of writes that were broken off; nothing else that may lie there."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete what `names` told; what is gone already is no error."""
        ...

    def clear(self) -> None:
        """Delete all of the system's part: the system was not made after all."""
        ...


def blob_name(digest: str) -> str:
    """A blob's name in the store, in a folder of its first two digits. Raises ValueError for what is no digest.

    >>> blob_name("ab" * 32)[:9]
    'ab/ababab'
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:80]!r} is no digest of weights")
    return f"{digest[:2]}/{digest}"


def checked_key(key: str) -> str:
    """The name of a system's own part of a store; raises ValueError for what cannot be one."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is no key of a blob store")
    return key


def keep(data: bytes, digest: str, blobs: Blobs) -> None:
    """Keep a blob unless the very same bytes are there; what a torn write or damage left is written again."""
    if blobs.size(digest) != len(data) or blobs.get(digest) != data:
        blobs.put(digest, data)


def loose(blobs: Blobs, named: Collection[str]) -> dict[str, int]:
    """Names and bytes of what lies in the store though no row names it."""
    return {name: size for name, size in blobs.names() if name.rpartition("/")[2] not in named}


def no_space(where: str) -> UserError:
    return UserError(
        f"There is no space left for the weights in '{where}'; nothing was half written.",
        hint="Free some space there; then: mutant resume",
    )


def gone(where: str) -> UserError:
    return UserError(
        f"The weights of this system lie in '{where}', and that is not there.",
        hint="Was the database moved or copied without it? Put it back beside it; then: mutant verify",
    )
