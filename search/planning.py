"""A generation before it is trained: its children drawn, their costs predicted, and as many kept as the budget allows.

The run's budget is divided when a segment begins: it may spend an equal share, with the segments after it, of what
those before it left. Only predicted costs and what is committed decide, never the moment at which something arrives.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mutant.position import Position
from mutant.search.budget import Budget, allowance, fitting
from mutant.search.config import RunConfig
from mutant.search.generation import Breeding, Child, plan_generation
from mutant.search.ledger import Ledger
from mutant.search.memory import Memory
from mutant.search.population import Population
from mutant.search.prediction import Prediction, Sizes, predict_children, rough_count
from mutant.search.setup import Search
from mutant.storage.records import Planned, Segment
from mutant.storage.store import Store

SAMPLE = 32
"""Children that are drawn, at most, to guess what a run will cost."""


def plan(
    search: Search, segment: Segment, generation: int, population: Population, memory: Memory
) -> tuple[Planned, ...]:
    """The children of a segment's next generation; none when the budget has room for none.

    A segment's first generation has at least one child, so that every task ends with a path. A deep child that the
    budget has no room for gives way to others.
    """
    config, store = search.config, search.store
    task = store.task(segment.task)
    breeding = Breeding(config, memory.lines, population.parents, len(task.class_names))
    children = breeding.generation(
        population.parents,
        Position(config.seed, segment.task, segment.visit, generation),
        size=min(config.generation_size, config.children - population.children),
        given=population.given,
    )
    plans = [child.blueprint for child in children]
    predicted = predict_children(plans, population.own, memory.count, config.training, Sizes.of(task))
    room = room_for(search, segment, memory.ledger)
    number = len(predicted) if room is None else fitting(charges(config.budget, predicted, memory.ledger), room)
    if generation and not number and config.deep_every:
        shallow = replace(search, config=replace(config, deep_every=0))
        return plan(shallow, segment, generation, population, memory)
    version, pace = population.pool.version, memory.ledger.pace()
    return tuple(
        planned(index, child, prediction, version, pace)
        for index, (child, prediction) in enumerate(zip(children, predicted, strict=True))
        if index < (number if generation else max(1, number))
    )


def planned(
    place: int, child: Child, prediction: Prediction, version: str, pace: float, known: int | None = None
) -> Planned:
    """The row of a child that was drawn from the pool's snapshot `version`, after `known` outcomes of its segment."""
    return Planned(
        place,
        child.candidate,
        child.blueprint.hyperparameters,
        dict(child.blueprint.probabilities),
        pool_version=version,
        predicted_seconds=prediction.seconds(pace),
        predicted_flops=prediction.flops,
        known=known,
    )


def out_of_time(search: Search) -> bool:
    """Whether the wall time of this call is spent."""
    return search.deadline is not None and time.monotonic() > search.deadline


def room_for(search: Search, segment: Segment, ledger: Ledger) -> float | None:
    """What is left of the segment's share of the budget, in its unit; None without a budget."""
    budget = search.config.budget
    if budget is None:
        return None
    share = allowance(budget, ledger.before(segment.index), len(search.run.segments) - segment.index)
    return share - budget.spent(ledger.within(segment.index))


def charges(budget: Budget | None, predicted: Sequence[Prediction], ledger: Ledger) -> list[float]:
    """What children are expected to take of the budget, in its unit."""
    match budget.unit if budget else "children":
        case "children":
            return [1.0] * len(predicted)
        case "flops":
            return [prediction.flops for prediction in predicted]
        case _:
            pace = ledger.pace(on_device=True)
            return [prediction.seconds(pace) for prediction in predicted]


def expected_flops(store: Store, config: RunConfig, sizes: Mapping[str, Sizes]) -> float:
    """A guess of the FLOPs that a whole run will take, before anything is counted: children like those that would be
    drawn now, in every segment.
    """
    task, number = config.segments[0], min(config.children, SAMPLE)
    classes = len(store.task(task).class_names)
    drawn = plan_generation(
        store.pool(), store, config, Position(config.seed, task), classes=classes, size=number, given={}
    )
    plans, count = [child.blueprint for child in drawn], rough_count(store.root())
    trained, prefixes = 0.0, 0.0
    for name in config.segments:
        predicted = predict_children(plans, (), count, config.training, sizes[name])
        trained += sum(prediction.flops for prediction in predicted) * config.children / number
        prefixes += sum(prediction.prefix_flops for prediction in predicted)
    return _within(config, trained) + prefixes


def _within(config: RunConfig, flops: float) -> float:
    """As much of a run's FLOPs as its budget allows."""
    match config.budget:
        case Budget(amount, "flops"):
            return min(flops, amount)
        case Budget(amount, "children"):
            return flops * min(1.0, amount / (config.children * len(config.segments)))
        case _:
            return flops
