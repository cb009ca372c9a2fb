"""The components' computation in PyTorch, as its users write it, for `step_torch.py`. PyTorch is imported by name."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mutant.component import Arrays, Spec
from mutant.families.depthwise import same_padding

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

Tensors = Mapping[str, Any]


def to_torch(kind: str, arrays: Arrays) -> dict[str, Any]:
    """A component's arrays in PyTorch's layouts: matrices [out, in], convolutions [out, in, k, k]."""
    return {name: torch.from_numpy(np.array(_layout(kind, name, array), order="C")) for name, array in arrays.items()}


def from_torch(kind: str, name: str, value: Any) -> np.ndarray[Any, Any]:
    """A tensor of `to_torch`'s layout in ours."""
    array = value.detach().numpy()
    if array.ndim == 4:
        return array[:, 0].transpose(1, 2, 0) if name.startswith("depthwise") else array[:, :, 0, 0].T
    return array.T if array.ndim == 2 and not kind.startswith("position") else array


def _layout(kind: str, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 3:
        return array.transpose(2, 0, 1)[:, None]
    if array.ndim == 2 and kind.startswith("efficientnet/"):
        return array.T[:, :, None, None]
    return array.T if array.ndim == 2 else array


def forward(specs: Sequence[Spec], parts: Sequence[Tensors], x: Any) -> Any:
    for spec, part in zip(specs, parts, strict=True):
        x = LAYERS[spec.kind](dict(spec.config), part, x)
    return x


def _linear(part: Tensors, name: str, x: Any) -> Any:
    return functional.linear(x, part[f"{name}/kernel"], part[f"{name}/bias"])


def _layer_norm(part: Tensors, name: str, x: Any, eps: float) -> Any:
    return functional.layer_norm(x, x.shape[-1:], part[f"{name}/scale"], part[f"{name}/bias"], eps)


def _vit_block(config: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    batch, tokens, features = x.shape
    heads = config["heads"]
    h = _layer_norm(part, "attention_norm", x, config["eps"])
    q, k, v = (
        _linear(part, f"attention/{name}", h).view(batch, tokens, heads, -1).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, features)
    attended = _linear(part, "attention/out", mixed)
    x = x + (attended * part["attention_scale"] if config["layer_scale"] else attended)
    h = _linear(part, "up", _layer_norm(part, "mlp_norm", x, config["eps"]))
    h = _linear(part, "down", functional.gelu(h, approximate="tanh" if config["gelu"] == "tanh" else "none"))
    return x + (h * part["mlp_scale"] if config["layer_scale"] else h)


def _vit_norm(config: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    return _layer_norm(part, "norm", x[:, 0], config["eps"])


def _batch_norm(part: Tensors, name: str, x: Any, eps: float) -> Any:
    mean, var, scale, bias = (part[f"{name}/{n}"] for n in ("mean", "var", "scale", "bias"))
    return functional.batch_norm(x, mean, var, scale, bias, training=False, eps=eps)


def _stem(config: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    """Pixels uint8 [B, S, S, 3] to feature maps [B, C, S/2, S/2]."""
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = (x.permute(0, 3, 1, 2).float() - mean) / std
    (top, bottom), (left, right) = (same_padding(size, config["kernel"], config["stride"]) for size in pixels.shape[2:])
    padded = functional.pad(pixels, (left, right, top, bottom))
    h = functional.conv2d(padded, part["kernel"], stride=config["stride"])
    return functional.relu6(_batch_norm(part, "norm", h, config["eps"]))


def _mbconv(config: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    eps, stride, side = config["eps"], config["stride"], config["kernel"]
    h = x
    if config["expand"] != 1:
        h = functional.relu6(_batch_norm(part, "expand/norm", functional.conv2d(x, part["expand/kernel"]), eps))
    (top, bottom), (left, right) = (same_padding(size, side, stride) for size in h.shape[2:])
    padding: Any = 0
    if (top, left) == (bottom, right):
        padding = (top, left)
    else:
        h = functional.pad(h, (left, right, top, bottom))
    kernel = part["depthwise/kernel"]
    h = functional.conv2d(h, kernel, stride=stride, padding=padding, groups=kernel.shape[0])
    h = functional.relu6(_batch_norm(part, "depthwise/norm", h, eps))
    out = _batch_norm(part, "project/norm", functional.conv2d(h, part["project/kernel"]), eps)
    return x + out if stride == 1 and config["features_in"] == config["features"] else out


def _top(_: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    return functional.conv2d(x, part["kernel"])


def _top_norm(config: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    return functional.relu6(_batch_norm(part, "norm", x, config["eps"])).mean(dim=(2, 3))


def _head(_: Mapping[str, Any], part: Tensors, x: Any) -> Any:
    return functional.linear(x, part["kernel"], part["bias"])


LAYERS: Mapping[str, Any] = {
    "vit/block": _vit_block,
    "vit/norm": _vit_norm,
    "efficientnet/embedding": _stem,
    "efficientnet/block": _mbconv,
    "efficientnet/top": _top,
    "efficientnet/norm": _top_norm,
    "head": _head,
}
