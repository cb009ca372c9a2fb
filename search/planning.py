"""A generation before it is trained: its children drawn, their costs predicted, and as many kept as the budget allows.

The run's budget is divided when a segment begins: it may spend an equal share, with the segments after it, of what
those before it left. Only predicted costs and what is committed decide, never the moment at which something arrives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mutant.position import Position
from mutant.search.budget import Budget, Spent, allowance, fitting
from mutant.search.config import RunConfig
from mutant.search.generation import plan_generation
from mutant.search.population import Population
from mutant.search.prediction import Prediction, Sizes, predict_children, rate, rough_count
from mutant.search.setup import Search
from mutant.storage.records import CandidateRecord, Planned, Segment
from mutant.storage.store import Store

SAMPLE = 32
"""Children that are drawn, at most, to guess what a run will cost."""


def plan(search: Search, segment: Segment, generation: int, population: Population) -> tuple[Planned, ...]:
    """The children of a segment's next generation; none when the budget has room for none.

    A segment's first generation has at least one child, so that every task ends with a path. A deep child that the
    budget has no room for gives way to others.
    """
    config, store = search.config, search.store
    task = store.task(segment.task)
    children = plan_generation(
        population.pool,
        store,
        config,
        Position(config.seed, segment.task, segment.visit, generation),
        classes=len(task.class_names),
        size=min(config.generation_size, config.children - population.children),
        given=population.given,
    )
    plans = [child.blueprint for child in children]
    predicted = predict_children(plans, population.own, search.evaluator.flops, config.training, Sizes.of(task))
    records = _records(search, segment)
    number = _fitting(config.budget, predicted, records, segment, len(search.run.segments))
    if generation and not number and config.deep_every:
        return plan(replace(search, config=replace(config, deep_every=0)), segment, generation, population)
    pace = rate(records)
    return tuple(
        Planned(
            index,
            child.candidate,
            child.blueprint.hyperparameters,
            dict(child.blueprint.probabilities),
            pool_version=population.pool.version,
            predicted_seconds=prediction.seconds(pace),
            predicted_flops=prediction.flops,
        )
        for index, (child, prediction) in enumerate(zip(children, predicted, strict=True))
        if index < (number if generation else max(1, number))
    )


def spent_by_run(search: Search, segment: Segment) -> Spent:
    """What the run's children took up to now, in this segment and those before it."""
    return Spent.on(_records(search, segment))


def _records(search: Search, segment: Segment) -> list[CandidateRecord]:
    """The candidates of the run up to this segment; later ones have none yet."""
    return [record for s in search.run.segments[: segment.index + 1] for record in search.store.candidates(s.key)]


def _fitting(
    budget: Budget | None,
    predicted: Sequence[Prediction],
    records: Sequence[CandidateRecord],
    segment: Segment,
    segments: int,
) -> int:
    """How many of a generation's children the segment's share of the budget has room for."""
    if budget is None:
        return len(predicted)
    before = Spent.on(record for record in records if record.segment.index < segment.index)
    here = Spent.on(record for record in records if record.segment.index == segment.index)
    room = allowance(budget, before, segments - segment.index) - budget.spent(here)
    match budget.unit:
        case "children":
            costs = [1.0] * len(predicted)
        case "flops":
            costs = [prediction.flops for prediction in predicted]
        case _:
            pace = rate(records, on_device=True)
            costs = [prediction.seconds(pace) for prediction in predicted]
    return fitting(costs, room)


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
