"""This project's own training program, run on a suffix of `suffixes.py` as a worker runs it."""

import os
import sys
import time
from typing import Any

import numpy as np

from mutant import backend

STEPS = 64
"""Steps in one call of the program."""


def with_worker_environment() -> None:
    """Start this script again with the environment of a worker: it must be there before the process is."""
    wanted = backend.worker_environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


class TrainingProgram:
    """A suffix's weights and momentum on the device; `run` goes on from where the last call ended."""

    def __init__(self, suffix: Any) -> None:
        from support.suffixes import BATCH

        from mutant.sgd import Child, training_program
        from mutant.state import initial_state
        from mutant.template import fitted

        self._fitted = fitted(suffix.assignment.blueprint)
        self._program = training_program(self._fitted.template)
        self._state, self._buffers = initial_state(suffix.assignment, self._fitted)
        self._child = Child(self._fitted.numbers, self._fitted.trained, np.float32(0.9), np.bool_(False))
        rows = np.arange(STEPS * BATCH) % len(suffix.y)
        self._x = suffix.x[rows].reshape(STEPS, BATCH, *suffix.x.shape[1:])
        self._y = suffix.y[rows].reshape(STEPS, BATCH)

    def run(self, count: int) -> None:
        """`count` steps, waited for."""
        for start in range(0, count, STEPS):
            self._call(min(STEPS, count - start), 1e-3).block_until_ready()

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so many seconds of this process, 8 at least: a call allocates its buffers once."""
        self.run(1)
        started = time.process_time()
        self.run(2)
        each = (time.process_time() - started) / 2
        return max(8, STEPS * round(seconds / each / STEPS) or round(seconds / each))

    def first_step(self) -> tuple[float, Any]:
        """The loss and the clipped gradient (part by part, by array name) at the first weights."""
        from mutant.state import parts_of

        losses = self._call(1, 0.0)
        gradient = parts_of(self._fitted, self._state.momentum)
        return float(losses[0]), [{name: np.array(array) for name, array in part.items()} for part in gradient]

    def _call(self, count: int, rate: float) -> Any:
        from mutant.sgd import Chunk

        weights, rates = np.ones(self._y.shape, np.float32), np.full(STEPS, rate, np.float32)
        chunk = Chunk(self._x, self._y, weights, rates, np.int32(count))
        self._state, losses = self._program(self._state, self._buffers, self._child, chunk)
        return losses
