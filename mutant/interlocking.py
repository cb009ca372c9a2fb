"""The compiled program of interlocking backpropagation on one device (arXiv 2010.04116): all groups, many steps.

A window of N groups makes one forward pass, and from each loss that is followed one backward pass of N groups. What
follows one loss is clipped together, each auxiliary head by itself, so that a window of all groups is end-to-end
training to the bit, and a group that follows its own loss needs to hear of no other group.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mutant import backend
from mutant.component import Spec
from mutant.families import apply, initial
from mutant.groups import Groups
from mutant.network import Tree
from mutant.sgd import MOST_PROGRAMS, Child, Chunk, State, chain_function, cross_entropy, sgd
from mutant.template import Fitted, Mode, Place, Template, padded
from mutant.typed import jnp, lax, xla


class Interlocked(NamedTuple):
    """The state of a suffix, and that of the auxiliary heads of all losses that are followed but the last."""

    main: State
    heads: State


def auxiliary_place(template: Template, groups: Groups, loss: int) -> Place:
    """The auxiliary head of a loss: a classifier of the task on what its group emits."""
    features = template[groups.stop(loss) - 1].spec["features"]
    return Place(_auxiliary(features, template[-1].spec["classes"]), (Mode.TRAINED,))


def _auxiliary(features: int, classes: int) -> Spec:
    return Spec.of("auxiliary_head", features_in=features, features=classes, classes=classes)


def fresh_head(suffix: Fitted, groups: Groups, loss: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and momentum that the auxiliary head of a loss starts from, the same for every child of the task."""
    place, head = auxiliary_place(suffix.template, groups, loss).spec, suffix.parts[-1]
    assert head is not None
    spec = _auxiliary(place["features_in"], head.spec["classes"])
    arrays = padded(spec, initial(spec, np.random.default_rng(0)), place)
    return {n: jnp.array(a) for n, a in arrays.items()}, {n: jnp.zeros_like(a) for n, a in arrays.items()}


def interlocked(suffix: Fitted, groups: Groups, main: State) -> Interlocked:
    """The state that training starts from: fresh auxiliary heads beside `main`."""
    heads = [fresh_head(suffix, groups, loss) for loss in groups.losses[:-1]]
    return Interlocked(main, State([values for values, _ in heads], [momentum for _, momentum in heads]))


def head_loss(spec: Spec, values: Any, x: jax.Array, y: Any, weights: Any) -> jax.Array:
    """The loss of an auxiliary head on what its group emits."""
    return cross_entropy(lax.optimization_barrier(apply(spec, values, x)), y, weights)


@lru_cache(maxsize=MOST_PROGRAMS)
def interlocking_program(template: Template, groups: Groups) -> Callable[..., Any]:
    """(state, buffers, child, chunk) to (state, losses [C]), as `training_program`, for an `Interlocked` state.

    A step's loss is the sum of all that are followed.
    """
    backend.keep_compiled_programs()
    gradients = _gradients(template, groups)

    def train(state: Interlocked, buffers: Tree, child: Child, chunk: Chunk) -> tuple[Interlocked, jax.Array]:
        def step(i: Any, before: tuple[Interlocked, jax.Array]) -> tuple[Interlocked, jax.Array]:
            state, losses = before
            batch = (chunk.x[i], chunk.y[i], chunk.weights[i])
            values, slopes = gradients(state, buffers, child.modes, *batch)
            return _stepped(template, groups, state, slopes, child, chunk.rates[i]), losses.at[i].set(sum(values))

        return lax.fori_loop(0, chunk.steps, step, (state, jnp.zeros_like(chunk.rates)))

    return xla.jit(train, donate_argnums=0)


Slopes = tuple[dict[int, list[Any]], list[Any]]
"""The gradients of the places that follow each loss, and those of the auxiliary heads."""


def _gradients(template: Template, groups: Groups) -> Callable[..., tuple[list[jax.Array], Slopes]]:
    runs = [chain_function(template[groups.place_range(group)]) for group in range(groups.count)]
    specs = [auxiliary_place(template, groups, loss).spec for loss in groups.losses[:-1]]

    def forward(main: State, buffers: Tree, modes: Any, x: Any) -> tuple[list[jax.Array], list[Any]]:
        """What each group emits, and the pullback of its weights and (but for the first) of what it read."""
        outputs: list[jax.Array] = []
        pulls: list[Any] = []
        for group, run in enumerate(runs):
            here = groups.place_range(group)
            call, own = partial(_called, run, buffers[here], modes[here]), main.values[here]
            x, pull = xla.vjp(partial(call, x=x), own) if group == 0 else xla.vjp(call, own, x)
            outputs.append(x)
            pulls.append(pull)
        return outputs, pulls

    def gradients(
        state: Interlocked, buffers: Tree, modes: Any, x: Any, y: Any, weights: Any
    ) -> tuple[list[jax.Array], Slopes]:
        outputs, pulls = forward(state.main, buffers, modes, x)
        values: list[jax.Array] = []
        main: dict[int, list[Any]] = {}
        heads: list[Any] = []
        for loss, spec, head in zip(groups.losses[:-1], specs, state.heads.values, strict=True):
            own_loss = partial(head_loss, spec, y=y, weights=weights)
            value, (of_head, slope) = xla.value_and_grad(own_loss, argnums=(0, 1))(head, outputs[loss])
            values.append(value)
            heads.append(of_head)
            main[loss] = _followed(groups, loss, pulls, slope)
        value, slope = xla.value_and_grad(cross_entropy)(outputs[-1], y, weights)
        main[groups.last] = _followed(groups, groups.last, pulls, slope)
        return [*values, value], (main, heads)

    return gradients


def _called(run: Callable[..., jax.Array], buffers: Tree, modes: Any, values: Tree, x: Any) -> jax.Array:
    return run(values, buffers, modes, x)


def _followed(groups: Groups, loss: int, pulls: list[Any], slope: Any) -> list[Any]:
    """A loss's gradient of the places that follow it, from its slope at the output of its group."""
    found: list[Any] = []
    for group in range(loss, groups.followers(loss)[0] - 1, -1):
        own, *below = pulls[group](slope)
        found = [*own, *found] if group in groups.followers(loss) else found
        slope = below[0] if below else None
    return found


def _stepped(
    template: Template, groups: Groups, state: Interlocked, slopes: Slopes, child: Child, rate: Any
) -> Interlocked:
    values: list[Any] = []
    momentum: list[Any] = []
    for loss in groups.losses:
        here = groups.followed_places(loss)
        before = State(state.main.values[here], state.main.momentum[here])
        trained = child._replace(trained=child.trained[here])
        after = sgd(template[here], before, slopes[0][loss], trained, rate)
        values.extend(after.values)
        momentum.extend(after.momentum)
    heads: list[State] = []
    for loss, own, trace, slope in zip(groups.losses[:-1], *state.heads, slopes[1], strict=True):
        place = auxiliary_place(template, groups, loss)
        heads.append(sgd((place,), State([own], [trace]), [slope], child, rate))
    after_heads = State([head.values[0] for head in heads], [head.momentum[0] for head in heads])
    return Interlocked(State(values, momentum), after_heads)
