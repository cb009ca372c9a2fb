"""Frozen-prefix activations: what a child shares below its first trainable part is computed once per example."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


class PrefixCache:
    """Activations of frozen prefixes by (data key, component digests), least recently used dropped beyond a budget.

    A deeper prefix is extended from the deepest shallower one at hand. Programs run at one fixed batch shape and
    components do not fuse, so what comes from the cache is bit for bit what would be computed without it.
    """

    def __init__(self, budget_bytes: int = 1 << 30) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self.computed_rows = 0
        self._held: OrderedDict[PrefixKey, Activations] = OrderedDict()

    def activations(self, prefix: Prefix, components: Mapping[str, Component], split: Split) -> Activations:
        """Outputs of the prefix for every example of `split` [n, ...]; the images themselves for an empty prefix."""
        if not len(prefix):
            return split.images
        key = (split.key, prefix.digests)
        if key not in self._held:
            self._keep(key, self._extend(prefix, components, split))
        self._held.move_to_end(key)
        return self._held[key]

    def _extend(self, prefix: Prefix, components: Mapping[str, Component], split: Split) -> Activations:
        start, inputs = self._deepest(prefix, split)
        arrays = on_device([components[digest].arrays for digest in prefix.digests[start:]])
        self.computed_rows += len(split)
        return run_in_batches(prefix.chain[start:], arrays, inputs, BATCH)

    def _deepest(self, prefix: Prefix, split: Split) -> tuple[int, Activations]:
        for length in range(len(prefix) - 1, 0, -1):
            held = self._held.get((split.key, prefix.digests[:length]))
            if held is not None:
                return length, held
        return 0, split.images

    def _keep(self, key: PrefixKey, activations: Activations) -> None:
        activations.flags.writeable = False
        self._held[key] = activations
        self.held_bytes += activations.nbytes
        while self.held_bytes > self.budget_bytes and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self.held_bytes -= dropped.nbytes
