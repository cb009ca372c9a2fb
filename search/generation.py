"""Planning one generation: which children, of which parents, with which changes. Pure, and random by position alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Protocol

from mutant.blueprint import Blueprint, blueprint
from mutant.mutation import Mutation, SetHyperparameter
from mutant.path import Candidate, Path
from mutant.pool import Pool
from mutant.position import Position
from mutant.reproduction import DataDraw, deepened, draw_data_hyperparameters, mutate, unmutated
from mutant.search.config import RunConfig
from mutant.search.independent import independent_child
from mutant.search.sampling import Parents
from mutant.search.strategies import Strategy, parse_strategy

LADDER = (3, 0, 1, 5)
"""How many top blocks the first children do without, under `each path and depth`."""


class Lineage(Protocol):
    def ancestors(self, path_id: str) -> Sequence[Path]:
        """The path itself first, the root last."""
        ...


@dataclass(frozen=True)
class Child:
    """A planned child: its candidate and what it will look like."""

    candidate: Candidate
    blueprint: Blueprint


@dataclass(frozen=True)
class Breeding:
    """What the children of a segment are drawn with. `start`: the possible parents when the segment began."""

    config: RunConfig
    lineage: Lineage
    start: Parents
    classes: int

    def data(self, first: Path, position: Position) -> DataDraw:
        """The data hyperparameters that a generation shares, from its first child's parent (arXiv 2205.12755)."""
        rng = position.at(generation=position.generation).generator("data hyperparameters")
        return draw_data_hyperparameters(first, self.config.rules, rng)

    def child(
        self, parents: Parents, here: Position, nth: int, given: Mapping[str, int], data: DataDraw | None
    ) -> tuple[Child, DataDraw | None]:
        """The child at a position, the `nth` of its segment from 0, and the data hyperparameters of its generation.

        `given` counts the children that each path gave before in this segment; `data` is None for a generation's first.
        """
        config, strategy = self.config, parse_strategy(self.config.strategy)
        if not strategy.evolves:
            return _independent(parents.root, strategy, config, here, nth, self.classes), data
        first = _first_child(parents if here.generation else self.start, config, nth)
        deep = None if here.child else _deep_parent(parents, config, here)
        parent = (first and first.parent) or deep or parents.sample(given, here.generator("parent"))
        data = data or self.data(parent, here)
        ancestry = self.lineage.ancestors(parent.id)
        started = _started(parent, config)
        task, classes, rules = here.task, self.classes, config.rules
        mutations: tuple[Mutation, ...]
        if first is not None:
            mutations = unmutated(ancestry, task=task, classes=classes, rules=rules, dropped=first.dropped)
        elif deep is not None:
            mutations = deepened(ancestry, task=task, classes=classes, rules=rules, blocks=config.deep_blocks)
        else:
            line, rng = [started, *ancestry[1:]], here.generator("mutations")
            mutations = mutate(line, task=task, classes=classes, rules=rules, rng=rng, data=data)
        mutations = (*_starting_edits(parent, started, mutations), *mutations)
        candidate = Candidate(task, parent.id, mutations, here.derive("candidate"))
        return Child(candidate, blueprint(ancestry, mutations)), data

    def generation(
        self, parents: Parents, position: Position, *, size: int, given: Mapping[str, int]
    ) -> tuple[Child, ...]:
        """The `size` children of the generation at `position`, all drawn from the same `parents`."""
        counts, earlier = Counter(given), sum(given.values())
        children: list[Child] = []
        data: DataDraw | None = None
        for index in range(size):
            here = position.at(generation=position.generation, child=index)
            child, data = self.child(parents, here, earlier + index, counts, data)
            counts[child.candidate.parent] += 1
            children.append(child)
        return tuple(children)


def plan_generation(
    pool: Pool,
    lineage: Lineage,
    config: RunConfig,
    position: Position,
    *,
    classes: int,
    size: int,
    given: Mapping[str, int],
) -> tuple[Child, ...]:
    """The `size` children of the generation at `position`, drawn against `pool`.

    `given` counts the children that each path already gave in this segment.
    """
    parents = Parents.of(pool, position.task, config.scale, cross_task=config.cross_task)
    return Breeding(config, lineage, parents, classes).generation(parents, position, size=size, given=given)


def _deep_parent(parents: Parents, config: RunConfig, position: Position) -> Path | None:
    """The task's best path where a generation begins with a deep child of it, as the second does and every
    `deep_every`-th after that."""
    if (
        not config.deep_every
        or position.generation % config.deep_every != 1 % config.deep_every
        or not position.generation
    ):
        return None
    return parents.best


def _independent(root: Path, strategy: Strategy, config: RunConfig, place: Position, nth: int, classes: int) -> Child:
    mutations = independent_child(root, strategy, config.rules, place, nth=nth, classes=classes)
    candidate = Candidate(place.task, root.id, mutations, place.derive("candidate"))
    return Child(candidate, blueprint([root], mutations))


def _started(parent: Path, config: RunConfig) -> Path:
    """The root with the preset's starting hyperparameters; any other parent as it is."""
    if parent.parent is not None:
        return parent
    return replace(parent, hyperparameters=replace(parent.hyperparameters, **config.start))


def _starting_edits(parent: Path, started: Path, mutations: Sequence[Mutation]) -> list[SetHyperparameter]:
    """The preset's starting values as recorded edits, but for those that a mutation sets again."""
    again = {mutation.name for mutation in mutations if isinstance(mutation, SetHyperparameter)}
    before, after = parent.hyperparameters.to_dict(), started.hyperparameters.to_dict()
    return [SetHyperparameter(n, v) for n, v in after.items() if v != before[n] and n not in again]


@dataclass(frozen=True)
class _First:
    """A first child of a segment: an unmutated parent, but for the top blocks that are dropped."""

    parent: Path
    dropped: int = 0


def _first_child(parents: Parents, config: RunConfig, nth: int) -> _First | None:
    """The first children of a segment that are not sampled.

    muNet clones each other task's best path and the root, newest first. `each path and depth` takes these in turn with
    the root, whole and without some of its top blocks, for at most half of the children: a new head shows at once what
    features they give.
    """
    if config.first_children == "sampled":
        return None
    if config.first_children == "each path unmutated":
        return _First(parents.others[nth]) if nth < len(parents.others) else None
    if parents.ranked or nth >= -(-config.children // 2):
        return None
    root = parents.root
    droppable = min(root.depth - 1, root.depth if config.rules.reach is None else config.rules.reach)
    depths = [_First(root, dropped) for dropped in LADDER if dropped <= droppable]
    paths = [_First(path) for path in parents.others[: nth + 1] if path.parent is not None]
    turns = [first for pair in zip_longest(depths, paths) for first in pair if first is not None]
    return turns[nth] if nth < len(turns) else None
