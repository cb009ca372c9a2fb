"""The ViT family against an independent NumPy forward, and the golden parameter counts of the papers."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoint_files import augreg_names, npz_bytes, vit_numbers, write

from mutant.component import Spec, is_buffer
from mutant.families import apply, shapes
from mutant.roots import layout, load_root, registry
from mutant.tasks.errors import UserError

FEATURES, HEADS, BLOCKS, CLASSES = 192, 3, 12, 7


def count(spec: Spec) -> int:
    return sum(math.prod(shape) for name, (shape, _) in shapes(spec).items() if not is_buffer(name))


@pytest.mark.parametrize(("name", "golden"), [("vit-ti16", 444_864), ("vit-b16", 7_087_872), ("vit-l16", 12_596_224)])
def test_golden_counts_of_blocks(name: str, golden: int) -> None:
    assert {count(slot.spec) for slot in layout(name) if slot.name.startswith("block")} == {golden}


@pytest.mark.parametrize(
    ("name", "blocks", "image_size", "golden"),
    [("vit-ti16", 3, 32, 1_484_162), ("vit-b16", None, 32, 85_652_738), ("vit-l16", None, 224, 303_303_682)],
)
def test_golden_counts_with_two_classes(name: str, blocks: int | None, image_size: int, golden: int) -> None:
    slots = layout(name, blocks=blocks, image_size=image_size)
    head = Spec.of("head", classes=2, features=2, features_in=slots[-1].spec["features"])
    assert sum(count(slot.spec) for slot in slots) + count(head) == golden


@pytest.mark.parametrize("name", registry())
def test_every_root_states_its_own_count(name: str) -> None:
    info, slots = registry()[name], layout(name)
    assert sum(count(slot.spec) for slot in slots) == info.parameters
    assert sum(slot.name.startswith("block") for slot in slots) == info.blocks
    assert max(slot.depth for slot in slots) == info.blocks


def norm(x: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def gelu(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def numpy_vit(raw: Mapping[str, np.ndarray[Any, Any]], pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """AugReg ViT in float64 from timm's names, written from the paper: images [B, S, S, 3] to logits."""
    w = {name: a.astype(np.float64) for name, a in raw.items()}
    batch, size = pixels.shape[:2]
    images = pixels / 127.5 - 1
    kernel = w["patch_embed.proj.weight"]
    tokens = [
        np.einsum("bhwc,ochw->bo", images[:, y : y + 16, x : x + 16], kernel) + w["patch_embed.proj.bias"]
        for y in range(0, size, 16)
        for x in range(0, size, 16)
    ]
    x = np.stack([np.broadcast_to(w["cls_token"][0, 0], (batch, FEATURES)), *tokens], axis=1) + w["pos_embed"]
    for i in range(BLOCKS):
        b = f"blocks.{i}."
        y = norm(x, w[b + "norm1.weight"], w[b + "norm1.bias"]) @ w[b + "attn.qkv.weight"].T + w[b + "attn.qkv.bias"]
        mixed = []
        for head in range(HEADS):
            at = [slice(j * FEATURES + head * 64, j * FEATURES + head * 64 + 64) for j in range(3)]
            q, k, v = (y[..., s] for s in at)
            scores = np.exp(np.einsum("btd,bsd->bts", q, k) / 8)
            mixed.append(np.einsum("bts,bsd->btd", scores / scores.sum(-1, keepdims=True), v))
        x = x + np.concatenate(mixed, -1) @ w[b + "attn.proj.weight"].T + w[b + "attn.proj.bias"]
        y = norm(x, w[b + "norm2.weight"], w[b + "norm2.bias"]) @ w[b + "mlp.fc1.weight"].T + w[b + "mlp.fc1.bias"]
        x = x + gelu(y) @ w[b + "mlp.fc2.weight"].T + w[b + "mlp.fc2.bias"]
    return norm(x, w["norm.weight"], w["norm.bias"])[:, 0] @ w["head.weight"].T + w["head.bias"]


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray[Any, Any]]:
    return vit_numbers(np.random.default_rng(0), FEATURES, BLOCKS, 4 * FEATURES, 14, 16)


@pytest.fixture(scope="module")
def timm_file(numbers: dict[str, np.ndarray[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.numpy import save

    return write(tmp_path_factory.mktemp("roots") / "model.safetensors", save(numbers))


def test_augreg_forward_equals_numpys(numbers: dict[str, np.ndarray[Any, Any]], timm_file: Path) -> None:
    root = load_root("vit-ti16", file=timm_file)
    assert root.head is not None
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    x: Any = pixels
    for component in [part.component for part in root.parts] + [root.head]:
        x = jax.jit(apply, static_argnums=0)(component.spec, dict(component.arrays), x)
    wanted = numpy_vit(numbers, pixels)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(x, wanted, atol=2e-4)


def test_npz_and_timm_files_give_the_same_components(
    numbers: dict[str, np.ndarray[Any, Any]], timm_file: Path, tmp_path: Path
) -> None:
    npz = write(tmp_path / "Ti_16.npz", npz_bytes(augreg_names(numbers, HEADS)))
    ours, theirs = load_root("vit-ti16", file=npz), load_root("vit-ti16", file=timm_file)
    assert [part.slot for part in ours.parts] == [part.slot for part in theirs.parts]
    assert [part.component.digest for part in ours.parts] == [part.component.digest for part in theirs.parts]
    assert ours.head == theirs.head
    assert ours.sha256 != theirs.sha256


def test_another_image_size_at_load_or_in_the_layer_is_the_same_function(timm_file: Path) -> None:
    native = load_root("vit-ti16", file=timm_file, blocks=1)
    small = load_root("vit-ti16", file=timm_file, blocks=1, image_size=32)
    assert small.native_image_size == 32
    assert small.parts[2].component.arrays["embedding"].shape == (5, FEATURES)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    outputs: list[Any] = []
    for root in (native, small):
        x: Any = pixels
        for part in root.parts:
            x = apply(part.component.spec, dict(part.component.arrays), x)
        outputs.append(x)
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


def test_a_prefix_of_the_blocks(timm_file: Path) -> None:
    root = load_root("vit-ti16", file=timm_file, blocks=2)
    slots = ["embedding", "class_token", "position_embedding", "block_00", "block_01", "norm"]
    assert [part.slot for part in root.parts] == slots
    assert [part.depth for part in root.parts] == [0, 0, 0, 1, 2, 0]
    assert root.head is None


@pytest.mark.parametrize(("size", "nearest"), [(30, "32 px"), (8, "16 px")])
def test_sizes_that_do_not_fit_the_patches(size: int, nearest: str) -> None:
    with pytest.raises(UserError, match=nearest):
        layout("vit-ti16", image_size=size)


def test_a_file_of_another_vit_is_refused(tmp_path: Path) -> None:
    numbers = vit_numbers(np.random.default_rng(0), 48, BLOCKS, 96, 14, 16)
    path = write(tmp_path / "w.npz", npz_bytes(augreg_names(numbers, 3)))
    with pytest.raises(UserError, match="vit-ti16"):
        load_root("vit-ti16", file=path)
