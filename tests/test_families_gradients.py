"""Gradients that are written out against those of plain formulas by autodiff."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mutant.families.attention import mix
from mutant.families.common import gelu
from mutant.families.dense import product
from mutant.families.normalisation import LayerNorm

Formula = Callable[..., jax.Array]
SHAPES = [(1, 1), (2, 1), (3, 5)]


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def assert_same_gradients(ours: Formula, plain: Formula, arguments: list[jax.Array]) -> None:
    (weights,) = drawn(0, jax.eval_shape(plain, *arguments).shape)

    def summed(formula: Formula) -> Any:
        everything = tuple(range(len(arguments)))
        return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(formula(*a) * weights), everything))(*arguments)

    (value, gradients), (expected, plain_gradients) = summed(ours), summed(plain)
    assert float(value) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)
    for gradient, reference in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=2e-3, atol=2e-4)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    layer = LayerNorm(x.shape[-1], 1e-6)
    layer.scale[...], layer.bias[...] = scale, bias
    return layer(x)


def flax_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    layer: Any = nnx.LayerNorm(x.shape[-1], epsilon=1e-6, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = scale, bias
    return layer(x)


@pytest.mark.parametrize(("rows", "tokens"), SHAPES)
def test_layer_norm(rows: int, tokens: int) -> None:
    x, scale, bias = drawn(1, (rows, tokens, 24), (24,), (24,))
    assert_same_gradients(layer_norm, flax_norm, [x, scale, bias])
    np.testing.assert_array_equal(jax.jit(layer_norm)(x, scale, bias), jax.jit(flax_norm)(x, scale, bias))


@pytest.mark.parametrize(("heads", "tokens"), SHAPES)
def test_attention(heads: int, tokens: int) -> None:
    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        scores = jnp.einsum("bhtd,bhsd->bhts", query, key) / np.sqrt(query.shape[-1])
        return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), value)

    assert_same_gradients(mix, plain, drawn(2, *[(2, heads, tokens, 8)] * 3))


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3)])
def test_product(leading: tuple[int, ...]) -> None:
    arguments = drawn(3, (*leading, 5), (5, 2))
    assert_same_gradients(product, lambda x, kernel: x @ kernel, arguments)


def test_gelu_is_exact() -> None:
    x = jnp.linspace(-6, 6, 1001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), rtol=1e-5, atol=1e-6)
    assert_same_gradients(gelu, lambda x: jax.nn.gelu(x, approximate=False), [x])
