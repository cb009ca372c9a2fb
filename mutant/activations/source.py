"""Activations by row: taken from what is kept, computed where they are not. The bits are the same either way."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from mutant.activations.node import Array, Indices, Node, RowLocks
from mutant.activations.views import Rows
from mutant.component import Component, Spec
from mutant.network import BATCH, Tree, on_device, run_in_batches

BLOCK = 256
"""Rows that are computed, and locked, at a time: a multiple of the programs' batch."""


class Source(Protocol):
    """Activations at the top of a prefix for every example of a split: `shape` and `dtype` are of one row."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def take(self, rows: Indices) -> Array:
        """A copy of the activations of `rows` [m, *shape], whatever is kept of them."""
        ...

    def fill(self, most: int) -> int:
        """Compute up to `most` rows that are not kept yet, and keep them; how many there were to compute."""
        ...


class ImageRows:
    """The images themselves, which is what an empty prefix gives."""

    def __init__(self, rows: Rows) -> None:
        self._rows: Rows = rows
        self.shape, self.dtype = (rows.size, rows.size, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Indices) -> Array:
        images: Array = self._rows.take(np.asarray(rows, np.int64))
        return images

    def fill(self, most: int) -> int:
        return 0


class Stack:
    """Sources of the same length one after the other: row `k * n + i` is row i of the k-th."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self.shape, self.dtype = sources[0].shape, sources[0].dtype

    def __len__(self) -> int:
        return sum(map(len, self._sources))

    def take(self, rows: Indices) -> Array:
        places, each = np.divmod(np.asarray(rows, np.int64), len(self._sources[0]))
        values = np.empty((len(each), *self.shape), self.dtype)
        for place, source in enumerate(self._sources):
            here = places == place
            if here.any():
                values[here] = source.take(each[here])
        return values

    def fill(self, most: int) -> int:
        for source in self._sources:
            computed = source.fill(most)
            if computed:
                return computed
        return 0


class Work(Protocol):
    """Hears what was computed, reused, and what could not be kept."""

    computed_rows: int
    reused_rows: int

    def computed(self, seconds: float) -> None: ...

    def trouble(self, error: OSError) -> None: ...


class Layer:
    """What `chain` makes of the rows `below`, kept in `node` where there is one."""

    def __init__(
        self,
        below: Source,
        chain: Sequence[Spec],
        components: Callable[[], Sequence[Component]],
        like: tuple[tuple[int, ...], Any],
        node: tuple[Node, RowLocks] | None,
        work: Work,
    ) -> None:
        self._below, self._chain, self._components, self._work = below, chain, components, work
        self.shape, self.dtype = like
        self._node, self._locks = node if node is not None else (None, None)
        self._arrays: Tree | None = None

    def __len__(self) -> int:
        return len(self._below)

    def take(self, rows: Indices) -> Array:
        rows = np.asarray(rows, np.int64)
        node = self._node
        if node is None:
            return self._compute(rows)
        done = node.done(rows)
        self._work.reused_rows += int(done.sum())
        if done.all():
            return node.read(rows)
        values = np.empty((len(rows), *self.shape), self.dtype)
        values[done] = node.read(rows[done])
        missing, places = np.unique(rows[~done], return_inverse=True)
        values[~done] = self._made(node, missing)[places]
        return values

    def fill(self, most: int) -> int:
        if self._node is None:
            return 0
        missing = self._node.missing()[:most]
        if len(missing):
            self._made(self._node, missing)
        return len(missing)

    def _made(self, node: Node, rows: Indices) -> Array:
        """Rows that were not done a moment ago, in order: ours to compute, or awaited from whoever computes them."""
        assert self._locks is not None
        values = np.empty((len(rows), *self.shape), self.dtype)
        waiting = list[Indices]()
        for start in range(0, len(rows), BLOCK):
            places = np.arange(start, min(start + BLOCK, len(rows)))
            mine = self._claim(node, self._locks, rows[places])
            self._make(node, self._locks, rows, values, places[mine])
            waiting.append(places[~mine])
        for places in waiting:
            for place in places:
                self._locks.wait(node.name, int(rows[place]))
            self._make(node, self._locks, rows, values, places)  # done by now, or its worker was killed
        return values

    def _claim(self, node: Node, locks: RowLocks, rows: Indices) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return locks.claim(node.name, rows) | node.done(rows)

    def _make(self, node: Node, locks: RowLocks, rows: Indices, values: Array, places: Indices) -> None:
        """Set `values` at `places`: read what is done by now, compute and keep the rest."""
        try:
            done = node.done(rows[places])
            values[places[done]] = node.read(rows[places[done]])
            rest = places[~done]
            if len(rest):
                values[rest] = self._compute(rows[rest])
                try:
                    node.write(rows[rest], values[rest])
                except OSError as error:
                    self._work.trouble(error)
        finally:
            locks.release(node.name)

    def _compute(self, rows: Indices) -> Array:
        values = np.empty((len(rows), *self.shape), self.dtype)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            inputs = self._below.take(rows[part])
            if self._chain:
                if self._arrays is None:
                    self._arrays = on_device([component.arrays for component in self._components()])
                started = time.monotonic()
                values[part] = run_in_batches(self._chain, self._arrays, inputs, BATCH)
                self._work.computed(time.monotonic() - started)
            else:
                values[part] = inputs
        self._work.computed_rows += len(rows)
        return values
