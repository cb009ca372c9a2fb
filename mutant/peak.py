"""The rate that this process could reach: large matrix products, against which all else here is held."""

import time
from dataclasses import dataclass

from mutant import backend
from mutant.typed import jnp, xla

SECONDS = 1.0


@dataclass(frozen=True)
class Peak:
    """Measured floating-point operations per second of one large product in `dtype` on `device`."""

    flops_per_second: float
    dtype: str
    device: str
    size: int


def measured_peak(seconds: float = SECONDS) -> Peak:
    """The best rate of a square product within `seconds`: float32 on a CPU, as everything here is computed there;
    bfloat16 on GPU and TPU, whose matrix units are made for it.

    A product of two n x n matrices counts 2 n^3. The best of many short trials counts, on a CPU in CPU time, so that
    neighbours disturb little; that is the rate of one thread.
    """
    on_cpu = xla.default_backend() == "cpu"
    size, dtype = (1024, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    clock = time.process_time if on_cpu else time.perf_counter
    product = xla.jit(jnp.matmul)
    matrix = jnp.ones((size, size), dtype)
    product(matrix, matrix).block_until_ready()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until or best == float("inf"):
        started = clock()
        product(matrix, matrix).block_until_ready()
        best = min(best, clock() - started)
    return Peak(2 * size**3 / best, jnp.dtype(dtype).name, backend.describe(), size)
