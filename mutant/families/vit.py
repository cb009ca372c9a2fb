"""Vision transformers (arXiv 2010.11929): AugReg's (2106.10270), and DINOv2's with LayerScale (2304.07193)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from mutant.component import Spec
from mutant.families.attention import Attention
from mutant.families.chain import Converter, Raw, Slot, take
from mutant.families.common import Initial, Layer, constant, gelu, normalise, zeros
from mutant.families.dense import Dense
from mutant.families.interpolation import resize_grid, resize_stored
from mutant.families.normalisation import LayerNorm
from mutant.tasks.errors import UserError
from mutant.typed import jnp


class Embedding(Layer):
    """Pixels uint8 [B, S, S, 3] to tokens [B, (S/p)^2, C]: patches of p x p pixels, one matrix; S is a multiple of p.

    The kernel is [p * p * 3, C]: row, column, channel.
    """

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.patch: int = spec["patch"]
        self.mean: tuple[float, ...] = spec["mean"]
        self.std: tuple[float, ...] = spec["std"]
        self.projection = Dense(self.patch**2 * 3, spec["features"])

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, _ = x.shape
        p = self.patch
        if height % p or width % p:
            raise ValueError(f"images of {height} x {width} pixels: both must be multiples of the patch, {p}")
        patches = normalise(x, self.mean, self.std).reshape(batch, height // p, p, width // p, p, 3)
        return self.projection(patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, p * p * 3))


class ClassToken(Layer):
    """Tokens [B, T, C] to [B, 1 + T, C], a learned token first."""

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType({"token": zeros})

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.token = nnx.Param(jnp.zeros(spec["features"]))

    def __call__(self, x: jax.Array) -> jax.Array:
        token = jnp.broadcast_to(self.token[...], (x.shape[0], 1, x.shape[2]))
        return jnp.concatenate([token, x], axis=1)


class PositionEmbedding(Layer):
    """Adds a learned embedding [1 + grid^2, C] to tokens [B, 1 + T, C], resized if T is not grid^2 (`resize_grid`)."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.grid: int = spec["grid"]
        self.interpolation: str = spec["interpolation"]
        self.embedding = nnx.Param(jnp.zeros((1 + self.grid**2, spec["features"])))

    def __call__(self, x: jax.Array) -> jax.Array:
        side = round((x.shape[1] - 1) ** 0.5)
        if side * side != x.shape[1] - 1:
            raise ValueError(f"{x.shape[1] - 1} patches: position embeddings are for square images")
        return x + resize_grid(self.embedding[...], self.grid, side, self.interpolation)


class Block(Layer):
    """Pre-norm encoder block on tokens [B, T, C]; `layer_scale` adds DINOv2's learned factor to both residuals.

    `gelu` is `exact` or `tanh`: the approximation that the AugReg models were trained with.
    """

    initials: ClassVar[Mapping[str, Initial]] = MappingProxyType(
        {"attention_scale": constant(1.0), "mlp_scale": constant(1.0)}
    )

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        features, eps = spec["features"], spec["eps"]
        self.approximate: bool = spec["gelu"] == "tanh"
        self.attention_norm = LayerNorm(features, eps)
        self.attention = Attention(features, spec["heads"])
        self.mlp_norm = LayerNorm(features, eps)
        self.up = Dense(features, spec["mlp"])
        self.down = Dense(spec["mlp"], features)
        self.layer_scale: bool = spec["layer_scale"]
        if self.layer_scale:
            self.attention_scale = nnx.Param(jnp.ones(features))
            self.mlp_scale = nnx.Param(jnp.ones(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        attended = self.attention(self.attention_norm(x))
        x = x + (attended * self.attention_scale[...] if self.layer_scale else attended)
        raised = self.up(self.mlp_norm(x))
        hidden = self.down(jax.nn.gelu(raised, approximate=True) if self.approximate else gelu(raised))
        return x + (hidden * self.mlp_scale[...] if self.layer_scale else hidden)


class Norm(Layer):
    """The encoder's last LayerNorm, of the class token alone: [B, 1 + T, C] to features [B, C]."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(spec["features"], spec["eps"])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x[:, 0])


LAYERS: Mapping[str, type[Layer]] = MappingProxyType(
    {
        "vit/embedding": Embedding,
        "vit/class_token": ClassToken,
        "vit/position_embedding": PositionEmbedding,
        "vit/block": Block,
        "vit/norm": Norm,
    }
)


def chain(architecture: Spec, image_size: int) -> tuple[Slot, ...]:
    """All slots of the full depth, the position embedding stored for images of `image_size` pixels.

    The architecture's settings: features, heads, mlp, blocks, patch, eps, gelu, layer_scale, interpolation, mean, std.
    """
    a = architecture
    features, patch = a["features"], a["patch"]
    if image_size < patch or image_size % patch:
        raise UserError(
            f"{image_size} px images do not fit patches of {patch} px.",
            hint=f"Nearest: {max(patch, round(image_size / patch) * patch)} px.",
        )
    block = Spec.of(
        "vit/block",
        **{name: a[name] for name in ("features", "heads", "mlp", "eps", "gelu", "layer_scale")},
    )
    position = Spec.of(
        "vit/position_embedding", features=features, grid=image_size // patch, interpolation=a["interpolation"]
    )
    return (
        Slot("embedding", 0, Spec.of("vit/embedding", features=features, patch=patch, mean=a["mean"], std=a["std"])),
        Slot("class_token", 0, Spec.of("vit/class_token", features=features)),
        Slot("position_embedding", 0, position),
        *(Slot(f"block_{i:02d}", i + 1, block) for i in range(a["blocks"])),
        Slot("norm", 0, Spec.of("vit/norm", features=features, eps=a["eps"])),
    )


Converted = dict[str, dict[str, np.ndarray[Any, Any]]]


def _from_augreg(architecture: Spec, raw: Raw) -> Converted:
    """The names of the JAX checkpoints of arXiv 2106.10270 (.npz); heads have axes of their own there."""
    features = architecture["features"]
    parts: Converted = {
        "embedding": {
            "projection/kernel": take(raw, "embedding/kernel").reshape(-1, features),
            "projection/bias": take(raw, "embedding/bias"),
        },
        "class_token": {"token": take(raw, "cls").reshape(-1)},
        "position_embedding": {
            "embedding": take(raw, "Transformer/posembed_input/pos_embedding").reshape(-1, features)
        },
        "norm": {f"norm/{n}": take(raw, f"Transformer/encoder_norm/{n}") for n in ("scale", "bias")},
    }
    for i in range(architecture["blocks"]):
        parts[f"block_{i:02d}"] = _augreg_block(raw, f"Transformer/encoderblock_{i}", features)
    if "head/kernel" in raw:
        parts["head"] = {"kernel": take(raw, "head/kernel"), "bias": take(raw, "head/bias")}
    return parts


def _augreg_block(raw: Raw, prefix: str, features: int) -> dict[str, np.ndarray[Any, Any]]:
    names = {"attention_norm": "LayerNorm_0", "mlp_norm": "LayerNorm_2"}
    block = {
        f"{ours}/{n}": take(raw, f"{prefix}/{theirs}/{n}") for ours, theirs in names.items() for n in ("scale", "bias")
    }
    for ours, theirs in {"up": "MlpBlock_3/Dense_0", "down": "MlpBlock_3/Dense_1"}.items():
        block |= {f"{ours}/{n}": take(raw, f"{prefix}/{theirs}/{n}") for n in ("kernel", "bias")}
    for name in ("query", "key", "value", "out"):
        theirs = f"{prefix}/MultiHeadDotProductAttention_1/{name}"
        block[f"attention/{name}/kernel"] = take(raw, f"{theirs}/kernel").reshape(features, features)
        block[f"attention/{name}/bias"] = take(raw, f"{theirs}/bias").reshape(features)
    return block


def _patch_kernel(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A convolution's [C, 3, p, p] as the projection's [p * p * 3, C]."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])


def _from_timm(architecture: Spec, raw: Raw) -> Converted:
    """The names of timm and of DINOv2's own files: matrices are [out, in], query, key and value in one."""
    features = architecture["features"]
    parts: Converted = {
        "embedding": {
            "projection/kernel": _patch_kernel(take(raw, "patch_embed.proj.weight")),
            "projection/bias": take(raw, "patch_embed.proj.bias"),
        },
        "class_token": {"token": take(raw, "cls_token").reshape(-1)},
        "position_embedding": {"embedding": take(raw, "pos_embed").reshape(-1, features)},
        "norm": {"norm/scale": take(raw, "norm.weight"), "norm/bias": take(raw, "norm.bias")},
    }
    for i in range(architecture["blocks"]):
        parts[f"block_{i:02d}"] = _timm_block(raw, f"blocks.{i}", layer_scale=architecture["layer_scale"])
    if "head.weight" in raw:
        parts["head"] = {"kernel": take(raw, "head.weight").T, "bias": take(raw, "head.bias")}
    return parts


def _timm_block(raw: Raw, prefix: str, *, layer_scale: bool) -> dict[str, np.ndarray[Any, Any]]:
    block: dict[str, np.ndarray[Any, Any]] = {}
    for ours, theirs in {"attention_norm": "norm1", "mlp_norm": "norm2"}.items():
        block[f"{ours}/scale"] = take(raw, f"{prefix}.{theirs}.weight")
        block[f"{ours}/bias"] = take(raw, f"{prefix}.{theirs}.bias")
    for ours, theirs in {"attention/out": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}.items():
        block[f"{ours}/kernel"] = take(raw, f"{prefix}.{theirs}.weight").T
        block[f"{ours}/bias"] = take(raw, f"{prefix}.{theirs}.bias")
    weights = np.split(take(raw, f"{prefix}.attn.qkv.weight"), 3)
    biases = np.split(take(raw, f"{prefix}.attn.qkv.bias"), 3)
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        block |= {f"attention/{name}/kernel": weight.T, f"attention/{name}/bias": bias}
    if layer_scale:
        block["attention_scale"] = take(raw, f"{prefix}.ls1.gamma")
        block["mlp_scale"] = take(raw, f"{prefix}.ls2.gamma")
    return block


def _from_dinov2_onnx(architecture: Spec, raw: Raw) -> Converted:
    """A DINOv2 encoder exported from PyTorch, its matrices named `NAME.kernel` [in, out] after their biases.

    Its position embedding was folded into two constants without a name, known by their shapes.
    """
    prefix, features = "backbone.encoder.layer", architecture["features"]
    patches = take(raw, "backbone.embeddings.patch_embeddings.projection.weight")
    constants = [a for name, a in raw.items() if name.startswith("onnx::") and a.ndim == 3 and a.shape[-1] == features]
    constants.sort(key=lambda a: a.shape[1])
    if len(constants) != 2 or constants[0].shape[1] != 1:
        raise UserError("The ONNX graph has no position embedding where a DINOv2 export keeps it.")
    parts: Converted = {
        "embedding": {
            "projection/kernel": _patch_kernel(patches),
            "projection/bias": take(raw, "backbone.embeddings.patch_embeddings.projection.bias"),
        },
        "class_token": {"token": take(raw, "backbone.embeddings.cls_token").reshape(-1)},
        "position_embedding": {"embedding": np.concatenate(constants, axis=1)[0].astype(np.float32)},
        "norm": {
            "norm/scale": take(raw, "backbone.layernorm.weight"),
            "norm/bias": take(raw, "backbone.layernorm.bias"),
        },
    }
    linears = {f"attention/{n}": f"attention.attention.{n}" for n in ("query", "key", "value")}
    linears |= {"attention/out": "attention.output.dense", "up": "mlp.fc1", "down": "mlp.fc2"}
    for i in range(architecture["blocks"]):
        block = {f"{a}/{n}": take(raw, f"{prefix}.{i}.{b}.{n}") for a, b in linears.items() for n in ("kernel", "bias")}
        for ours, theirs in {"attention_norm": "norm1", "mlp_norm": "norm2"}.items():
            block[f"{ours}/scale"] = take(raw, f"{prefix}.{i}.{theirs}.weight")
            block[f"{ours}/bias"] = take(raw, f"{prefix}.{i}.{theirs}.bias")
        block["attention_scale"] = take(raw, f"{prefix}.{i}.layer_scale1.lambda1")
        block["mlp_scale"] = take(raw, f"{prefix}.{i}.layer_scale2.lambda1")
        parts[f"block_{i:02d}"] = block
    return parts


CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {"augreg": _from_augreg, "timm": _from_timm, "dinov2-onnx": _from_dinov2_onnx}
)


def fit(spec: Spec, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
    """A source's arrays for `spec`, which may want the position embedding of another image size."""
    if spec.kind != "vit/position_embedding":
        return arrays
    return {"embedding": resize_stored(arrays["embedding"], spec["grid"], spec["interpolation"])}
