"""The compiled programs that train and validate a suffix: SGD with momentum, whole epochs on the device."""

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


class Programs(NamedTuple):
    epoch: Callable[..., Any]
    correct: Callable[..., Any]


class State(NamedTuple):
    """Trainable values and their momentum, slot by slot; frozen slots hold empty mappings."""

    values: Tree
    momentum: Tree


@lru_cache(maxsize=256)
def programs(chain: tuple[Spec, ...], trainable: tuple[bool, ...]) -> Programs:
    """Compiled once per structure of the suffix: rates, momentum and data are arrays."""
    backend.keep_compiled_programs()

    def loss(values: Tree, rest: Tree, x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        logits = forward(chain, merged(values, rest), x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    def epoch(
        state: State, rest: Tree, x: jax.Array, y: jax.Array, rows: jax.Array, weights: jax.Array,
        rates: jax.Array, momentum: jax.Array, nesterov: jax.Array,
    ) -> tuple[State, jax.Array]:  # fmt: skip
        def step(state: State, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            index, weight, rate = now
            value, gradient = jax.value_and_grad(loss)(state.values, rest, x[index], y[index], weight)
            return sgd(state, gradient, rate, momentum, nesterov), value

        return jax.lax.scan(step, state, (rows, weights, rates))

    def correct(arrays: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(jnp.argmax(forward(chain, arrays, x), axis=-1) == y)

    return Programs(jax.jit(epoch), jax.jit(correct))


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
