"""What a child's training reads: chunks of steps at the top of its frozen prefix, prepared while the device works."""

import math
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from mutant.activations.cache import ActivationCache
from mutant.activations.shown import Shown
from mutant.activations.source import Source
from mutant.assignment import Assignment
from mutant.dataset import Dataset
from mutant.gang import Gang
from mutant.position import derive
from mutant.recorder import Recorder
from mutant.schedule import learning_rates
from mutant.sgd import Chunk
from mutant.shape import Signature

Indices = np.ndarray[Any, np.dtype[np.int64]]

MOST_STEPS = 64
CHUNK_BYTES = 1 << 25
"""A chunk has at most so many steps, and inputs of at most so many bytes (but always one step)."""


def capacity(batch: int, inputs: Signature) -> int:
    """Steps of one chunk: a power of two that depends on shapes alone, so that programs are shared between tasks.

    >>> capacity(32, ((2, 2, 192), "float32")), capacity(512, ((197, 768), "float32"))
    (64, 1)
    """
    shape, dtype = inputs
    step = batch * math.prod(shape) * np.dtype(dtype).itemsize
    return max(1, min(MOST_STEPS, 1 << max(0, (CHUNK_BYTES // step).bit_length() - 1)))


class Feed:
    """What each validation period trains on. Every chunk has one shape; what it has too much of has no weight.

    `waited` counts the seconds in which the training had to wait for its data; the recorder hears when it does. A
    member of a gang gets its own columns of every chunk.
    """

    def __init__(
        self,
        assignment: Assignment,
        dataset: Dataset,
        cache: ActivationCache,
        inputs: Signature,
        recorder: Recorder | None = None,
        gang: Gang | None = None,
    ) -> None:
        training, plan = assignment.training, assignment.blueprint
        self.batch = min(training.batch, len(dataset.train))
        self.per_visit = min(training.examples_per_validation, len(dataset.train))
        self.steps = -(-self.per_visit // self.batch)
        self.visits = training.validations
        self.waited = 0.0
        self._recorder = recorder or Recorder()
        self._capacity = capacity(self.batch, inputs)
        rates = learning_rates(plan.hyperparameters, self.steps * self.visits, self.visits)
        self._rates = rates.reshape(self.visits, self.steps)
        seed = derive(assignment.candidate.seed, "order")
        self._stream = example_stream(seed, len(dataset.train), self.per_visit, self.visits)
        self._labels = dataset.train.labels
        self._shown = Shown(assignment, dataset, cache)
        self._visits: dict[int, tuple[Source, Indices]] = {}
        self._gang = gang

    @property
    def validation(self) -> Source:
        """The validation examples at the top of the frozen prefix."""
        return self._shown.validation

    @contextmanager
    def chunks(self) -> Generator[Iterator[tuple[int, Chunk]]]:
        """(visit, chunk) in order; a thread prepares the next one while the caller works on the last."""
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as ahead:
            try:
                yield self._prepared(ahead)
            finally:
                ahead.shutdown(wait=True, cancel_futures=True)

    def _prepared(self, ahead: ThreadPoolExecutor) -> Iterator[tuple[int, Chunk]]:
        starts = [(visit, start) for visit in range(self.visits) for start in range(0, self.steps, self._capacity)]
        following = ahead.submit(self._chunk, *starts[0])
        for index, (visit, _) in enumerate(starts):
            before = time.monotonic()
            self._recorder.phase("wait")
            chunk = following.result()
            self._recorder.phase("train")
            self.waited += time.monotonic() - before
            if index + 1 < len(starts):
                following = ahead.submit(self._chunk, *starts[index + 1])
            yield visit, chunk

    def _chunk(self, visit: int, start: int) -> Chunk:
        steps = min(self._capacity, self.steps - start)
        rows = self._stream[visit][start * self.batch : (start + steps) * self.batch]
        source, places = self._visit(visit)
        places = places[start * self.batch : (start + steps) * self.batch]
        rates = _filled(self._rates[visit, start : start + steps], (self._capacity,))
        if self._gang is None:
            shape = (self._capacity, self.batch)
            x, y = _filled(source.take(places), shape), _filled(self._labels[rows], shape)
            weights = _filled(np.ones(len(rows), np.float32), shape)
        else:
            own, there = _columns(self._gang, len(rows), self._capacity, self.batch)
            x, y = _spread(source.take(places[own]), there), _spread(self._labels[rows[own]], there)
            weights = there.astype(np.float32)
        return Chunk(x, y, weights, rates, np.int32(steps))

    def _visit(self, visit: int) -> tuple[Source, Indices]:
        """The source of a visit's inputs, and the rows in it of the examples in their order."""
        if visit not in self._visits:
            self._visits = {visit: self._shown.visit(visit, self._stream[visit])}
        return self._visits[visit]


def _filled(values: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """`values` [m, ...] in order in an array [*shape, ...], zeros after them; `values` itself where it is full."""
    if len(values) == math.prod(shape):
        return values.reshape(*shape, *values.shape[1:])
    filled = np.zeros((math.prod(shape), *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled.reshape(*shape, *values.shape[1:])


def _columns(gang: Gang, rows: int, steps: int, batch: int) -> tuple[Indices, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Which of a chunk's `rows` are this member's, and where [steps, its columns] they stand, in the same order."""
    order = np.full(steps * batch, -1, np.int64)
    order[:rows] = np.arange(rows)
    padding = ((0, 0), (0, gang.width(batch) - batch))
    mine = np.pad(order.reshape(steps, batch), padding, constant_values=-1)[:, gang.columns(batch)]
    return mine[mine >= 0], mine >= 0


def _spread(values: np.ndarray[Any, Any], there: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, Any]:
    spread = np.zeros((*there.shape, *values.shape[1:]), values.dtype)
    spread[there] = values
    return spread


def example_stream(seed: int, examples: int, rows: int, visits: int) -> list[Indices]:
    """Which examples are trained on before each of `visits` validations: slices of `rows` from shuffled epochs.

    >>> [sorted(part.tolist()) for part in example_stream(0, 4, 4, 2)]
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    epochs = -(-rows * visits // examples)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(examples) for _ in range(epochs)])
    return [order[i * rows : (i + 1) * rows] for i in range(visits)]
