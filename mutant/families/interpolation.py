"""Position embeddings for another image size: constant interpolation matrices, made once per pair of grids."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mutant.tasks.errors import UserError, unknown
from mutant.typed import jnp, lax


def _linear(position: float, size: int) -> np.ndarray[Any, Any]:
    """Weights [size] of the linear interpolation at `position`, in units of cells, within 0 .. size - 1."""
    return np.maximum(0.0, 1.0 - np.abs(np.arange(size) - position))


def _cubic(position: float, size: int, a: float = -0.75) -> np.ndarray[Any, Any]:
    """Weights [size] of Keys' cubic convolution; cells beyond the edge repeat the edge's."""
    weights = np.zeros(size)
    base = int(np.floor(position))
    for cell in range(base - 1, base + 3):
        d = abs(position - cell)
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        weights[min(max(cell, 0), size - 1)] += near if d <= 1 else far
    return weights


@lru_cache(maxsize=256)
def interpolation_matrix(native: int, size: int, method: str) -> np.ndarray[Any, Any]:
    """float32 [size, native] that resizes one axis.

    `bilinear` keeps the corners in place, as the AugReg code does (scipy.ndimage.zoom, order 1); `bicubic` takes pixel
    centres at half cells and a = -0.75, as DINOv2 does in PyTorch.

    >>> interpolation_matrix(3, 2, "bilinear").tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if method == "bilinear":
        step = (native - 1) / (size - 1) if size > 1 else 0.0
        rows = [_linear(i * step, native) for i in range(size)]
    elif method == "bicubic":
        rows = [_cubic((i + 0.5) * native / size - 0.5, native) for i in range(size)]
    else:
        raise unknown("interpolation", method, ("bilinear", "bicubic"))
    matrix = np.stack(rows).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def resize_grid(embedding: jax.Array, native: int, size: int, method: str) -> jax.Array:
    """Position embeddings [1 + native^2, C] to [1 + size^2, C]; the first row, the class token's, is kept."""
    if native == size:
        return embedding
    matrix = interpolation_matrix(native, size, method)
    cells = embedding[1:].reshape(native, native, -1)
    resized = jnp.einsum("yi,ijc,xj->yxc", matrix, cells, matrix, precision=lax.Precision.HIGHEST)
    return jnp.concatenate([embedding[:1], resized.reshape(size * size, -1)])


def resize_stored(embedding: np.ndarray[Any, Any], grid: int, method: str) -> np.ndarray[Any, Any]:
    """A stored position embedding [1 + n^2, C] for another grid, as `resize_grid` computes it."""
    native = round((embedding.shape[0] - 1) ** 0.5)
    if native * native != embedding.shape[0] - 1 or native == 0:
        raise UserError(f"A position embedding for {embedding.shape[0] - 1} patches is not one of a square image.")
    if native == grid:
        return embedding
    matrix = interpolation_matrix(native, grid, method)
    cells = embedding[1:].reshape(native, native, -1)
    resized = np.einsum("yi,ijc,xj->yxc", matrix, cells, matrix, optimize=True)
    return np.concatenate([embedding[:1], resized.reshape(grid * grid, -1)]).astype(np.float32)
