"""The compiled program that trains a suffix: SGD with momentum, many steps on the device in one call."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax

from mutant import backend
from mutant.component import Spec
from mutant.families import apply
from mutant.network import Tree
from mutant.template import Mode, Place, Template
from mutant.typed import jnp, lax, optax, xla

CLIP_NORM = 1.0


class State(NamedTuple):
    """Values of every place of the template and their momentum, buffers apart."""

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
    """What makes one child of its template: modes [places] (`Fitted.numbers`, `.trained`) and the optimizer's settings."""

    modes: Any
    trained: Any
    momentum: Any
    nesterov: Any


@lru_cache(maxsize=256)
def training_program(template: Template) -> Callable[..., Any]:
    """(state, buffers, child, chunk) to (state, losses [C]); what is given as the state is used up.

    Compiled once for all children of a template: what they train, rates, momentum and data are arrays.
    """
    backend.keep_compiled_programs()

    def loss(values: Tree, buffers: Tree, modes: jax.Array, x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        for place, own, fixed, mode in zip(template, values, buffers, modes, strict=True):
            x = lax.optimization_barrier(_place(place, mode, own, fixed, x))
        losses = optax.softmax_cross_entropy_with_integer_labels(x, y)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    def train(state: State, buffers: Tree, child: Child, chunk: Chunk) -> tuple[State, jax.Array]:
        modes = [child.modes[i] for i in range(len(template))]

        def step(i: Any, before: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, losses = before
            batch = (chunk.x[i], chunk.y[i], chunk.weights[i])
            value, gradient = xla.value_and_grad(loss)(state.values, buffers, modes, *batch)
            return sgd(template, state, gradient, child, chunk.rates[i]), losses.at[i].set(value)

        return lax.fori_loop(0, chunk.steps, step, (state, jnp.zeros_like(chunk.rates)))

    return xla.jit(train, donate_argnums=0)


def _place(place: Place, mode: jax.Array, own: Any, fixed: Any, x: jax.Array) -> jax.Array:
    branches = [partial(_BRANCHES[m], place.spec) for m in place.modes]
    return branches[0](own, fixed, x) if len(branches) == 1 else lax.switch(mode, branches, own, fixed, x)


def _skipped(_: Spec, own: Any, fixed: Any, x: jax.Array) -> jax.Array:
    return x


def _trained(spec: Spec, own: Any, fixed: Any, x: jax.Array) -> jax.Array:
    return apply(spec, {**fixed, **own}, x)


def _frozen(spec: Spec, own: Any, fixed: Any, x: jax.Array) -> jax.Array:
    return apply(spec, {**fixed, **lax.stop_gradient(own)}, x)


def _lowest(spec: Spec, own: Any, fixed: Any, x: jax.Array) -> jax.Array:
    return apply(spec, {**fixed, **own}, lax.stop_gradient(x))


_BRANCHES = {Mode.SKIP: _skipped, Mode.FROZEN: _frozen, Mode.TRAINED: _trained, Mode.LOWEST: _lowest}


def sgd(template: Template, state: State, gradient: Tree, child: Child, rate: jax.Array) -> State:
    """One step of SGD with momentum after clipping the gradient's global norm to 1; momentum 0 is plain SGD.

    Only what is trained is touched: what is not has no gradient and keeps its values to the bit.
    """
    places = range(len(template))
    always = [all(mode >= Mode.TRAINED for mode in place.modes) for place in template]

    def where_trained(i: int, change: Callable[..., Any], keep: Callable[..., Any], *operands: Any) -> Any:
        return change(*operands) if always[i] else lax.cond(child.trained[i], change, keep, *operands)

    squares = [where_trained(i, _square, lambda _: jnp.float32(0.0), gradient[i]) for i in places]
    norm = jnp.sqrt(_sum(squares))
    scale = CLIP_NORM / jnp.maximum(norm, CLIP_NORM)

    def moved(values: Any, trace: Any, slope: Any) -> tuple[Any, Any]:
        after = xla.tree.map(lambda m, g: child.momentum * m + g * scale, trace, slope)
        step = xla.tree.map(lambda m, g: jnp.where(child.nesterov, child.momentum * m + g * scale, m), after, slope)
        return xla.tree.map(lambda v, s: v - rate * s, values, step), after

    def kept(values: Any, trace: Any, slope: Any) -> tuple[Any, Any]:
        return values, trace

    pairs = [where_trained(i, moved, kept, state.values[i], state.momentum[i], gradient[i]) for i in places]
    return State([values for values, _ in pairs], [trace for _, trace in pairs])


def _square(arrays: Any) -> jax.Array:
    return _sum([jnp.sum(jnp.square(array)) for array in xla.tree.leaves(arrays)])


def _sum(terms: Sequence[jax.Array]) -> jax.Array:
    return sum(terms[1:], start=terms[0])
