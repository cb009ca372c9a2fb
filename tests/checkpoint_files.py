"""Checkpoints as other programs write them, made without those programs."""

import io
import pickle  # noqa: TID251 - only to write what other programs write
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Tensor:
    def __init__(self, array: np.ndarray[Any, Any], key: str) -> None:
        self.array, self.key = array, key


class _Storage:
    def __init__(self, tensor: _Tensor) -> None:
        self.tensor = tensor


@contextmanager
def _fake_torch() -> Iterator[types.ModuleType]:
    """Modules `torch` and `torch._utils` with the names that a stream mentions."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    for kind in _KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, torch: types.ModuleType, *, legacy: bool) -> None:
        super().__init__(file, 2)
        self.torch, self.legacy = torch, legacy

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        tensor = obj.tensor
        kind = getattr(self.torch, _KINDS[tensor.array.dtype.name])
        return ("storage", kind, tensor.key, "cpu", tensor.array.size, *([None] if self.legacy else []))

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, _Tensor):
            return NotImplemented
        strides = tuple(s // obj.array.itemsize for s in obj.array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (_Storage(obj), 0, obj.array.shape, strides, False, OrderedDict())


def _stream(value: object, torch: types.ModuleType, *, legacy: bool) -> bytes:
    file = io.BytesIO()
    _Pickler(file, torch, legacy=legacy).dump(value)
    return file.getvalue()


def torch_bytes(arrays: Mapping[str, np.ndarray[Any, Any]], *, legacy: bool, extra: object = None) -> bytes:
    """What `torch.save` writes for a state dict, in the old stream or the zip format."""
    state: Any = OrderedDict(
        (name, _Tensor(np.ascontiguousarray(a), str(i))) for i, (name, a) in enumerate(arrays.items())
    )
    tensors: list[_Tensor] = list(state.values())
    state._metadata = OrderedDict(version=1)
    if extra is not None:
        state["extra"] = extra
    with _fake_torch() as torch:
        index = _stream(state, torch, legacy=legacy)
    if not legacy:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model/data.pkl", index)
            archive.writestr("model/byteorder", "little")
            for tensor in tensors:
                archive.writestr(f"model/data/{tensor.key}", tensor.array.tobytes())
        return file.getvalue()
    system = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    heads = [pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, system)]
    keys = pickle.dumps([tensor.key for tensor in tensors], 2)
    raw = b"".join(struct.pack("<q", tensor.array.size) + tensor.array.tobytes() for tensor in tensors)
    return b"".join(heads) + index + keys + raw


def npz_bytes(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def vit_numbers(
    rng: np.random.Generator, features: int, blocks: int, mlp: int, grid: int, patch: int
) -> dict[str, Any]:
    """A random ViT under timm's names (matrices [out, in]); every array differs from its neutral value."""

    def normal(*shape: int, scale: float = 0.1, shift: float = 0.0) -> np.ndarray[Any, Any]:
        return (shift + scale * rng.standard_normal(shape)).astype(np.float32)

    c = features
    raw = {
        "cls_token": normal(1, 1, c),
        "pos_embed": normal(1, 1 + grid * grid, c),
        "patch_embed.proj.weight": normal(c, 3, patch, patch, scale=0.05),
        "patch_embed.proj.bias": normal(c),
        "norm.weight": normal(c, shift=1),
        "norm.bias": normal(c),
        "head.weight": normal(7, c),
        "head.bias": normal(7),
    }
    for i in range(blocks):
        raw |= {
            f"blocks.{i}.norm1.weight": normal(c, shift=1),
            f"blocks.{i}.norm1.bias": normal(c),
            f"blocks.{i}.attn.qkv.weight": normal(3 * c, c),
            f"blocks.{i}.attn.qkv.bias": normal(3 * c),
            f"blocks.{i}.attn.proj.weight": normal(c, c),
            f"blocks.{i}.attn.proj.bias": normal(c),
            f"blocks.{i}.norm2.weight": normal(c, shift=1),
            f"blocks.{i}.norm2.bias": normal(c),
            f"blocks.{i}.mlp.fc1.weight": normal(mlp, c),
            f"blocks.{i}.mlp.fc1.bias": normal(mlp),
            f"blocks.{i}.mlp.fc2.weight": normal(c, mlp),
            f"blocks.{i}.mlp.fc2.bias": normal(c),
        }
    return raw


def augreg_names(timm: Mapping[str, np.ndarray[Any, Any]], heads: int) -> dict[str, np.ndarray[Any, Any]]:
    """The same numbers under the names and shapes of the AugReg .npz files."""
    c = timm["norm.weight"].shape[0]
    raw = {
        "cls": timm["cls_token"],
        "Transformer/posembed_input/pos_embedding": timm["pos_embed"],
        "embedding/kernel": timm["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": timm["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": timm["norm.weight"],
        "Transformer/encoder_norm/bias": timm["norm.bias"],
        "head/kernel": timm["head.weight"].T,
        "head/bias": timm["head.bias"],
    }
    for i in range(sum(name.endswith("norm1.weight") for name in timm)):
        ours, theirs = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        for a, b in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            raw |= {f"{ours}/{a}/scale": timm[f"{theirs}.{b}.weight"], f"{ours}/{a}/bias": timm[f"{theirs}.{b}.bias"]}
        for a, b in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            raw[f"{ours}/MlpBlock_3/{a}/kernel"] = timm[f"{theirs}.mlp.{b}.weight"].T
            raw[f"{ours}/MlpBlock_3/{a}/bias"] = timm[f"{theirs}.mlp.{b}.bias"]
        attention = f"{ours}/MultiHeadDotProductAttention_1"
        for j, name in enumerate(("query", "key", "value")):
            weight = timm[f"{theirs}.attn.qkv.weight"][j * c : (j + 1) * c]
            raw[f"{attention}/{name}/kernel"] = weight.T.reshape(c, heads, c // heads)
            raw[f"{attention}/{name}/bias"] = timm[f"{theirs}.attn.qkv.bias"][j * c : (j + 1) * c].reshape(heads, -1)
        raw[f"{attention}/out/kernel"] = timm[f"{theirs}.attn.proj.weight"].T.reshape(heads, c // heads, c)
        raw[f"{attention}/out/bias"] = timm[f"{theirs}.attn.proj.bias"]
    return raw


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
