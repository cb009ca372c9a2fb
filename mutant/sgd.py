"""The compiled program that trains a suffix: SGD with momentum, whole epochs on the device."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax

from mutant import backend
from mutant.component import Spec
from mutant.network import Tree, forward
from mutant.typed import jnp, optax, xla

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
            value, gradient = xla.value_and_grad(loss)(state.values, rest, x[rows], y[rows], now.weights)
            return sgd(state, gradient, now.rates, momentum, nesterov), value

        return xla.lax.scan(step, state, steps)

    return xla.jit(epoch)


def sgd(state: State, gradient: Tree, rate: jax.Array, momentum: jax.Array, nesterov: jax.Array) -> State:
    """One step of SGD with momentum after clipping the gradient's global norm to 1; momentum 0 is plain SGD."""
    norm = optax.tree.norm(gradient)
    scale = CLIP_NORM / jnp.maximum(norm, CLIP_NORM)

    def clipped(g: jax.Array) -> jax.Array:
        return g * scale

    def traced(m: jax.Array, g: jax.Array) -> jax.Array:
        return momentum * m + clipped(g)

    def updated(v: jax.Array, m: jax.Array, g: jax.Array) -> jax.Array:
        return v - rate * jnp.where(nesterov, momentum * m + clipped(g), m)

    trace = xla.tree.map(traced, state.momentum, gradient)
    return State(xla.tree.map(updated, state.values, trace, gradient), trace)


def merged(values: Tree, rest: Tree) -> Tree:
    return [{**fixed, **trained} for trained, fixed in zip(values, rest, strict=True)]
