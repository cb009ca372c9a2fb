"""A child's groups as a pipeline of stages, wherever they live: activations go up, slopes come back in the window.

A group's next batch needs nothing but its own step, so that groups work on different batches at the same time: all of
them with local training, every N-th with a window of N. Each stage takes its calls in the order in which they are made
here, and a call depends on earlier ones alone, so that the numbers are those of one device, whatever takes how long.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from mutant.groups import Groups
from mutant.interlocking import interlocked
from mutant.network import Tree
from mutant.sgd import Child, Chunk, State
from mutant.stage import Setup, Stage
from mutant.template import Fitted
from mutant.typed import xla

DEPTH = 4
"""Steps that are under way at most: how many batches a stage's queue can hold."""


class Hand(Protocol):
    """Where one stage is: takes its calls in order, and answers each with futures that later calls may be given."""

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        """The futures of what a method of the stage returns, `returns` values of them."""
        ...


class Crew(Protocol):
    """Who holds stages: one process, or several."""

    def begin(self, setups: Sequence[Setup]) -> Sequence[Hand]:
        """A hand for each stage, bottom first. Those of the last child are let go of."""
        ...

    def values(self, futures: Sequence[Any]) -> list[Any]:
        """What the futures are, waited for. Raises `StageLost` when who held a stage has died."""
        ...


class StageLost(Exception):
    """A process that held a stage has died, and the child's training with it."""


class Here:
    """A crew of this process: a future is its value."""

    def begin(self, setups: Sequence[Setup]) -> Sequence[Hand]:
        return [_Direct(Stage(setup)) for setup in setups]

    def values(self, futures: Sequence[Any]) -> list[Any]:
        return [*futures]


class _Direct:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        found = getattr(self._stage, method)(*arguments)
        return found if returns > 1 else [found]


def setups(suffix: Fitted, groups: Groups, main: State, buffers: Tree, child: Child) -> list[Setup]:
    """What each stage of a child begins with, in plain arrays."""
    state = interlocked(suffix, groups, main)
    heads = {
        loss: State([state.heads.values[i]], [state.heads.momentum[i]]) for i, loss in enumerate(groups.losses[:-1])
    }
    found: list[Setup] = []
    for group in range(groups.count):
        here = groups.place_range(group)
        own = child._replace(modes=child.modes[here], trained=child.trained[here])
        trees = (State(main.values[here], main.momentum[here]), buffers[here], own, heads.get(group))
        found.append(Setup(suffix.template, groups, group, *xla.tree.map(np.array, trees)))
    return found


class Pipeline:
    """The stages of one child at work: `step` hands out a step and returns at once, unless `DEPTH` are under way."""

    def __init__(self, crew: Crew, stages: Sequence[Setup]) -> None:
        self._crew, self._stages = crew, stages
        self._hands = crew.begin(stages)
        self._under_way: deque[list[Any]] = deque()

    def step(self, x: Any, y: Any, weights: Any, rate: Any) -> list[Any]:
        """Futures of the step's losses, stage by stage (0 where none is followed)."""
        if len(self._under_way) >= DEPTH:
            self._crew.values(self._under_way.popleft())
        losses: list[Any] = []
        for hand in self._hands:
            x, loss = hand.call("forward", x, y, weights, returns=2)
            losses.append(loss)
        squares: dict[int, Any] = {}
        for loss in self._stages[0].groups.losses:
            self._back(loss, rate, squares)
        done = [*losses, *squares.values()]  # what nobody waited for could fail unheard
        for stage, hand in zip(self._stages, self._hands, strict=True):
            if stage.with_others:
                shared = [squares[group] for group in stage.groups.followers(stage.followed)]
                done.extend(hand.call("update", *shared, returns=1))
        self._under_way.append(done)
        return losses

    def _back(self, loss: int, rate: Any, squares: dict[int, Any]) -> None:
        """Send a loss's gradient down its window; whose weights follow it leaves the squares of its gradient."""
        slope: list[Any] = []
        for group in range(loss, self._stages[0].groups.followers(loss)[0] - 1, -1):
            stage = self._stages[group]
            follows, goes_on = stage.followed == loss, stage.goes_on(loss)
            found = self._hands[group].call("backward", loss, rate, *slope, returns=follows + goes_on)
            slope = [found[0]] if goes_on else []
            if follows:
                squares[group] = found[-1]

    def losses(self, steps: Sequence[list[Any]]) -> np.ndarray[Any, Any]:
        """The sum of the losses of each of some steps, waited for."""
        found = self._crew.values([loss for step in steps for loss in step])
        return np.asarray(found, np.float32).reshape(len(steps), -1).sum(axis=1)

    def state(self) -> State:
        """Values and momentum of all places, bottom first, after every step that was handed out."""
        while self._under_way:
            self._crew.values(self._under_way.popleft())
        states: list[State] = self._crew.values([hand.call("state", returns=1)[0] for hand in self._hands])
        return State(
            [place for state in states for place in state.values],
            [place for state in states for place in state.momentum],
        )


def pipelined(pipeline: Pipeline, chunks: Iterator[tuple[int, Chunk]]) -> Iterator[tuple[State, Sequence[Any]]]:
    """The state after each validation period and the losses of its steps."""
    for _, visit in groupby(chunks, key=itemgetter(0)):
        steps = [
            pipeline.step(chunk.x[i], chunk.y[i], chunk.weights[i], chunk.rates[i])
            for _, chunk in visit
            for i in range(int(chunk.steps))
        ]
        losses = pipeline.losses(steps)
        yield pipeline.state(), [losses]
