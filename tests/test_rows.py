"""A row's bits depend on nothing but the row: not on its place in a batch, nor on who else is in it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutant import families
from mutant.component import Spec
from mutant.network import BATCH, on_device, run_in_batches, steady, steady_chain
from mutant.serving.programs import Programs
from mutant.serving.served import Loaded

BLOCK = Spec.of("vit/block", features=192, heads=3, mlp=768, eps=1e-6, layer_scale=False, gelu="exact")
CONVOLUTION = Spec.of("efficientnet/block", features_in=24, features=24, expand=6, kernel=5, stride=1, eps=1e-3)


def drawn(spec: Spec, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.02, 0.1, shape).astype(dtype) for name, (shape, dtype) in families.shapes(spec).items()}


@settings(max_examples=12)
@given(
    rows=st.sampled_from([(BLOCK, (tokens, 192)) for tokens in (2, 5, 17, 26)] + [(CONVOLUTION, (5, 5, 24))]),
    seed=st.integers(0, 99),
    n=st.integers(1, 40),
)
def test_rows_come_out_alike_in_any_order(rows: tuple[Spec, tuple[int, ...]], seed: int, n: int) -> None:
    spec, shape = rows
    rng, arrays = np.random.default_rng(seed), on_device([drawn(spec)])
    x = rng.normal(size=(n, *shape)).astype(np.float32)
    order = rng.permutation(n)
    outputs = run_in_batches([spec], arrays, x)
    np.testing.assert_array_equal(run_in_batches([spec], arrays, x[order]), outputs[order])
    np.testing.assert_array_equal(run_in_batches([spec], arrays, x[:1]), outputs[:1])


def test_rows_that_are_computed_otherwise_are_left_empty() -> None:
    """On the CPU back end this is the last of 16 images of 2 tokens; elsewhere there may be none."""
    alike = steady(BLOCK, ((2, 192), "float32"), BATCH)
    assert 1 <= alike <= BATCH
    assert steady_chain((BLOCK, BLOCK), ((2, 192), "float32"), BATCH) == alike


@pytest.mark.parametrize("tokens", [2, 5, 26])
def test_a_server_answers_with_the_same_bits(tokens: int) -> None:
    arrays = on_device([drawn(BLOCK)])
    x = np.random.default_rng(1).normal(size=(BATCH, tokens, 192)).astype(np.float32)
    programs = Programs()
    loaded = Loaded("a block", BLOCK, arrays[0], 0)
    kind = programs.try_out(loaded, x)
    np.testing.assert_array_equal(np.asarray(programs.run(loaded, x)), run_in_batches([BLOCK], arrays, x))
    assert kind.steady == steady(BLOCK, ((tokens, 192), "float32"), BATCH)
