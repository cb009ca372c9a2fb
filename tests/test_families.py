"""What all families share: the seam, the shared layers, depthwise convolution, products, interpolation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mutant.component import Spec, is_buffer
from mutant.families import apply, build, check_arrays, family_module, initial, layer_class, shapes
from mutant.families.dense import product
from mutant.families.depthwise import depthwise_convolution
from mutant.families.interpolation import interpolation_matrix, resize_grid, resize_stored
from mutant.tasks.errors import UserError

VIT_BLOCK = Spec.of("vit/block", features=24, heads=3, mlp=48, eps=1e-6, gelu="exact", layer_scale=True)
LITE_BLOCK = Spec.of("efficientnet/block", features_in=8, features=8, kernel=5, stride=1, expand=6, eps=1e-3)
ADAPTER = Spec.of("adapter", features=24, width=8)
HEAD = Spec.of("head", classes=5, features=5, features_in=24)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_parameters_of_an_adapter_are_as_in_the_paper() -> None:
    count = sum(int(np.prod(shape)) for shape, _ in shapes(Spec.of("adapter", features=768, width=32)).values())
    assert count == 2 * 768 + 2 * 768 * 32 + 32 + 768 == 51_488


@pytest.mark.parametrize("shape", [(2, 5, 24), (2, 3, 4, 24)])
def test_a_new_adapter_changes_no_bit(shape: tuple[int, ...]) -> None:
    x = rng().standard_normal(shape).astype(np.float32) * 100
    arrays = initial(ADAPTER, rng(1))
    assert np.asarray(apply(ADAPTER, arrays, x)).tobytes() == x.tobytes()
    arrays["up/kernel"] += 0.1
    assert np.abs(np.asarray(apply(ADAPTER, arrays, x)) - x).max() > 0.01


def test_a_new_head_knows_nothing_and_averages_maps() -> None:
    arrays = initial(HEAD, rng())
    x = rng().standard_normal((2, 3, 3, 24)).astype(np.float32)
    assert not np.asarray(apply(HEAD, arrays, x)).any()
    arrays["kernel"] = rng(1).standard_normal((24, 5)).astype(np.float32)
    np.testing.assert_allclose(apply(HEAD, arrays, x), x.mean((1, 2)) @ arrays["kernel"], atol=1e-5)


@pytest.mark.parametrize("spec", [VIT_BLOCK, LITE_BLOCK, ADAPTER, HEAD], ids=str)
def test_initial_arrays_fit_the_layer_and_depend_on_the_generator_alone(spec: Spec) -> None:
    arrays = initial(spec, rng(3))
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == dict(shapes(spec))
    assert all((a == initial(spec, rng(3))[name]).all() for name, a in arrays.items())
    assert list(arrays) == sorted(arrays)
    check_arrays(spec, arrays)
    build(spec)


def test_initial_values_follow_their_conventions() -> None:
    arrays = initial(LITE_BLOCK, rng())
    assert (arrays["expand/norm/var"] == 1).all()
    assert not arrays["expand/norm/mean"].any()
    assert {name for name in arrays if is_buffer(name)} == {
        f"{layer}/norm/{n}" for layer in ("expand", "depthwise", "project") for n in ("mean", "var")
    }
    kernel = initial(Spec.of("adapter", features=512, width=256), rng())["down/kernel"]
    assert kernel.std() == pytest.approx(512**-0.5, rel=0.02)
    assert np.abs(kernel).max() <= 2 * 512**-0.5 / 0.8796 + 1e-6


def test_apply_is_pure_jits_and_differentiates() -> None:
    arrays = initial(VIT_BLOCK, rng())
    x = rng(1).standard_normal((2, 5, 24)).astype(np.float32)
    before = {name: a.copy() for name, a in arrays.items()}

    def loss(values: dict[str, jax.Array]) -> jax.Array:
        return (apply(VIT_BLOCK, values, jnp.asarray(x)) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))({name: jnp.asarray(a) for name, a in arrays.items()})
    assert set(gradient) == set(arrays)
    # softmax ignores what is added to all scores of a row: the key's bias has no gradient
    assert all(np.abs(g).max() > 1e-3 for name, g in gradient.items() if name != "attention/key/bias")
    assert all((a == before[name]).all() for name, a in arrays.items())


def test_unknown_kinds_and_families_are_named() -> None:
    for kind in ("vit/blok", "text/block", "", "nothing"):
        with pytest.raises(UserError, match="No component kind"):
            layer_class(kind)
    with pytest.raises(UserError, match="'vit'"):
        family_module("vits")


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_check_arrays_names_the_array(change: str) -> None:
    arrays = initial(ADAPTER, rng())
    if change == "missing":
        del arrays["up/bias"]
    elif change == "extra":
        arrays["up/bais"] = arrays["up/bias"]
    else:
        arrays["up/bias"] = arrays["up/bias"][:-1]
    with pytest.raises(UserError, match="up/b"):
        check_arrays(ADAPTER, arrays)


def lax_depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def with_gradients(convolution: Any, x: Any, kernel: Any, stride: int, d_out: Any) -> Any:
    """The convolution, and the slopes to its input and its kernel, as one program."""

    def run(x: Any, kernel: Any, d_out: Any) -> Any:
        y, pull = jax.vjp(lambda x, k: convolution(x, k, stride), x, kernel)
        return y, *pull(d_out)

    return jax.jit(run)(x, kernel, d_out)


@pytest.mark.slow
@settings(max_examples=6)
@example(height=9, width=9, side=5, stride=1, seed=0)
@example(height=8, width=8, side=3, stride=2, seed=0)
@example(height=7, width=4, side=5, stride=2, seed=0)
@example(height=4, width=4, side=5, stride=1, seed=0)
@example(height=2, width=2, side=5, stride=1, seed=0)
@example(height=1, width=1, side=3, stride=1, seed=0)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    side=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
)
def test_depthwise_convolution_and_its_gradients_are_those_of_lax(
    height: int, width: int, side: int, stride: int, seed: int
) -> None:
    x = rng(seed).standard_normal((2, height, width, 3)).astype(np.float32)
    kernel = rng(seed + 1).standard_normal((side, side, 3)).astype(np.float32)
    d_out = rng(seed + 2).standard_normal((2, -(-height // stride), -(-width // stride), 3)).astype(np.float32)
    wanted = with_gradients(lax_depthwise, x, kernel, stride, d_out)
    got = with_gradients(depthwise_convolution, x, kernel, stride, d_out)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("sizes", [(3, 7), (7, 3), (4, 4)])
def test_products_gradients_are_those_of_autodiff(sizes: tuple[int, int]) -> None:
    x = rng().standard_normal((2, 5, 6, sizes[0])).astype(np.float32)
    kernel = rng(1).standard_normal(sizes).astype(np.float32)
    wanted, pull_wanted = jax.vjp(lambda x, k: x @ k, jnp.asarray(x), jnp.asarray(kernel))
    got, pull = jax.vjp(product, x, kernel)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    for ours, theirs in zip(pull(got), pull_wanted(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(14, 2), (14, 24), (3, 5), (5, 1), (1, 4)])
def test_bilinear_interpolation_is_scipys_zoom(sizes: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    native, size = sizes
    grid = rng().standard_normal((native, native, 3)).astype(np.float32)
    wanted = ndimage.zoom(grid, (size / native, size / native, 1), order=1)
    embedding = np.concatenate([np.zeros((1, 3), np.float32), grid.reshape(-1, 3)])
    got = np.asarray(resize_grid(jnp.asarray(embedding), native, size, "bilinear"))
    np.testing.assert_allclose(got[1:].reshape(size, size, 3), wanted, atol=1e-5)
    np.testing.assert_allclose(resize_stored(embedding, size, "bilinear"), got, atol=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["bilinear", "bicubic"]))
def test_interpolation_keeps_constants_and_symmetry(native: int, size: int, method: str) -> None:
    matrix = interpolation_matrix(native, size, method)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    if method == "bicubic" or size > 1:
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-5)
    if native == size:
        np.testing.assert_allclose(matrix, np.eye(size), atol=1e-6)


def test_bicubic_interpolation_has_pytorchs_weights() -> None:
    # torch.nn.functional.interpolate(mode="bicubic", align_corners=False) from 4 to 2: halfway between cells
    np.testing.assert_allclose(
        interpolation_matrix(4, 2, "bicubic"), [[0.5, 0.59375, -0.09375, 0], [0, -0.09375, 0.59375, 0.5]], atol=1e-6
    )


def test_unknown_interpolation_and_odd_position_embeddings_are_errors() -> None:
    with pytest.raises(UserError, match="'bilinear'"):
        interpolation_matrix(3, 2, "bilinaer")
    with pytest.raises(UserError, match="square"):
        resize_stored(np.zeros((4, 2), np.float32), 2, "bilinear")
