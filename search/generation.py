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
from mutant.search.retention import best_path
from mutant.search.sampling import other_parents, sample_parent
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

    `given` counts the children that each path already gave in this segment. The data hyperparameters are drawn once,
    from the first child's parent, and shared by the generation (arXiv 2205.12755).
    """
    strategy, earlier = parse_strategy(config.strategy), sum(given.values())
    if not strategy.evolves:
        places = [(position.at(generation=position.generation, child=i), earlier + i) for i in range(size)]
        return tuple(_independent(pool.root, strategy, config, place, nth, classes) for place, nth in places)
    counts = Counter(given)
    children: list[Child] = []
    lines: dict[str, Sequence[Path]] = {}
    data: DataDraw | None = None
    for index in range(size):
        here = position.at(generation=position.generation, child=index)
        first = _first_child(pool, config, position.task, earlier + index)
        deep = None if index else _deep_parent(pool, config, position)
        parent = (
            (first and first.parent)
            or deep
            or sample_parent(
                pool, position.task, counts, config.scale, here.generator("parent"), cross_task=config.cross_task
            )
        )
        counts[parent.id] += 1
        if data is None:
            data = draw_data_hyperparameters(parent, config.rules, position.generator("data hyperparameters"))
        if parent.id not in lines:
            lines[parent.id] = lineage.ancestors(parent.id)
        ancestry = lines[parent.id]
        started = _started(parent, config)
        mutations: tuple[Mutation, ...]
        if first is not None:
            mutations = unmutated(
                ancestry, task=position.task, classes=classes, rules=config.rules, dropped=first.dropped
            )
        elif deep is not None:
            mutations = deepened(
                ancestry, task=position.task, classes=classes, rules=config.rules, blocks=config.deep_blocks
            )
        else:
            mutations = mutate(
                [started, *ancestry[1:]],
                task=position.task,
                classes=classes,
                rules=config.rules,
                rng=here.generator("mutations"),
                data=data,
            )
        mutations = (*_starting_edits(parent, started, mutations), *mutations)
        candidate = Candidate(position.task, parent.id, mutations, here.derive("candidate"))
        children.append(Child(candidate, blueprint(ancestry, mutations)))
    return tuple(children)


def _deep_parent(pool: Pool, config: RunConfig, position: Position) -> Path | None:
    """The task's best path where a generation begins with a deep child of it, as the second does and every
    `deep_every`-th after that."""
    if (
        not config.deep_every
        or position.generation % config.deep_every != 1 % config.deep_every
        or not position.generation
    ):
        return None
    return best_path(pool.of_task(position.task), pool, config.scale)


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


def _first_child(pool: Pool, config: RunConfig, task: str, nth: int) -> _First | None:
    """The first children of a segment that are not sampled.

    muNet clones each other task's best path and the root, newest first. `each path and depth` takes these in turn with
    the root, whole and without some of its top blocks, for at most half of the children: a new head shows at once what
    features they give.
    """
    if config.first_children == "sampled":
        return None
    others = other_parents(pool, task) if config.cross_task else (pool.root,)
    if config.first_children == "each path unmutated":
        seeds = [_First(path) for path in others]
    elif pool.of_task(task):
        seeds = []
    else:
        droppable = min(pool.root.depth - 1, pool.root.depth if config.rules.reach is None else config.rules.reach)
        depths = [_First(pool.root, dropped) for dropped in LADDER if dropped <= droppable]
        paths = [_First(path) for path in others if path.parent is not None]
        turns = [first for pair in zip_longest(depths, paths) for first in pair if first is not None]
        seeds = turns[: -(-config.children // 2)]
    return seeds[nth] if nth < len(seeds) else None
