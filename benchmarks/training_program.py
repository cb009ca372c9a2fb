"""This project's own training program, run on a suffix of `suffixes.py` as a worker runs it."""

import os
import sys
from typing import Any

import numpy as np

from mutant import backend

STEPS = 16
"""Steps in one call of the program."""


def with_worker_environment() -> None:
    """Start this script again with the environment of a worker: it must be there before the process is."""
    wanted = backend.worker_environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


class TrainingProgram:
    """A suffix's weights and momentum on the device; `run` goes on from where the last call ended."""

    def __init__(self, suffix: Any) -> None:
        import jax.numpy as jnp
        from suffixes import BATCH, EXAMPLES

        from mutant.network import on_device
        from mutant.sgd import State, epoch_program

        parts = range(len(suffix.specs))
        values = on_device([suffix.trained(i) for i in parts])
        self._program = epoch_program(suffix.specs)
        self._rest = on_device([suffix.fixed(i) for i in parts])
        self._state = State(values, [{n: jnp.zeros_like(a) for n, a in part.items()} for part in values])
        self._data = jnp.asarray(suffix.x), jnp.asarray(suffix.y)
        self._rows = np.arange(EXAMPLES, dtype=np.int32).reshape(-1, BATCH)

    def run(self, count: int) -> None:
        """`count` steps, waited for."""
        for start in range(0, count, STEPS):
            self._state, losses = self._call(min(STEPS, count - start), 1e-3)
            losses.block_until_ready()

    def first_step(self) -> tuple[float, Any]:
        """The loss and the clipped gradient (part by part, by array name) at the first weights."""
        state, losses = self._call(1, 0.0)
        return float(losses[0]), state.momentum

    def _call(self, count: int, rate: float) -> Any:
        import jax.numpy as jnp

        from mutant.sgd import Steps

        rows = self._rows[np.arange(count) % len(self._rows)]
        steps = Steps(rows, np.ones(rows.shape, np.float32), np.full(count, rate, np.float32))
        return self._program(self._state, self._rest, *self._data, steps, jnp.float32(0.9), jnp.asarray(False))
