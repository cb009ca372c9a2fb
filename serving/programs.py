"""The compiled programs of serving: each kind of component in every batch shape of the ladder that gives right bits.

Right are the bits of the reference shape, that of `mutant predict`, of validation and of golden outputs
(`network.BATCH`). Whether another shape gives the same ones depends on the machine and XLA's version, so it is tried
at start, with the component's own weights.

A kind goes with the last path that uses it: one that is served, an older version that was kept, or one that a request
still asks. A server below which tasks evolve again does not gather the programs of all that ever came.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from mutant.component import Spec
from mutant.network import BATCH, forget_programs, program, run_in_batches, steady
from mutant.serving.ladder import rungs
from mutant.serving.served import Loaded, Served

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of component for rows of one shape: its programs by number of rows, rising, its FLOPs for a row, the
    shape of what it emits for one, and how many rows of the reference shape have right bits (`network.steady`)."""

    programs: Mapping[int, Any]
    flops: float
    emits: tuple[int, ...]
    steady: int = BATCH

    def fitting(self, rows: int) -> int:
        """The smallest shape that holds `rows` rows, else the largest."""
        return next((rung for rung in self.programs if self.holds(rung) >= rows), max(self.programs, key=self.holds))

    def holds(self, rung: int) -> int:
        """The rows of a shape that have right bits: all of them but in the reference shape."""
        return self.steady if rung == BATCH else rung


class Programs:
    """All compiled programs. One thread at a time prepares paths; any other may run what is prepared.

    `most`: rows of the largest shape.
    """

    def __init__(self, most: int = BATCH) -> None:
        self.ladder = rungs(most)
        self._kinds: WeakValueDictionary[tuple[Spec, tuple[int, ...]], Kind] = WeakValueDictionary()
        self._used: WeakKeyDictionary[Served, tuple[Kind, ...]] = WeakKeyDictionary()

    def prepare(self, path: Served) -> None:
        """Compile a path's programs and see which of them are right; what is known already is passed.

        They are kept as long as `path` is.
        """
        inputs, kinds = _probe(path.image_size), list[Kind]()
        for loaded in path.chain:
            kinds.append(self.try_out(loaded, inputs))
            inputs = np.asarray(kinds[-1].programs[BATCH](loaded.arrays, inputs))
        self._used[path] = tuple(kinds)

    def try_out(self, loaded: Loaded, inputs: Array) -> Kind:
        """Compile a component's programs for rows like `inputs` [BATCH, ...], unless that was done before.

        They are kept as long as what this returns is.
        """
        key = (loaded.spec, inputs.shape[1:])
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._tried(loaded, inputs)
            forget_programs(loaded.spec)  # those that were called to try them: a kind has its own
        return kind

    def _tried(self, loaded: Loaded, inputs: Array) -> Kind:
        forward: Any = program(loaded.spec)
        lowered = forward.lower(loaded.arrays, inputs)
        reference = lowered.compile()
        outputs = run_in_batches([loaded.spec], [loaded.arrays], inputs)
        found = {BATCH: reference} | dict(self._right(loaded, inputs, outputs))
        alike = steady(loaded.spec, (inputs.shape[1:], inputs.dtype.name), BATCH)
        analysis: Mapping[str, float] = lowered.cost_analysis() or {}
        return Kind(dict(sorted(found.items())), float(analysis.get("flops", 0.0)) / BATCH, outputs.shape[1:], alike)

    def _right(self, loaded: Loaded, inputs: Array, outputs: Array) -> Iterator[tuple[int, Any]]:
        for rung in self.ladder:
            if rung == BATCH or steady(loaded.spec, (inputs.shape[1:], inputs.dtype.name), rung) < rung:
                continue
            size = -(-BATCH // rung) * rung
            rows, expected = (np.resize(values, (size, *values.shape[1:])) for values in (inputs, outputs))
            forward: Any = program(loaded.spec)
            compiled = forward.lower(loaded.arrays, rows[:rung]).compile()
            found = [np.asarray(compiled(loaded.arrays, rows[at : at + rung])) for at in range(0, size, rung)]
            if np.concatenate(found).tobytes() == expected.tobytes():
                yield rung, compiled

    def flops(self, loaded: Loaded, row: tuple[int, ...]) -> float:
        """Forward FLOPs of a component for one row of this shape."""
        return self._kinds[loaded.spec, row].flops

    def path_flops(self, path: Served) -> tuple[float, ...]:
        """Forward FLOPs of each component of a path for one image."""
        row: tuple[int, ...] = (path.image_size, path.image_size, 3)
        found: list[float] = []
        for loaded in path.chain:
            kind = self._kinds[loaded.spec, row]
            found.append(kind.flops)
            row = kind.emits
        return tuple(found)

    def run(self, loaded: Loaded, x: Any) -> Any:
        """What a component emits for a batch whose shape is on the ladder: in this shape, if its bits are right there.

        Raises KeyError for a kind that was not prepared.
        """
        rows = x.shape[0]
        kind = self._kinds[loaded.spec, x.shape[1:]]
        shape = kind.fitting(rows)
        most = kind.holds(shape)
        if shape == rows == most:
            return kind.programs[rows](loaded.arrays, x)
        inputs = np.asarray(x)
        parts = [inputs[start : start + most] for start in range(0, rows, most)]
        outputs = [np.asarray(kind.programs[shape](loaded.arrays, padded(part, shape)))[: len(part)] for part in parts]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    @property
    def refused(self) -> int:
        """How many pairs of a kind and a shape of the ladder are not used, because their bits differ."""
        return sum(len(set(self.ladder) - kind.programs.keys()) for kind in list(self._kinds.values()))

    def __len__(self) -> int:
        return sum(len(kind.programs) for kind in list(self._kinds.values()))


def padded(rows: Array, size: int) -> Array:
    """Rows [n, ...] as [size, ...]: the last one is repeated."""
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _probe(image_size: int) -> Array:
    """Random images uint8 [BATCH, S, S, 3]."""
    return np.random.default_rng(0).integers(0, 256, (BATCH, image_size, image_size, 3), dtype=np.uint8)
