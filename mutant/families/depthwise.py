"""Depthwise convolution as a sum of shifted products, forward and backward.

XLA's CPU back end runs a convolution with one group per channel, and above all its gradient, without vectors. Measured on
one core at EfficientNet-Lite0's shapes (batch 16, 64 px): forward 15-100 times faster, gradient 7-100 times faster.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis, (before, after): the odd pixel goes after.

    >>> same_padding(224, 3, 2), same_padding(7, 5, 1)
    ((0, 1), (2, 2))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _windows(x: jax.Array, kernel: int, stride: int, out: tuple[int, int]) -> Iterator[jax.Array]:
    """The kernel^2 shifted views [B, *out, C] of a padded input, row by row."""
    rows, columns = ((n - 1) * stride + 1 for n in out)
    for i in range(kernel):
        for j in range(kernel):
            yield x[:, i : i + rows : stride, j : j + columns : stride]


def _padded(x: jax.Array, kernel: int, stride: int) -> tuple[jax.Array, tuple[int, int]]:
    """The input padded for SAME, and the output's height and width."""
    height, width = x.shape[1:3]
    padding = ((0, 0), same_padding(height, kernel, stride), same_padding(width, kernel, stride), (0, 0))
    return jnp.pad(x, padding), (-(-height // stride), -(-width // stride))


def _weighted_sum(windows: Iterator[jax.Array], taps: jax.Array) -> jax.Array:
    """Sum of windows times taps [kernel^2, C]."""
    terms = [window * tap for window, tap in zip(windows, taps, strict=True)]
    return sum(terms[1:], start=terms[0])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """[B, H, W, C] with kernel [k, k, C] to [B, ceil(H / stride), ceil(W / stride), C], SAME padding."""
    side = kernel.shape[0]
    padded, out = _padded(x, side, stride)
    return _weighted_sum(_windows(padded, side, stride, out), kernel.reshape(side * side, -1))


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_convolution(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], d_out: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    side = kernel.shape[0]
    padded, out = _padded(x, side, stride)
    d_taps = jnp.stack([(window * d_out).sum((0, 1, 2)) for window in _windows(padded, side, stride, out)])
    return _input_gradient(d_out, kernel, stride, (x.shape[1], x.shape[2])), d_taps.reshape(kernel.shape)


def _input_gradient(d_out: jax.Array, kernel: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    """The transposed convolution: d_out spread by the stride, then convolved with the kernel turned by 180 degrees."""
    side = kernel.shape[0]
    pads = [(0, 0, 0)]
    for n_in, n_out in zip(size, d_out.shape[1:3], strict=True):
        before = side - 1 - same_padding(n_in, side, stride)[0]
        pads.append((before, n_in + side - 1 - before - ((n_out - 1) * stride + 1), stride - 1))
    spread = jax.lax.pad(d_out, jnp.zeros((), d_out.dtype), [*pads, (0, 0, 0)])
    return _weighted_sum(_windows(spread, side, 1, size), kernel.reshape(side * side, -1)[::-1])


depthwise_convolution.defvjp(_forward, _backward)
