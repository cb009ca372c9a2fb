"""One place of a template as a function whose mode is a number: passed over, frozen or trained.

The forward pass is the same for all that is not passed over, so it is compiled once; the modes differ in what the
backward pass computes: the gradient of the values, of the inputs, or both.
"""

from collections.abc import Callable
from typing import Any

import jax

from mutant.families import apply
from mutant.template import Mode, Place
from mutant.typed import custom_vjp, jnp, lax, xla

Values = Any
"""Arrays by name."""


def place_function(place: Place) -> Callable[[Any, Values, Values, Any], jax.Array]:
    """(mode, own, buffers, x) to what the place emits, with a gradient that computes no more than the mode needs.

    The mode is an index into the place's modes. Where `x` is not of a floating type it has no gradient.
    """
    saved: dict[str, Any] = {}  # filled while the forward pass is traced, read while its gradient is

    def run(own: Values, buffers: Values, x: jax.Array) -> tuple[jax.Array, list[Any]]:
        """The outputs, and what the gradient needs of the way to them but for the arguments themselves."""
        y, pull = _pullback(place, own, buffers, x)
        leaves, structure = xla.tree.flatten(pull)
        given = {id(leaf): i for i, leaf in enumerate(xla.tree.leaves((own, buffers, x)))}
        saved["structure"], saved["given"] = structure, [given.get(id(leaf)) for leaf in leaves]
        return y, [leaf for leaf in leaves if id(leaf) not in given]

    def forward(mode: Any, own: Values, buffers: Values, x: jax.Array) -> tuple[jax.Array, Any]:
        if Mode.SKIP in place.modes:
            shapes = xla.eval_shape(run, own, buffers, x)[1]

            def skip(own: Values, buffers: Values, x: jax.Array) -> tuple[jax.Array, list[Any]]:
                return x, [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]

            y, kept = lax.cond(mode == place.modes.index(Mode.SKIP), skip, run, own, buffers, x)
        else:
            y, kept = run(own, buffers, x)
        return y, (mode, own, buffers, x, kept)

    def backward(left: Any, slope: jax.Array) -> tuple[None, Values, None, Any]:
        mode, own, buffers, x, kept = left
        arguments, rest = xla.tree.leaves((own, buffers, x)), iter(kept)
        leaves = [next(rest) if i is None else arguments[i] for i in saved["given"]]
        pull = xla.tree.unflatten(saved["structure"], leaves)
        branches = [_GRADIENTS[m](pull, own, x) for m in place.modes]
        own_slope, x_slope = branches[0](slope) if len(branches) == 1 else lax.switch(mode, branches, slope)
        return None, own_slope, None, x_slope if _has_slope(x) else None

    def emitted(mode: Any, own: Values, buffers: Values, x: jax.Array) -> jax.Array:
        return forward(mode, own, buffers, x)[0]

    function = custom_vjp(emitted)
    function.defvjp(forward, backward)
    return function


def _pullback(place: Place, own: Values, buffers: Values, x: jax.Array) -> tuple[jax.Array, Any]:
    def of_both(own: Values, x: jax.Array) -> jax.Array:
        return apply(place.spec, {**buffers, **own}, x)

    def of_own(own: Values) -> jax.Array:
        return of_both(own, x)

    return xla.vjp(of_both, own, x) if _has_slope(x) else xla.vjp(of_own, own)


def _has_slope(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


Gradient = Callable[[jax.Array], tuple[Values, Any]]
"""The slope of a place's outputs to those of its own values and of its inputs (None where they have none)."""


def _skipped(pull: Any, own: Values, x: jax.Array) -> Gradient:
    return lambda slope: (_zeros(own), slope)


def _frozen(pull: Any, own: Values, x: jax.Array) -> Gradient:
    return lambda slope: (_zeros(own), pull(slope)[1])


def _trained(pull: Any, own: Values, x: jax.Array) -> Gradient:
    return lambda slope: pull(slope)


def _lowest(pull: Any, own: Values, x: jax.Array) -> Gradient:
    return lambda slope: (pull(slope)[0], _zeros(x) if _has_slope(x) else None)


_GRADIENTS: dict[Mode, Callable[[Any, Values, Any], Gradient]] = {
    Mode.SKIP: _skipped,
    Mode.FROZEN: _frozen,
    Mode.TRAINED: _trained,
    Mode.LOWEST: _lowest,
}


def _zeros(like: Any) -> Any:
    return xla.tree.map(jnp.zeros_like, like)
