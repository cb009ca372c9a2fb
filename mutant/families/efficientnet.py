"""EfficientNet-Lite (arXiv 1905.11946, without squeeze-and-excitation): batch norm by running statistics, ReLU6.

Padding is TensorFlow's SAME. A batch norm after a convolution is a change of the convolution's weights, and is computed
so: the gradient then needs no pass over the activations for it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from flax import nnx

from mutant.component import Spec
from mutant.families.chain import Converter, Raw, Slot, take
from mutant.families.common import Layer, normalise
from mutant.families.dense import product
from mutant.families.depthwise import depthwise_convolution, same_padding
from mutant.typed import custom_vjp, jnp, lax


def relu6(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 6). Its gradient looks at what came out, which the next layer keeps anyway: looking at `x`, XLA
    would compute the convolution that x is the sum of a second time."""
    return _relu6(x)


def _clamped(x: jax.Array) -> jax.Array:
    return lax.clamp(0.0, x, 6.0)


def _relu6_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = _clamped(x)
    return y, y


def _relu6_backward(y: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    return (jnp.where((y > 0) & (y < 6), slope, 0.0),)


_relu6 = custom_vjp(_clamped)
_relu6.defvjp(_relu6_forward, _relu6_backward)


class BatchNorm(nnx.Module):
    """Batch norm in inference mode as y = x * factor + shift; `mean` and `var` are buffers, never trained."""

    def __init__(self, features: int, eps: float) -> None:
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))

    def factor_and_shift(self) -> tuple[jax.Array, jax.Array]:
        factor = self.scale[...] * lax.rsqrt(self.var[...] + self.eps)
        return factor, self.bias[...] - self.mean[...] * factor


class Pointwise(nnx.Module):
    """1 x 1 convolution [B, H, W, in] -> [B, H, W, out] and batch norm; the kernel is [in, out]."""

    def __init__(self, features_in: int, features: int, eps: float) -> None:
        self.kernel = nnx.Param(jnp.zeros((features_in, features)))
        self.norm = BatchNorm(features, eps)

    def __call__(self, x: jax.Array) -> jax.Array:
        factor, shift = self.norm.factor_and_shift()
        return product(x, self.kernel[...] * factor) + shift


class Depthwise(nnx.Module):
    """k x k convolution of each channel by itself and batch norm; the kernel is [k, k, C]."""

    def __init__(self, features: int, kernel: int, stride: int, eps: float) -> None:
        self.stride = stride
        self.kernel = nnx.Param(jnp.zeros((kernel, kernel, features)))
        self.norm = BatchNorm(features, eps)

    def __call__(self, x: jax.Array) -> jax.Array:
        factor, shift = self.norm.factor_and_shift()
        return depthwise_convolution(x, self.kernel[...] * factor, self.stride) + shift


class Embedding(Layer):
    """The stem: pixels uint8 [B, S, S, 3] to feature maps [B, S/2, S/2, C]; the kernel is [3, 3, 3, C]."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.mean: tuple[float, ...] = spec["mean"]
        self.std: tuple[float, ...] = spec["std"]
        self.stride: int = spec["stride"]
        side = spec["kernel"]
        self.kernel = nnx.Param(jnp.zeros((side, side, 3, spec["features"])))
        self.norm = BatchNorm(spec["features"], spec["eps"])

    def __call__(self, x: jax.Array) -> jax.Array:
        factor, shift = self.norm.factor_and_shift()
        kernel, pixels = self.kernel[...] * factor, normalise(x, self.mean, self.std)
        padding = [same_padding(size, kernel.shape[0], self.stride) for size in x.shape[1:3]]
        maps = lax.conv_general_dilated(
            pixels, kernel, (self.stride, self.stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return relu6(maps + shift)


class Block(Layer):
    """Inverted bottleneck [B, H, W, in] -> [B, H/stride, W/stride, C], with a skip where the shapes agree."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        features_in, features, expand, eps = (spec[name] for name in ("features_in", "features", "expand", "eps"))
        middle = features_in * expand
        self.expand = Pointwise(features_in, middle, eps) if expand != 1 else None
        self.depthwise = Depthwise(middle, spec["kernel"], spec["stride"], eps)
        self.project = Pointwise(middle, features, eps)
        self.skip = spec["stride"] == 1 and features_in == features

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = relu6(self.expand(x)) if self.expand is not None else x
        maps = self.depthwise(hidden)
        # As rows, which is how the product takes them: in two shapes XLA would compute the convolution twice.
        rows = relu6(maps.reshape(-1, maps.shape[-1]))
        out = self.project(rows).reshape(*maps.shape[:-1], -1)
        return x + out if self.skip else out


class Top(Layer):
    """The last 1 x 1 convolution [B, H, W, in] -> [B, H, W, C], without its norm."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(jnp.zeros((spec["features_in"], spec["features"])))

    def __call__(self, x: jax.Array) -> jax.Array:
        return product(x, self.kernel[...])


class Norm(Layer):
    """The batch norm after `Top`, ReLU6 and the average over space: [B, H, W, C] to features [B, C]."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.norm = BatchNorm(spec["features"], spec["eps"])

    def __call__(self, x: jax.Array) -> jax.Array:
        factor, shift = self.norm.factor_and_shift()
        return relu6(x * factor + shift).mean(axis=(1, 2))


LAYERS: Mapping[str, type[Layer]] = MappingProxyType(
    {
        "efficientnet/embedding": Embedding,
        "efficientnet/block": Block,
        "efficientnet/top": Top,
        "efficientnet/norm": Norm,
    }
)

_STAGES = (  # expansion, kernel, stride, repeats, channels: table 1 of arXiv 1905.11946
    (1, 3, 1, 1, 16),
    (6, 3, 2, 2, 24),
    (6, 5, 2, 2, 40),
    (6, 3, 2, 3, 80),
    (6, 5, 1, 3, 112),
    (6, 5, 2, 4, 192),
    (6, 3, 1, 1, 320),
)


def _round_channels(channels: float, divisor: int = 8) -> int:
    """To a multiple of eight, never by more than a tenth downwards."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _blocks(architecture: Spec) -> list[Spec]:
    """One spec per block; Lite scales the depth of all stages but the first and the last."""
    specs: list[Spec] = []
    features_in: int = architecture["stem"]
    for stage, (expand, kernel, stride, repeats, channels) in enumerate(_STAGES):
        features = _round_channels(channels * architecture["width"])
        ends = stage in (0, len(_STAGES) - 1)
        for repeat in range(repeats if ends else int(np.ceil(repeats * architecture["depth"]))):
            config = {"expand": expand, "kernel": kernel, "stride": 1 if repeat else stride, "eps": architecture["eps"]}
            specs.append(Spec.of("efficientnet/block", features_in=features_in, features=features, **config))
            features_in = features
    return specs


def chain(architecture: Spec, image_size: int) -> tuple[Slot, ...]:
    """All slots of the full depth, the same for every image size.

    The architecture's settings: width and depth (factors), stem, top (channels), eps, mean, std.
    """
    a, blocks = architecture, _blocks(architecture)
    stem = Spec.of(
        "efficientnet/embedding", features=a["stem"], kernel=3, stride=2, eps=a["eps"], mean=a["mean"], std=a["std"]
    )
    top = Spec.of("efficientnet/top", features_in=blocks[-1]["features"], features=a["top"])
    return (
        Slot("embedding", 0, stem),
        *(Slot(f"block_{i:02d}", i + 1, spec) for i, spec in enumerate(blocks)),
        Slot("top", len(blocks), top),
        Slot("norm", len(blocks), Spec.of("efficientnet/norm", features=a["top"], eps=a["eps"])),
    )


def _norm(raw: Raw, ours: str, theirs: str) -> dict[str, np.ndarray[Any, Any]]:
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return {f"{ours}/{a}": take(raw, f"{theirs}.{b}") for a, b in names.items()}


def _pointwise(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[out, in, 1, 1] as [in, out]."""
    return weight[:, :, 0, 0].T


def _from_torch(architecture: Spec, raw: Raw) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """The names of EfficientNet-PyTorch."""
    parts = {
        "embedding": {"kernel": take(raw, "_conv_stem.weight").transpose(2, 3, 1, 0)} | _norm(raw, "norm", "_bn0"),
        "top": {"kernel": _pointwise(take(raw, "_conv_head.weight"))},
        "norm": _norm(raw, "norm", "_bn1"),
    }
    for i, spec in enumerate(_blocks(architecture)):
        theirs = f"_blocks.{i}"
        block = {"depthwise/kernel": take(raw, f"{theirs}._depthwise_conv.weight")[:, 0].transpose(1, 2, 0)}
        block |= _norm(raw, "depthwise/norm", f"{theirs}._bn1") | _norm(raw, "project/norm", f"{theirs}._bn2")
        block["project/kernel"] = _pointwise(take(raw, f"{theirs}._project_conv.weight"))
        if spec["expand"] != 1:
            block["expand/kernel"] = _pointwise(take(raw, f"{theirs}._expand_conv.weight"))
            block |= _norm(raw, "expand/norm", f"{theirs}._bn0")
        parts[f"block_{i:02d}"] = block
    if "_fc.weight" in raw:
        parts["head"] = {"kernel": take(raw, "_fc.weight").T, "bias": take(raw, "_fc.bias")}
    return parts


CONVERTERS: Mapping[str, Converter] = MappingProxyType({"efficientnet-torch": _from_torch})


def fit(spec: Spec, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
    """A source's arrays for `spec`: nothing here depends on the image size."""
    return arrays
