"""One group of a child as a process of its own holds it: weights, momentum and head, a step in a few calls."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from typing import Any

import jax
import numpy as np

from mutant import backend
from mutant.component import Spec
from mutant.groups import Groups
from mutant.interlocking import auxiliary_place, head_loss
from mutant.network import Tree
from mutant.sgd import MOST_PROGRAMS, Child, State, chain_function, cross_entropy, sgd
from mutant.template import Place, Template
from mutant.typed import jnp, xla

Numbers = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Setup:
    """What a stage begins with: its place among the groups, and the state, buffers and child of its own places.

    `head` is the state of its auxiliary head, None where its loss is followed by no group or is the true one.
    """

    template: Template
    groups: Groups
    group: int
    state: State
    buffers: Tree
    child: Child
    head: State | None

    @property
    def places(self) -> Template:
        return self.template[self.groups.place_range(self.group)]

    def goes_on(self, loss: int) -> bool:
        """Whether the gradient of a loss that comes here goes on to the stage below."""
        return self.groups.followers(loss)[0] < self.group

    @property
    def followed(self) -> int:
        """The loss that this group's weights follow."""
        return next(loss for loss in self.groups.losses if self.group in self.groups.followers(loss))

    @property
    def with_others(self) -> bool:
        """Whether other groups follow the same loss, so that their gradients are clipped together."""
        return len(self.groups.followers(self.followed)) > 1


class Stage:
    """Computes what `interlocking_program` computes for one group.

    A step is `forward`, then `backward` for each loss that comes here, the lowest first, then, where others follow the
    same loss, `update` with the squares of all their gradients, bottom first.
    """

    def __init__(self, setup: Setup) -> None:
        backend.keep_compiled_programs()
        self._setup = setup
        self._state, self._buffers = _on_device(setup.state), _on_device(setup.buffers)
        self._head = None if setup.head is None else _on_device(setup.head)
        self._child = setup.child
        self._pull: Any = None
        self._slope: Any = None
        self._head_slope: Any = None
        self._held: tuple[Any, Any] = (None, None)

    def forward(self, x: Any, y: Any, weights: Any) -> tuple[np.ndarray[Any, Any] | None, float]:
        """What the group emits (None from the last), and its own loss if one is followed, else 0."""
        setup = self._setup
        run = _forward(setup.places, setup.group == 0)
        emitted, self._pull = run(self._state.values, self._buffers, self._child.modes, jnp.asarray(x))
        value: Any = 0.0
        if setup.group == setup.groups.last:
            value, self._slope = _true_loss()(emitted, y, weights)
            return None, float(value)
        if self._head is not None:
            spec = auxiliary_place(setup.template, setup.groups, setup.group).spec
            value, (self._head_slope, self._slope) = _own_loss(spec)(self._head.values[0], emitted, y, weights)
        return np.asarray(emitted), float(value)

    def backward(self, loss: int, rate: Any, *slope: Any) -> Any:
        """The slope of a loss for the stage below, if that is within its window, and the squares of this group's
        gradient, array by array, if this is the loss that the group follows.

        `slope` comes from the stage above, but for the group's own loss. The loss that is followed is called for last;
        weights that follow it alone are moved at once.
        """
        setup = self._setup
        follows, goes_on = loss == setup.followed, setup.goes_on(loss)
        at_output = jnp.asarray(slope[0]) if slope else self._slope
        gradient, squares, below = _pulled(follows, goes_on)(self._pull, at_output)
        down = np.asarray(below) if goes_on else None  # first of all, since the stage below waits for it
        if loss == setup.group and self._head is not None:
            place = auxiliary_place(setup.template, setup.groups, setup.group)
            self._head = _moved((place,))(self._head, [self._head_slope], self._child, rate, None)
        if not follows:
            return down
        self._pull = self._slope = None
        if setup.with_others:
            self._held = gradient, rate
        else:
            self._state = _moved(setup.places)(self._state, gradient, self._child, rate, None)
        found = [np.asarray(square) for square in squares]
        return (down, found) if goes_on else found

    def update(self, *squares: Any) -> None:
        """Move the weights, the gradient clipped with those whose squares are given."""
        gradient, rate = self._held
        norm = _norm()([one for group in squares for one in group])
        self._state = _moved(self._setup.places)(self._state, gradient, self._child, rate, norm)

    def state(self) -> State:
        """Values and momentum of the group's places."""
        return xla.tree.map(np.array, self._state)


def _on_device(tree: Any) -> Any:
    return xla.tree.map(jnp.array, tree)


@lru_cache(maxsize=MOST_PROGRAMS)
def _forward(places: Template, first: bool) -> Callable[..., tuple[jax.Array, Any]]:
    """(values, buffers, modes, x) to what is emitted and its pullback; what the first group reads has no slope."""
    run = chain_function(places)

    def forward(values: Tree, buffers: Tree, modes: Any, x: Any) -> tuple[jax.Array, Any]:
        def of_both(values: Tree, x: Any) -> jax.Array:
            return run(values, buffers, modes, x)

        return xla.vjp(partial(of_both, x=x), values) if first else xla.vjp(of_both, values, x)

    return xla.jit(forward)


@lru_cache(maxsize=4)
def _pulled(own: bool, below: bool) -> Callable[[Any, Any], tuple[Any, list[jax.Array], Any]]:
    """(pullback, slope) to the gradient of the group's own weights and its squares, and the slope of what it read.

    Only what is asked for is computed.
    """

    def pulled(pull: Any, slope: Any) -> tuple[Any, list[jax.Array], Any]:
        gradient, *read = pull(slope)
        squares = [jnp.sum(leaf * leaf) for leaf in xla.tree.leaves(gradient)]
        return (gradient if own else None), (squares if own else []), (read[0] if below else None)

    return xla.jit(pulled)


@lru_cache(maxsize=1)
def _norm() -> Callable[[list[Any]], jax.Array]:
    """The root of a sum, in the order of `optax.tree.norm`."""

    def norm(squares: list[Any]) -> jax.Array:
        return jnp.sqrt(reduce(operator.add, squares, 0))

    return xla.jit(norm)


@lru_cache(maxsize=1)
def _true_loss() -> Callable[..., Any]:
    return xla.jit(xla.value_and_grad(cross_entropy))


@lru_cache(maxsize=MOST_PROGRAMS)
def _own_loss(spec: Spec) -> Callable[..., Any]:
    return xla.jit(xla.value_and_grad(partial(head_loss, spec), argnums=(0, 1)))


@lru_cache(maxsize=MOST_PROGRAMS)
def _moved(places: tuple[Place, ...]) -> Callable[..., State]:
    return xla.jit(partial(sgd, places))
