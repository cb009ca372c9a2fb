"""The compiled program that trains a suffix: SGD with momentum, whole epochs on the device."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mutant import backend
from mutant.component import Spec
from mutant.network import Tree, forward

CLIP_NORM = 1.0


class State(NamedTuple):
    """Trainable values and their momentum, slot by slot; frozen slots hold empty mappings."""

    values: Tree
    momentum: Tree


class Steps(NamedTuple):
    """What each of n steps takes: rows int32 [n, batch] of the data, their weights [n, batch], learning rates [n]."""

    rows: Any
    weights: Any
    rates: Any


@lru_cache(maxsize=256)
def epoch_program(chain: tuple[Spec, ...]) -> Callable[..., Any]:
    """(state, rest, x, y, steps, momentum, nesterov) to (state, losses): a scan over the steps.

    Compiled once per structure of the suffix and of what is trained in it: rates, momentum and data are arrays.
    """
    backend.keep_compiled_programs()

    def loss(values: Tree, rest: Tree, x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        logits = forward(chain, merged(values, rest), x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    def epoch(
        state: State, rest: Tree, x: jax.Array, y: jax.Array, steps: Steps, momentum: jax.Array, nesterov: jax.Array
    ) -> tuple[State, jax.Array]:
        def step(state: State, now: Steps) -> tuple[State, jax.Array]:
            rows = now.rows
            value, gradient = jax.value_and_grad(loss)(state.values, rest, x[rows], y[rows], now.weights)
            return sgd(state, gradient, now.rates, momentum, nesterov), value

        return jax.lax.scan(step, state, steps)

    return jax.jit(epoch)


def sgd(state: State, gradient: Tree, rate: jax.Array, momentum: jax.Array, nesterov: jax.Array) -> State:
    """One step of SGD with momentum after clipping the gradient's global norm to 1; momentum 0 is plain SGD."""
    norm = optax.tree.norm(gradient)
    scale = CLIP_NORM / jnp.maximum(norm, CLIP_NORM)
    gradient = jax.tree.map(lambda g: g * scale, gradient)
    trace = jax.tree.map(lambda m, g: momentum * m + g, state.momentum, gradient)
    update = jax.tree.map(lambda m, g: jnp.where(nesterov, momentum * m + g, m), trace, gradient)
    return State(jax.tree.map(lambda v, u: v - rate * u, state.values, update), trace)


def merged(values: Tree, rest: Tree) -> Tree:
    return [{**fixed, **trained} for trained, fixed in zip(values, rest, strict=True)]
