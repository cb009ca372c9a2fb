"""A run drawn again from its log: every child from the snapshot that it was drawn from, and all of them compared.

What is trained is not trained again: outcomes are taken as they are recorded, in the order in which they joined the
pool. From these and the run's settings alone follow every child's parent, mutations and seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from mutant.blueprint import Blueprint
from mutant.path import Path
from mutant.pool import Pool
from mutant.position import Position
from mutant.search.asynchronous import in_order_of_arrival
from mutant.search.breeder import Breeder
from mutant.search.config import RunConfig
from mutant.search.generation import Breeding, Child
from mutant.search.lines import Lines
from mutant.search.memory import succeeded
from mutant.search.population import Population
from mutant.search.recorded import recorded_config
from mutant.storage.children import children
from mutant.storage.earlier import pool_before
from mutant.storage.records import CandidateRecord, Run, Segment
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@dataclass(frozen=True)
class Difference:
    """A child that is not what its log gives, and in what: parent, mutations, seed, hyperparameters, pool, log."""

    segment: int
    task: str
    generation: int
    child: int
    what: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """What came of drawing a run's `children` again. `unknown` names segments whose first pool cannot be made again,
    since tasks were taken out or brought back in between; their children were not drawn."""

    run: int
    asynchronous: bool
    children: int
    differing: tuple[Difference, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.differing


def replay(store: Store, run: Run) -> Replay:
    """Draw every child of a run again. Raises UserError when its settings cannot be read."""
    config = recorded_config(run)
    pools = {version.version: version for version in (pool_before(store, run, removed=r) for r in (False, True))}
    tasks = {task.name: place for place, task in enumerate(store.tasks(removed=True))}
    lines, differing, unknown, number = Lines(store), list[Difference](), list[str](), 0
    for segment in run.segments:
        (known,) = children(store, [segment])
        records = [record for record, _ in known.found]
        paths = {path.id: path for _, path in known.found if path is not None}
        for path in paths.values():
            lines.add(path)
        if records:
            pool = pools.get(records[0].planned.pool_version)
            if pool is None:
                unknown.append(segment.task)
            else:
                classes = len(store.task(segment.task).class_names)
                differing += _Segment(segment, config.of_segment(segment.index), pool, lines, classes).check(
                    records, paths
                )
                number += len(records)
        if segment.winner is not None:
            winner = paths.get(segment.winner) or store.path(segment.winner)
            pools = {new.version: new for new in (succeeded(old, winner, tasks) for old in pools.values())}
            lines.keep(winner)
    return Replay(run.id, config.asynchronous, number, tuple(differing), tuple(unknown))


class _Segment:
    """One segment that is drawn again."""

    def __init__(self, segment: Segment, config: RunConfig, pool: Pool, lines: Lines, classes: int) -> None:
        self._segment, self._config = segment, config
        self._population = Population.of(segment.task, pool, config)
        self._breeding = Breeding(config, lines, self._population.parents, classes)
        self._position = Position(config.seed, segment.task, segment.visit)

    def check(self, records: list[CandidateRecord], paths: dict[str, Path]) -> Iterator[Difference]:
        drawn = self._one_by_one if self._config.asynchronous else self._by_generations
        for record, what in drawn(records, paths):
            if what:
                yield Difference(self._segment.index, self._segment.task, record.generation, record.child, tuple(what))

    def _by_generations(
        self, records: list[CandidateRecord], paths: dict[str, Path]
    ) -> Iterator[tuple[CandidateRecord, list[str]]]:
        for generation, group in groupby(records, key=lambda record: record.generation):
            of_generation, population = list(group), self._population
            size = min(self._config.generation_size, self._config.children - population.children)
            here = self._position.at(generation=generation)
            again: tuple[Child, ...] = ()
            for deep in self._depths:
                if not again or not _same(again[0], of_generation[0]):
                    breeding = _breeding(self._breeding, deep=deep)
                    again = breeding.generation(population.parents, here, size=size, given=population.given)
            for place, record in enumerate(of_generation):
                differing = _differing(again[place], record) if record.child == place < len(again) else ["log"]
                yield record, differing + _pool(population, record)
            trained = [paths[record.path] for record in of_generation if record.path is not None]
            self._population = population.drawn(record.parent for record in of_generation).joined(trained)

    def _one_by_one(
        self, records: list[CandidateRecord], paths: dict[str, Path]
    ) -> Iterator[tuple[CandidateRecord, list[str]]]:
        try:
            ended = in_order_of_arrival(records)
        except UserError:
            yield from ((record, ["log"]) for record in records)
            return
        breeder, known = Breeder(self._breeding, self._position), 0
        for number, record in enumerate(records):
            now = -1 if record.planned.known is None else record.planned.known
            place = breeder.place(number)
            if (place.generation, place.child) != (record.generation, record.child) or not known <= now <= len(ended):
                yield record, ["log"]
                continue
            trained = [paths[one.path] for one in ended[known:now] if one.path is not None]
            for path in trained:
                self._population = self._population.joined([path])
            known = now
            child = breeder.draw(self._population)
            if not _same(child, record) and False in self._depths:
                child = breeder.draw(self._population, deep=False)
            early = ["log"] if record.arrival is not None and record.arrival <= now else []
            yield record, early + _differing(child, record) + _pool(self._population, record)
            self._population = self._population.drawn([record.parent])

    @property
    def _depths(self) -> tuple[bool, ...]:
        """Whether a deep child may have given way to another for want of budget, which the log does not tell."""
        return (True, False) if self._config.budget is not None and self._config.deep_every else (True,)


def _breeding(breeding: Breeding, *, deep: bool) -> Breeding:
    return breeding if deep else replace(breeding, config=replace(breeding.config, deep_every=0))


def _same(child: Child, record: CandidateRecord) -> bool:
    return child.candidate.id == record.candidate.id


def _differing(child: Child, record: CandidateRecord) -> list[str]:
    """In what a child that was drawn again differs from its record."""
    ours, theirs, plan = child.candidate, record.candidate, child.blueprint
    found = [name for name in ("task", "parent", "mutations", "seed") if getattr(ours, name) != getattr(theirs, name)]
    return found + ["hyperparameters"] * (not _as_planned(plan, record))


def _as_planned(plan: Blueprint, record: CandidateRecord) -> bool:
    planned = record.planned
    return plan.hyperparameters == planned.hyperparameters and dict(plan.probabilities) == dict(planned.probabilities)


def _pool(population: Population, record: CandidateRecord) -> list[str]:
    return ["pool"] * (population.pool.version != record.planned.pool_version)
