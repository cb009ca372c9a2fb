"""Frozen-prefix activations: what a child shares below its first trainable part is computed once per example."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutant.byte_cache import ByteCache
from mutant.component import Component, Spec
from mutant.dataset import Split
from mutant.network import BATCH, on_device, run_in_batches

Activations = np.ndarray[Any, Any]
PrefixKey = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Prefix:
    """The frozen parts at the bottom of a child: specs and component digests, bottom first."""

    chain: tuple[Spec, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chain)


@dataclass(frozen=True)
class Source:
    """Activations at the top of a prefix for every example of a split [n, ...]."""

    values: Activations

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray[Any, Any]) -> Activations:
        return self.values[rows]


class PrefixCache:
    """Activations of frozen prefixes by (data key, component digests), least recently used dropped beyond a budget.

    A deeper prefix is extended from the deepest shallower one at hand. Programs run at one fixed batch shape and
    components do not fuse, so what comes from the cache is bit for bit what would be computed without it.
    """

    def __init__(self, budget_bytes: int = 1 << 30) -> None:
        self.computed_rows = 0
        self._held: ByteCache[PrefixKey, Activations] = ByteCache(budget_bytes, lambda held: held.nbytes)

    @property
    def held_bytes(self) -> int:
        return self._held.held_bytes

    def source(self, prefix: Prefix, components: Mapping[str, Component], split: Split) -> Source:
        return Source(self.activations(prefix, components, split))

    def activations(self, prefix: Prefix, components: Mapping[str, Component], split: Split) -> Activations:
        """Outputs of the prefix for every example of `split` [n, ...]; the images themselves for an empty prefix."""
        if not len(prefix):
            return split.images
        return self._held.get((split.key, prefix.digests), lambda: self._extend(prefix, components, split))

    def _extend(self, prefix: Prefix, components: Mapping[str, Component], split: Split) -> Activations:
        start, inputs = self._deepest(prefix, split)
        arrays = on_device([components[digest].arrays for digest in prefix.digests[start:]])
        self.computed_rows += len(split)
        outputs = run_in_batches(prefix.chain[start:], arrays, inputs, BATCH)
        outputs.flags.writeable = False
        return outputs

    def _deepest(self, prefix: Prefix, split: Split) -> tuple[int, Activations]:
        for length in range(len(prefix) - 1, 0, -1):
            key = (split.key, prefix.digests[:length])
            if key in self._held:
                return length, self._held.get(key, lambda: split.images)
        return 0, split.images
