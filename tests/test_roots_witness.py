"""The real pretrained roots against independent implementations and known images; skipped where they cannot be had."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from test_families_efficientnet import numpy_efficientnet, outputs

from mutant.checkpoints import read_checkpoint
from mutant.families import apply
from mutant.roots import Root, load_root, registry
from mutant.roots.cache import cache_directory
from mutant.roots.obtain import Trust, obtain
from mutant.tasks.errors import UserError

pytestmark = pytest.mark.slow

CATS = {281, 282, 283, 284, 285}
ESPRESSO = 967


def weights(name: str) -> Path:
    try:
        return obtain(registry()[name], cache_directory(), Trust()).path
    except UserError as error:
        pytest.skip(str(error))


def load(name: str, **settings: Any) -> Root:
    try:
        return load_root(name, **settings)
    except UserError as error:
        pytest.skip(str(error))


def photographs(size: int) -> np.ndarray[Any, Any]:
    """skimage's coffee and chelsea, their centres, at `size` pixels: uint8 [2, size, size, 3]."""
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    images: list[np.ndarray[Any, Any]] = []
    for pixels in (data.coffee(), data.chelsea()):
        image = Image.fromarray(pixels)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        images.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(images)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_lite_knows_coffee_and_cat(name: str) -> None:
    root = load(name)
    logits = outputs(root, photographs(root.native_image_size))
    assert logits[0].argmax() == ESPRESSO
    assert logits[1].argmax() in CATS


@pytest.mark.parametrize("size", [64, 224])
def test_lite0_equals_numpys(size: int) -> None:
    pixels = photographs(size)
    wanted = numpy_efficientnet(read_checkpoint(weights("efficientnet-lite0")), pixels)
    np.testing.assert_allclose(outputs(load("efficientnet-lite0"), pixels), wanted, atol=1e-4)


def onnx_encoder(path: Path) -> Any:
    """The encoder of the ONNX graph, up to its last norm, for any image size."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(str(path))
    last = [node for node in model.graph.node if node.name.startswith("/backbone/layernorm")][-1]
    for name, dimension in zip("hw", model.graph.input[0].type.tensor_type.shape.dim[2:], strict=True):
        dimension.dim_param = name
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_vit_s14_equals_onnxruntime_at_every_size() -> None:
    """Class token and all patch tokens; largest error seen 5e-5 where the values reach 11."""
    encoder = onnx_encoder(weights("vit-s14"))
    info, root = registry()["vit-s14"], load("vit-s14")
    norm = root.parts[-1].component
    for size in (28, 42, 56, 224, info.image_size):
        pixels = photographs(size)
        normalised = (pixels - np.asarray(info.mean)) / np.asarray(info.std)
        (wanted,) = encoder.run(None, {"input_image": normalised.astype(np.float32).transpose(0, 3, 1, 2)})
        x: Any = pixels
        for part in root.parts[:-1]:
            x = jax.jit(apply, static_argnums=0)(part.component.spec, dict(part.component.arrays), x)
        tokens = np.stack([apply(norm.spec, dict(norm.arrays), x[:, i:]) for i in range(0, x.shape[1], 97)], axis=1)
        np.testing.assert_allclose(tokens, wanted[:, ::97], atol=2e-4)


@pytest.mark.parametrize("size", [28, 56])
def test_vit_s14_stored_for_a_small_size_is_the_same(size: int) -> None:
    pixels = photographs(size)
    features: list[Any] = []
    for root in (load("vit-s14"), load("vit-s14", image_size=size)):
        x: Any = pixels
        for part in root.parts:
            x = jax.jit(apply, static_argnums=0)(part.component.spec, dict(part.component.arrays), x)
        features.append(x)
    np.testing.assert_allclose(features[0], features[1], atol=2e-4)
