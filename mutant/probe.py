"""A new head that starts from a linear probe in closed form, instead of from zeros.

Fine-tuning from a probed head changes the features less than from a random one and reaches more (arXiv 2202.10054).
Ridge regression of the one-hot labels on standardized features; its penalty, and the factor that makes scores to
logits, are those of the least cross-entropy on a fifth of the rows that is held out.
"""

import importlib
from functools import lru_cache
from typing import Any

import numpy as np

from mutant import backend
from mutant.typed import jnp, xla

Floats = np.ndarray[Any, np.dtype[np.float32]]
Labels = np.ndarray[Any, np.dtype[np.int32]]

importlib.import_module("scipy.linalg")  # loads the OpenBLAS that solves, whose threads can be limited by then
threadpool_limits: Any = importlib.import_module("threadpoolctl").threadpool_limits

MOST_ROWS = 8_192
"""Examples that a probe is fitted to, evenly from all: more of them change a ridge regression little."""
ROWS = 512
HELD_OUT = 5
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Multiples of the mean variance, which is 1."""
FACTORS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)


def probe_rows(examples: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The examples that a probe of a split of this size is fitted to."""
    return np.arange(0, examples, -(-examples // MOST_ROWS), dtype=np.int64)


def probed_head(features: Floats, labels: Labels, classes: int) -> dict[str, Floats]:
    """`kernel` [F, classes] and `bias` [classes] of a head for `features` [n, F], or [n, H, W, F], which are averaged.

    On a CPU, XLA has OpenBLAS solve, whose last bits depend on its threads, and those on the cores that the process may
    use: here it has one. Raises FloatingPointError for features that are not finite.
    """
    with threadpool_limits(1, "blas"):
        return _head(features, labels, classes)


def _head(features: Floats, labels: Labels, classes: int) -> dict[str, Floats]:
    x = features.mean(axis=(1, 2)) if features.ndim == 4 else features
    if not np.isfinite(x).all():
        raise FloatingPointError("the features of a probe are not finite")
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.maximum(x.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    x = (x - mean) / spread
    shares: Floats = (np.bincount(labels, minlength=classes) / len(labels)).astype(np.float32)
    targets: Floats = np.eye(classes, dtype=np.float32)[labels] - shares
    held = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    penalty, factor = PENALTIES[2], FACTORS[3]
    if held.any():
        penalty, factor = _chosen(x, targets, labels, held, shares)
    weights = factor * np.asarray(_solving()(*_moments(x, targets), np.float32(penalty)))
    kernel = weights / spread[:, None]
    bias = factor * shares - (mean[:, None] * kernel).sum(axis=0)
    return {"kernel": kernel, "bias": bias.astype(np.float32)}


def _chosen(
    x: Floats, targets: Floats, labels: Labels, held: np.ndarray[Any, Any], shares: Floats
) -> tuple[float, float]:
    """The penalty and the factor of the least cross-entropy on the rows that are held out."""
    moments = _moments(x[~held], targets[~held])
    found: list[tuple[float, float, float]] = []
    for penalty in PENALTIES:
        scores = _scores(x[held], _solving()(*moments, np.float32(penalty))) + shares
        found += [(_cross_entropy(factor * scores, labels[held]), penalty, factor) for factor in FACTORS]
    return min(found)[1:]


def _cross_entropy(logits: Floats, labels: Labels) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(labels)), labels].mean(dtype=np.float64))


def _moments(x: Floats, targets: Floats) -> tuple[Any, Any]:
    """Averages of x xᵀ and x tᵀ, summed in chunks of one shape so that one program serves all tasks of a width."""
    gram, cross = jnp.zeros((x.shape[1], x.shape[1])), jnp.zeros((x.shape[1], targets.shape[1]))
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        gram, cross = _adding()(gram, cross, _full(x[rows]), _full(targets[rows]))
    return gram / len(x), cross / len(x)


def _scores(x: Floats, weights: Any) -> Floats:
    starts = range(0, len(x), ROWS)
    chunks = [np.asarray(_product()(_full(x[start : start + ROWS]), weights)) for start in starts]
    return np.concatenate(chunks)[: len(x)]


def _full(rows: Floats) -> Floats:
    return np.pad(rows, ((0, ROWS - len(rows)), (0, 0)))


@lru_cache(maxsize=1)
def _adding() -> Any:
    backend.keep_compiled_programs()

    def add(gram: Any, cross: Any, x: Any, t: Any) -> Any:
        return gram + x.T @ x, cross + x.T @ t

    return xla.jit(add)


@lru_cache(maxsize=1)
def _product() -> Any:
    backend.keep_compiled_programs()
    return xla.jit(jnp.matmul)


@lru_cache(maxsize=1)
def _solving() -> Any:
    backend.keep_compiled_programs()

    def solve(gram: Any, cross: Any, penalty: Any) -> Any:
        factor = xla.scipy.linalg.cho_factor(gram + penalty * jnp.eye(len(gram)))
        return xla.scipy.linalg.cho_solve(factor, cross)

    return xla.jit(solve)
