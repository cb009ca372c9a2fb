"""What all families share: the layer's contract, initial values, pixels to floats, the adapter and the head."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from mutant.component import Spec
from mutant.families.dense import Dense, product
from mutant.families.normalisation import LayerNorm
from mutant.typed import jnp, lax

_SQRT_HALF = 0.5**0.5

Initial = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray[Any, Any]]


class Layer(nnx.Module):
    """A component's computation: built from its Spec alone, called on one batch.

    `initials` names the arrays that do not start as `default_initial` says.
    """

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType({})

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        raise NotImplementedError

    def __call__(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError


def zeros(_: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.zeros(shape)


def constant(value: float) -> Initial:
    return lambda _, shape: np.full(shape, value)


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...], *, std: float = 0.02) -> np.ndarray[Any, Any]:
    """Normal of standard deviation `std`, redrawn beyond two of its own."""
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values * std


def lecun_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Truncated normal of variance 1 / fan-in; the fan-in is all axes but the last (Flax's order of axes)."""
    fan_in = max(1, int(np.prod(shape[:-1])))
    return truncated_normal(rng, shape, std=float(fan_in**-0.5) / 0.87962566103423978)


_DEFAULTS: Mapping[str, Initial] = MappingProxyType(
    {"kernel": lecun_normal, "bias": zeros, "scale": constant(1.0), "mean": zeros, "var": constant(1.0)}
)


def default_initial(name: str) -> Initial:
    """
    >>> float(default_initial("norm/scale")(np.random.default_rng(0), (1,))[0])
    1.0
    """
    return _DEFAULTS.get(name.rsplit("/", 1)[-1], truncated_normal)


def normalise(pixels: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 [B, H, W, 3] to float32 `(x - mean) / std`; mean and std are in units of the 0..255 pixel values."""
    scale = np.asarray(std, np.float32)
    return (pixels.astype(jnp.float32) - np.asarray(mean, np.float32)) / scale


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution's cumulative function, by erf as PyTorch has it.

    `jax.nn.gelu` takes erfc, which on a CPU is three times slower forward, and its gradient four.
    """
    return 0.5 * x * (1.0 + lax.erf(x * _SQRT_HALF))


class Adapter(Layer):
    """Residual bottleneck on the last axis: x + Dense(GELU(Dense(LayerNorm(x)))), exactly x until it is trained.

    Tokens [B, T, C] or feature maps [B, H, W, C]. arXiv 1902.00751; in muNet, arXiv 2205.10937, section 3.1.
    """

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType({"up/kernel": zeros})

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        features, width = spec["features"], spec["width"]
        self.norm = LayerNorm(features, 1e-6)
        self.down = Dense(features, width)
        self.up = Dense(width, features)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.up(gelu(self.down(self.norm(x))))


class Head(Layer):
    """Features [B, C] to logits [B, classes]; feature maps [B, H, W, C] are averaged over space first."""

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType({"kernel": zeros})

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(jnp.zeros((spec["features_in"], spec["classes"])))
        self.bias = nnx.Param(jnp.zeros(spec["classes"]))

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim == 4:
            x = x.mean(axis=(1, 2))
        return product(x, self.kernel[...]) + self.bias[...]


class AuxiliaryHead(Layer):
    """What a group emits, [B, ..., C], to logits [B, classes]: the average over tokens or space, LayerNorm, Dense.

    Trained beside the path in interlocking backpropagation, and never part of it.
    """

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType({"kernel": zeros})

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(spec["features_in"], 1e-6)
        self.kernel = nnx.Param(jnp.zeros((spec["features_in"], spec["classes"])))
        self.bias = nnx.Param(jnp.zeros(spec["classes"]))

    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = x.mean(axis=tuple(range(1, x.ndim - 1)))
        return product(self.norm(pooled), self.kernel[...]) + self.bias[...]


LAYERS: Mapping[str, type[Layer]] = MappingProxyType(
    {"adapter": Adapter, "head": Head, "auxiliary_head": AuxiliaryHead}
)
