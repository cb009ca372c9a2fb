"""How a family's components follow each other, and how it reads its own weights out of published files. No JAX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mutant.component import Spec
from mutant.tasks.errors import UserError

Raw = Mapping[str, np.ndarray[Any, Any]]
"""A checkpoint's arrays under the names of its source."""


@dataclass(frozen=True)
class Slot:
    """One place of a family's chain. `depth`: the number of blocks that a path must have for the slot to be in it."""

    name: str
    depth: int
    spec: Spec


Converted = Mapping[str, Raw]
"""Slot name to array name to value."""

Converter = Callable[[Spec, Raw], Converted]
"""(architecture, checkpoint) to arrays by slot; slot `head` if the source has a classifier. Raises `UserError`."""


class Family(Protocol):
    """What a family's file offers beside its `LAYERS`."""

    CONVERTERS: Mapping[str, Converter]

    def chain(self, architecture: Spec, image_size: int) -> tuple[Slot, ...]:
        """All slots of the full depth; what depends on the image's size is stored for `image_size` pixels."""
        ...

    def fit(self, spec: Spec, arrays: Raw) -> Raw:
        """A source's arrays of one slot as `spec` wants them (position embeddings of another image size)."""
        ...


def take(raw: Raw, name: str) -> np.ndarray[Any, Any]:
    """A checkpoint's array as float32, or `UserError` when it has none of that name or it holds no finite numbers."""
    if name not in raw:
        raise UserError(f"The checkpoint has no array {name!r}.", hint="Is it a file of another model?")
    array = np.asarray(raw[name], dtype=np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"The checkpoint's array {name!r} holds values that are not finite.")
    return array
