"""The compiled program that trains a suffix: SGD with momentum, or by its sign, many steps on the device in a call."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from mutant import backend
from mutant.network import Tree
from mutant.places import place_function
from mutant.template import Mode, Template
from mutant.typed import jnp, lax, optax, xla

CLIP_NORM = 1.0
SIGN_STEP = 0.01
"""How far a coordinate moves under `signum`, in learning rates: so that the same list of rates serves both."""
MOST_PROGRAMS = 24
"""Compiled training programs that a process holds, up to 50 MB each; older ones are read from the compilation cache."""


class State(NamedTuple):
    """Values of every place of the template and their momentum; buffers are no part of it."""

    values: Tree
    momentum: Tree


class Chunk(NamedTuple):
    """What up to C steps take: inputs [C, batch, ...], labels int32 and weights [C, batch], learning rates [C].

    `steps` is how many of the C are taken.
    """

    x: Any
    y: Any
    weights: Any
    rates: Any
    steps: Any


class Child(NamedTuple):
    """What makes a child of its template: `Fitted.numbers` and `.trained` [places], and its optimizer's settings."""

    modes: Any
    trained: Any
    momentum: Any
    nesterov: Any
    signum: Any = np.bool_(False)


@lru_cache(maxsize=MOST_PROGRAMS)
def training_program(template: Template) -> Callable[..., Any]:
    """(state, buffers, child, chunk) to (state, losses [C]); what is given as the state is used up.

    Compiled once for all children of a template: what they train, rates, momentum and data are arrays.
    """
    backend.keep_compiled_programs()
    return xla.jit(steps_of(template), donate_argnums=0)


def steps_of(template: Template) -> Callable[[State, Tree, Child, Chunk], tuple[State, jax.Array]]:
    """What a training program compiles: the steps of a chunk, one after the other."""
    run = chain_function(template)

    def loss(values: Tree, buffers: Tree, modes: jax.Array, x: Any, y: Any, weights: Any) -> jax.Array:
        return cross_entropy(run(values, buffers, modes, x), y, weights)

    def train(state: State, buffers: Tree, child: Child, chunk: Chunk) -> tuple[State, jax.Array]:
        def step(i: Any, before: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, losses = before
            batch = (chunk.x[i], chunk.y[i], chunk.weights[i])
            value, gradient = xla.value_and_grad(loss)(state.values, buffers, child.modes, *batch)
            return sgd(template, state, gradient, child, chunk.rates[i]), losses.at[i].set(value)

        return lax.fori_loop(0, chunk.steps, step, (state, jnp.zeros_like(chunk.rates)))

    return train


def chain_function(template: Template) -> Callable[[Tree, Tree, Any, Any], jax.Array]:
    """(values, buffers, modes, x) to what the last place of a template emits, with a barrier after each place."""
    functions = [place_function(place) for place in template]

    def run(values: Tree, buffers: Tree, modes: Any, x: Any) -> jax.Array:
        for i, (function, own, fixed) in enumerate(zip(functions, values, buffers, strict=True)):
            x = lax.optimization_barrier(function(modes[i], own, fixed, x))
        return x

    return run


def cross_entropy(logits: jax.Array, y: Any, weights: Any) -> jax.Array:
    """The weighted average over a batch [B, classes]; y and weights: [B]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return jnp.sum(losses * weights) / jnp.sum(weights)


def sgd(template: Template, state: State, gradient: Tree, child: Child, rate: jax.Array, norm: Any = None) -> State:
    """One step of SGD with momentum after clipping the gradient's global norm to 1; momentum 0 is plain SGD. With
    `signum` every coordinate moves equally far along the sign of the momentum (arXiv 1802.04434).

    `norm` is the gradient's where it is part of a larger one. Only what is trained is touched: what is not has no
    gradient and keeps its values to the bit.
    """
    norm = optax.tree.norm(gradient) if norm is None else norm
    scale = CLIP_NORM / jnp.maximum(norm, CLIP_NORM)

    def clipped(m: jax.Array, g: jax.Array) -> jax.Array:
        return child.momentum * m + g * scale

    def stepped(v: jax.Array, m: jax.Array, g: jax.Array) -> jax.Array:
        direction = jnp.where(child.nesterov, clipped(m, g), m)
        return v - rate * jnp.where(child.signum, SIGN_STEP * jnp.sign(direction), direction)

    def moved(values: Any, trace: Any, slope: Any) -> tuple[Any, Any]:
        after = xla.tree.map(clipped, trace, slope)
        return xla.tree.map(stepped, values, after, slope), after

    def kept(values: Any, trace: Any, slope: Any) -> tuple[Any, Any]:
        return values, trace

    values: list[Any] = []
    momentum: list[Any] = []
    for i, place in enumerate(template):
        own = (state.values[i], state.momentum[i], gradient[i])
        always = all(mode >= Mode.TRAINED for mode in place.modes)
        after = moved(*own) if always else lax.cond(child.trained[i], moved, kept, *own)
        values.append(after[0])
        momentum.append(after[1])
    return State(values, momentum)
