"""EfficientNet-Lite against an independent NumPy implementation, from generated torch files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoint_files import torch_bytes, write

from mutant.component import Spec
from mutant.families import apply, initial
from mutant.roots import Root, layout, load_root

COUNTS = [
    896,
    5136,
    8832,
    13472,
    26240,
    32080,
    83200,
    83200,
    106304,
    170240,
    170240,
    224160,
    476160,
    476160,
    476160,
    605440,
]
REPEATS = (1, 2, 2, 3, 3, 4, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
CHANNELS = (16, 24, 40, 80, 112, 192, 320)
Arrays = Mapping[str, np.ndarray[Any, Any]]


def numpy_convolution(x: Any, weight: Any, stride: int, groups: int) -> Any:
    """[B, C, H, W] with [O, C / groups, k, k], SAME padding as TensorFlow has it, one output cell at a time."""
    batch, channels, height, width = x.shape
    out_channels, _, side, _ = weight.shape
    rows, columns = -(-height // stride), -(-width // stride)
    totals = [max((n - 1) * stride + side - size, 0) for n, size in ((rows, height), (columns, width))]
    x = np.pad(x, [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in totals)])
    out = np.zeros((batch, out_channels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            y, z = row * stride, column * stride
            patch = x[:, :, y : y + side, z : z + side]
            if groups == channels:
                out[:, :, row, column] = np.einsum("bcij,cij->bc", patch, weight[:, 0])
            else:
                out[:, :, row, column] = np.einsum("bcij,ocij->bo", patch, weight)
    return out


def numpy_efficientnet(raw: Arrays, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """EfficientNet-Lite0 in float64 from EfficientNet-PyTorch's names: images [B, S, S, 3] to logits."""
    w = {name: a.astype(np.float64) for name, a in raw.items()}

    def norm(x: Any, name: str) -> Any:
        scale, bias, mean, var = (
            w[f"{name}.{n}"][:, None, None] for n in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-3) * scale + bias

    def relu6(x: Any) -> Any:
        return np.clip(x, 0, 6)

    x = ((pixels.astype(np.float64) - 127) / 128).transpose(0, 3, 1, 2)
    x = relu6(norm(numpy_convolution(x, w["_conv_stem.weight"], 2, 1), "_bn0"))
    number = 0
    for repeats, stride, channels in zip(REPEATS, STRIDES, CHANNELS, strict=True):
        for repeat in range(repeats):
            b, step, y = f"_blocks.{number}", 1 if repeat else stride, x
            if number:
                y = relu6(norm(numpy_convolution(y, w[f"{b}._expand_conv.weight"], 1, 1), f"{b}._bn0"))
            y = numpy_convolution(y, w[f"{b}._depthwise_conv.weight"], step, y.shape[1])
            y = norm(numpy_convolution(relu6(norm(y, f"{b}._bn1")), w[f"{b}._project_conv.weight"], 1, 1), f"{b}._bn2")
            x = x + y if step == 1 and x.shape[1] == channels else y
            number += 1
    x = relu6(norm(numpy_convolution(x, w["_conv_head.weight"], 1, 1), "_bn1")).mean((2, 3))
    return x @ w["_fc.weight"].T + w["_fc.bias"]


def generated() -> dict[str, np.ndarray[Any, Any]]:
    """Lite0's arrays under EfficientNet-PyTorch's names, with norms that matter."""
    rng = np.random.default_rng(0)
    raw: dict[str, np.ndarray[Any, Any]] = {}

    def convolution(name: str, *shape: int) -> None:
        fan_in = int(np.prod(shape[1:]))
        raw[f"{name}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)

    def norm(name: str, channels: int) -> None:
        values = {"weight": (1.0, 0.1), "bias": (0.1, 0.3), "running_mean": (0.0, 0.2), "running_var": (1.0, 0.1)}
        for n, (centre, spread) in values.items():
            raw[f"{name}.{n}"] = rng.normal(centre, spread, channels).astype(np.float32)
        raw[f"{name}.num_batches_tracked"] = np.array(1, np.int64)

    convolution("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    before, number = 32, 0
    for repeats, side, channels in zip(REPEATS, KERNELS, CHANNELS, strict=True):
        for _ in range(repeats):
            b, middle = f"_blocks.{number}", before * 6 if number else before
            if number:
                convolution(f"{b}._expand_conv", middle, before, 1, 1)
                norm(f"{b}._bn0", middle)
            convolution(f"{b}._depthwise_conv", middle, 1, side, side)
            norm(f"{b}._bn1", middle)
            convolution(f"{b}._project_conv", channels, middle, 1, 1)
            norm(f"{b}._bn2", channels)
            before, number = channels, number + 1
    convolution("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    raw |= {"_fc.weight": rng.normal(0, 0.05, (9, 1280)).astype(np.float32), "_fc.bias": np.ones(9, np.float32)}
    return raw


def outputs(root: Root, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    assert root.head is not None
    x: Any = pixels
    for component in [part.component for part in root.parts] + [root.head]:
        x = jax.jit(apply, static_argnums=0)(component.spec, dict(component.arrays), x)
    return np.asarray(x)


@pytest.mark.parametrize("size", [32, pytest.param(45, marks=pytest.mark.slow)])
@pytest.mark.parametrize("legacy", [True, False])
def test_lite0_forward_equals_numpys(size: int, legacy: bool, tmp_path: Path) -> None:
    raw = generated()
    root = load_root("efficientnet-lite0", file=write(tmp_path / "lite0.pth", torch_bytes(raw, legacy=legacy)))
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    wanted = numpy_efficientnet(raw, pixels)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(outputs(root, pixels), wanted, atol=1e-4)


def test_golden_counts_of_lite0(tmp_path: Path) -> None:
    root = load_root("efficientnet-lite0", file=write(tmp_path / "lite0.pth", torch_bytes(generated(), legacy=True)))
    counts = {part.slot: part.component.n_parameters for part in root.parts}
    assert [counts.pop(f"block_{i:02d}") for i in range(16)] == COUNTS
    assert counts == {"embedding": 928, "top": 409_600, "norm": 2_560}


def test_fewer_blocks_have_no_top_and_no_norm() -> None:
    slots = layout("efficientnet-lite0", blocks=15)
    assert [slot.name for slot in slots if slot.name in ("top", "norm")] == []
    assert [slot.depth for slot in layout("efficientnet-lite0")[-3:]] == [16, 16, 16]
    assert slots[-1].spec["features"] == 192


@pytest.mark.slow
def test_a_head_fits_on_any_depth_and_adapters_on_any_block() -> None:
    rng = np.random.default_rng(0)
    x: Any = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for slot in layout("efficientnet-lite0", blocks=4):
        x = apply(slot.spec, initial(slot.spec, rng), x)
        adapter = Spec.of("adapter", features=slot.spec["features"], width=8)
        assert (np.asarray(apply(adapter, initial(adapter, rng), x)) == np.asarray(x)).all()
    head = Spec.of("head", classes=3, features=3, features_in=slot.spec["features"])
    assert apply(head, initial(head, rng), x).shape == (2, 3)
