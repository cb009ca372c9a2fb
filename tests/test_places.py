"""A place of a template computes what its mode needs, and no gradient more."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import conv_chain, vit_chain

from mutant.component import Spec, is_buffer
from mutant.families import initial
from mutant.path import is_block
from mutant.places import place_function
from mutant.template import Mode, Place

MODES = (Mode.FROZEN, Mode.TRAINED, Mode.LOWEST)


def flops(spec: Spec, x: jax.Array, mode: Mode | None) -> float:
    """FLOPs that XLA counts in the compiled forward and backward pass of a place; forward alone without a mode."""
    arrays = initial(spec, np.random.default_rng(0))
    own: Any = {name: array for name, array in arrays.items() if not is_buffer(name)}
    buffers: Any = {name: array for name, array in arrays.items() if is_buffer(name)}
    function = place_function(Place(spec, MODES))
    number = jnp.int32(0 if mode is None else MODES.index(mode))

    def passes(own: Any, x: jax.Array) -> Any:
        if mode is None:
            return function(number, own, buffers, x)
        y, pull = jax.vjp(lambda own, x: function(number, own, buffers, x), own, x)
        return y, pull(y)

    counted: Any = jax.jit(passes).lower(own, x).compile().cost_analysis()
    return float(counted["flops"])


@pytest.mark.slow
@pytest.mark.parametrize(("chain", "shape"), [(vit_chain(1), (8, 5, 16)), (conv_chain(1), (8, 8, 8, 8))])
def test_a_mode_computes_no_gradient_that_it_does_not_need(chain: Any, shape: tuple[int, ...]) -> None:
    spec = next(spec for slot, _, spec in chain if is_block(slot))
    x = jnp.ones(shape, jnp.float32)
    forward, frozen, trained, lowest = (flops(spec, x, mode) for mode in (None, *MODES))
    assert forward < frozen < lowest <= trained, (forward, frozen, lowest, trained)
    weights = trained - frozen
    assert weights > 0.5 * forward, "a frozen place has no gradient of its weights"
