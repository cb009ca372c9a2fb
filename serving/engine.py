"""Answers for a batch of requests of any mix of tasks: every component runs once on the rows that need it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from mutant.serving.ladder import pieces
from mutant.serving.programs import Programs, padded
from mutant.serving.served import Loaded, Served
from mutant.serving.trie import Node, grow

Array = np.ndarray[Any, Any]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Job:
    """Images for which each of `paths` is asked. `images`: image size (pixels) to uint8 [n, S, S, 3], every size of the
    paths being there with the same n."""

    paths: tuple[Served, ...]
    images: Mapping[int, Array]

    @property
    def rows(self) -> int:
        """Number of images."""
        return len(next(iter(self.images.values())))


@dataclass
class Work:
    """Forward FLOPs of a batch: `needed` by each task if it were computed by itself, and `spent` on it, where a
    component that several tasks ask of one image is split among them. Padding is not counted."""

    needed: dict[str, float] = field(default_factory=dict[str, float])
    spent: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, task: str, needed: float, spent: float) -> None:
        self.needed[task] = self.needed.get(task, 0.0) + needed
        self.spent[task] = self.spent.get(task, 0.0) + spent


Logits = Mapping[str, Array]
"""Version to float32 [n, classes]."""


def run(jobs: Sequence[Job], programs: Programs) -> tuple[list[Logits], Work]:
    """The logits of every job, in order, to the bit as if each had been computed alone, and the work it took."""
    paths = list({path.version: path for job in jobs for path in job.paths}.values())
    place = {path.version: index for index, path in enumerate(paths)}
    work = Work()
    outputs: list[dict[str, Array]] = [{} for _ in jobs]
    for size, nodes in grow(paths).items():
        asking = [(number, job) for number, job in enumerate(jobs) if size in job.images]
        *starts, rows = accumulate((job.rows for _, job in asking), initial=0)
        wanted: Bools = np.zeros((len(paths), rows), dtype=bool)
        for (_, job), start in zip(asking, starts, strict=True):
            for path in job.paths:
                if path.image_size == size:
                    wanted[place[path.version], start : start + job.rows] = True
        batch = _Batch(paths, wanted, programs, work)
        batch.walk(nodes, np.arange(rows), np.concatenate([job.images[size] for _, job in asking]))
        for (number, job), start in zip(asking, starts, strict=True):
            for path in job.paths:
                if path.image_size == size:
                    asked, logits = batch.logits[place[path.version]]
                    first = int(np.searchsorted(asked, start))
                    outputs[number][path.version] = logits[first : first + job.rows]
    return list(outputs), work


class _Batch:
    """The rows of one image size on their way through the trie. `wanted` [paths, rows] says who asks what."""

    def __init__(self, paths: Sequence[Served], wanted: Bools, programs: Programs, work: Work) -> None:
        self._paths, self._wanted, self._programs, self._work = paths, wanted, programs, work
        self.logits: dict[int, tuple[Array, Array]] = {}

    def walk(self, nodes: Sequence[Node], rows: Array, inputs: Array) -> None:
        """Run `nodes` on what lies below them: `inputs` [k, ...] of the rows with the numbers `rows` [k], ascending."""
        for node in nodes:
            users = self._wanted[list(node.paths)][:, rows]
            needed = users.any(axis=0)
            if not needed.any():
                continue
            mine = rows[needed]
            outputs, flops = chain(node.chain, inputs if needed.all() else inputs[needed], self._programs)
            self._account(node.paths, users[:, needed], flops)
            for end in node.ends:
                asked = self._wanted[end][mine]
                self.logits[end] = (mine[asked], outputs[asked])
            self.walk(node.children, mine, outputs)

    def _account(self, paths: Sequence[int], users: Bools, flops: float) -> None:
        """Note what a node took: `users` [paths, rows] asked for it, at `flops` a row."""
        shares = users / users.sum(axis=0)
        for index, needed, spent in zip(paths, users.sum(axis=1), shares.sum(axis=1), strict=True):
            if needed:
                self._work.add(self._paths[index].task.name, flops * float(needed), flops * float(spent))


def chain(components: Sequence[Loaded], inputs: Array, programs: Programs) -> tuple[Array, float]:
    """What a chain of components emits for `inputs` [n, ...], computed in the shapes of the ladder, and its forward
    FLOPs for a row."""
    outputs: list[Array] = []
    start, flops = 0, 0.0
    for size in pieces(len(inputs), programs.ladder):
        rows = min(size, len(inputs) - start)
        x: Any = padded(inputs[start : start + rows], size)
        for loaded in components:
            flops += 0.0 if start else programs.flops(loaded, x.shape[1:])
            x = programs.run(loaded, x)
        outputs.append(np.asarray(x)[:rows])
        start += rows
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs), flops
