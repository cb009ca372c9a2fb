"""What a source hands over: labelled images under the source's own split names, before anything is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import Content
from mutant.tasks.errors import UserError


@dataclass(frozen=True, eq=False)
class RawSplit:
    """One split of a source: its content and, for each image, an index into the source's class names."""

    name: str
    content: Content
    labels: NDArray[np.int32]

    def __post_init__(self) -> None:
        if len(self.content) != len(self.labels):
            raise UserError(f"Split '{self.name}' has {len(self.content):,} images but {len(self.labels):,} labels.")


@dataclass(frozen=True, eq=False)
class RawTask:
    """All splits of a source, the class names that its labels index, and what is known about it."""

    splits: tuple[RawSplit, ...]
    class_names: tuple[str, ...]
    source_version: str | None = None
    licence: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [split.name for split in self.splits]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"The source has more than one split that means '{twice[0]}'.")


def index_labels(labels: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[NDArray[np.int32]]]:
    """Class names in order and each list of names as indices into them.

    The order is numeric when all names are whole numbers, else by code point.

    >>> index_labels([["10", "9"], ["9"]])[0]
    ('9', '10')
    """
    names = ordered({name for split in labels for name in split})
    place = {name: index for index, name in enumerate(names)}
    return names, [np.array([place[name] for name in split], dtype=np.int32) for split in labels]


def ordered(names: set[str]) -> tuple[str, ...]:
    """Class names in their one order, whatever the file system or hash seed."""
    if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
