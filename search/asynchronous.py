"""A segment without generations: a child is drawn whenever a worker is free, from the pool as it stands.

Nobody waits for a slow child. What a child was drawn from is a fact of the run and not of its settings, so it is
recorded: how many outcomes of the segment were known (`Planned.known`), and each outcome's place in their order
(`arrival`). From these `mutant.search.replay` draws every child again. A child that was drawn stays drawn: an
interrupted one is trained first when the run goes on, with the same identity and the same bounds.

A generation is here every `generation_size` children in the order in which they are drawn: they share data
hyperparameters, the first of some is deep (`deep_every`), and those of the first one may be a segment's first children.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mutant.blueprint import Blueprint, blueprint
from mutant.outcome import Outcome, Trained
from mutant.path import Path
from mutant.position import Position
from mutant.search.breeder import Breeder
from mutant.search.committing import commit
from mutant.search.evaluator import Work
from mutant.search.generation import Breeding, Child
from mutant.search.halving import Validated, stop_below
from mutant.search.memory import Memory
from mutant.search.planning import charges, out_of_time, planned, room_for
from mutant.search.population import Population
from mutant.search.prediction import Prediction, Sizes, predict_children
from mutant.search.progress import ChildBegun, ChildFinished, GenerationFinished
from mutant.search.setup import Search
from mutant.search.sharing import Digests, worth_keeping
from mutant.spans import Seat
from mutant.storage.records import CandidateRecord, Segment
from mutant.storage.refusals import Damaged


def work_off(
    search: Search, segment: Segment, population: Population, memory: Memory, records: Sequence[CandidateRecord]
) -> Population:
    """Train what was drawn and is open, draw and train the others, and commit each outcome in the order of arrival.

    `population` is the segment's at its start, `records` what was drawn before. Returns the population at the end.
    """
    source = Draws(search, segment, population, memory, records)
    told = _Told(search, segment, source.population)
    for number, outcome in search.evaluator.train_from(source, search.supply, source.begun):
        under_way = source.under_way[number]
        arrival = len(source.ended) + 1
        committed = commit(search, under_way.record, outcome, memory, attempt=under_way.attempt, arrival=arrival)
        if committed is not None:
            source.arrived(number, outcome)
            told.outcome(under_way.record, outcome, source.population, arrival, committed.seconds)
    return source.population


def in_order_of_arrival(records: Iterable[CandidateRecord]) -> list[CandidateRecord]:
    """Those with an outcome. Raises Damaged when their places are not 1, 2, 3, ..."""
    ended = sorted((record for record in records if not record.is_open), key=lambda record: record.arrival or 0)
    if [record.arrival for record in ended] != [*range(1, len(ended) + 1)]:
        raise Damaged("The order in which a segment's outcomes came is not whole.", hint="Restore it from a copy.")
    return ended


@dataclass
class UnderWay:
    """A child that was drawn and has no outcome yet. `charge` is what it is expected to take of the budget; `attempt`
    says under which lease it is trained, and `leased_by` that it was drawn under it, for this worker."""

    record: CandidateRecord
    charge: float
    attempt: int | None = None
    leased_by: str | None = None


class Draws:
    """The children of a segment as an evaluator's source: those that were interrupted, then new ones.

    `population` counts all that were drawn and holds what came of those that ended; `ended` are these, in the order of
    arrival.
    """

    def __init__(
        self,
        search: Search,
        segment: Segment,
        population: Population,
        memory: Memory,
        records: Sequence[CandidateRecord],
    ) -> None:
        config, task = search.config, search.store.task(segment.task)
        self._search, self._segment, self._memory, self._sizes = search, segment, memory, Sizes.of(task)
        breeding = Breeding(config, memory.lines, population.parents, len(task.class_names))
        self._breeder = Breeder(breeding, Position(config.seed, segment.task, segment.visit))
        self._around: deque[Work] = deque(maxlen=config.generation_size)
        self._prefixes: deque[tuple[tuple[str, int], Digests]] = deque(maxlen=config.generation_size)
        """Data and frozen prefix of each that is around, since looking them up anew for every draw takes longer."""
        self._again = deque(record for record in records if record.is_open)
        self.under_way: dict[int, UnderWay] = {}
        self.ended: list[Validated] = []
        self.population = population.drawn(record.parent for record in records)
        for record in in_order_of_arrival(records):
            self._end(record, None if record.path is None else search.store.path(record.path))
        if len(records) % config.generation_size:
            first = next(r for r in records if (r.generation, r.child) == (records[-1].generation, 0))
            self._breeder.go_on(len(records), memory.lines.ancestors(first.parent)[0])

    # As a source

    @property
    def around(self) -> Sequence[Work]:
        return tuple(self._around)

    def ahead(self) -> Work | None:
        return None

    def take(self, worker: str) -> tuple[int, Work] | None:
        """An interrupted child, else a new one, which is written as that worker's; None when there is no room."""
        if self._again:
            record = self._again.popleft()
            plan = blueprint(self._memory.lines.ancestors(record.parent), record.candidate.mutations)
            number = record.generation * self._search.config.generation_size + record.child
            self.under_way[number] = UnderWay(record, self._charge(record))
            return number, self._work(record, plan)
        return self._drawn(worker)

    def begun(self, number: int, worker: str | None, seat: Seat | None = None, /) -> None:
        """Training begins. A new child was written as begun when it was drawn, so that only another attempt is told."""
        child = self.under_way[number]
        if worker is None:
            assert child.attempt is not None
            place = (self._segment.key, child.record.generation, child.record.child)
            self._search.store.lose_candidate(*place, child.attempt)
            return
        drawn_for, child.leased_by = child.leased_by, None
        record = child.record
        self._search.listener(ChildBegun(record.candidate.task, record.generation, record.child, worker))
        if drawn_for == worker:
            return
        place = (self._segment.key, child.record.generation, child.record.child)
        child.attempt = self._search.store.lease_candidate(*place, worker, seat)

    def arrived(self, number: int, outcome: Outcome) -> None:
        """The outcome of a child was committed."""
        record = self.under_way.pop(number).record
        if isinstance(outcome, Trained):
            self._end(replace(record, validations=outcome.validations), outcome.path)
        else:
            self._end(record, None)

    def _end(self, record: CandidateRecord, path: Path | None) -> None:
        self.ended.append(record)
        if path is not None:
            self._memory.lines.add(path)
            self.population = self.population.joined([path])

    def _drawn(self, worker: str) -> tuple[int, Work] | None:
        config, number = self._search.config, self.population.children
        if number >= config.children or (number >= config.generation_size and out_of_time(self._search)):
            return None
        drawn = self._within_budget(number)
        if drawn is None:
            return None
        (child, prediction), charge = drawn
        here, version, pace = self._breeder.place(number), self.population.pool.version, self._memory.ledger.pace()
        row = planned(here.child, child, prediction, version, pace, known=len(self.ended))
        self._search.store.draw_candidate(self._segment.key, here.generation, row, worker)
        record = CandidateRecord(self._segment.key, here.generation, row)
        self.population = self.population.drawn([row.parent])
        self.under_way[number] = UnderWay(record, charge, attempt=1, leased_by=worker)
        return number, self._work(record, child.blueprint)

    def _within_budget(self, number: int) -> tuple[tuple[Child, Prediction], float] | None:
        """The next child and what it will take of the budget; None when there is no room for it beside those under way.

        A segment has at least one child. A deep child that there is no room for gives way to another.
        """
        config, ledger = self._search.config, self._memory.ledger
        room = room_for(self._search, self._segment, ledger) if number else None
        left = None if room is None else room - sum(child.charge for child in self.under_way.values())
        for deep in (True, False) if config.deep_every else (True,):
            child = self._breeder.draw(self.population, deep=deep)
            (prediction,) = predict_children(
                [child.blueprint], self.population.own, self._memory.count, config.training, self._sizes
            )
            (charge,) = charges(config.budget, [prediction], ledger)
            if left is None or charge <= left:
                return (child, prediction), charge
        return None

    def _charge(self, record: CandidateRecord) -> float:
        """What a child that was drawn before takes of the budget, as far as that was predicted."""
        flops, seconds = record.planned.predicted_flops or 0.0, record.planned.predicted_seconds or 0.0
        budget = self._search.config.budget
        return {"flops": flops, "device-seconds": seconds}.get(budget.unit if budget else "children", 1.0)

    def _work(self, record: CandidateRecord, plan: Blueprint) -> Work:
        config = self._search.config
        bounds = stop_below(self.ended[: record.planned.known], config.halving, config.training.validations)
        costs = (record.planned.predicted_flops or 0.0, record.planned.predicted_seconds or 0.0)
        work = Work(record.candidate, plan, config.training, (), bounds, *costs)
        self._around.append(work)
        self._prefixes.append((work.dataset, work.prefix))
        return replace(work, wanted=worth_keeping(p for data, p in self._prefixes if data == work.dataset))


class _Told:
    """Tells the listener about every outcome, and every `generation_size` of them how the population stands."""

    def __init__(self, search: Search, segment: Segment, before: Population) -> None:
        self._search, self._segment, self._own = search, segment, len(before.own)

    def outcome(
        self, record: CandidateRecord, outcome: Outcome, after: Population, arrival: int, seconds: float
    ) -> None:
        """An outcome was committed, in so many seconds."""
        config, task = self._search.config, self._segment.task
        validations = config.training.validations
        self._search.listener(ChildFinished(task, record.generation, record.child, outcome, validations, seconds))
        if arrival % config.generation_size and arrival != config.children:
            return
        generation, joined = (arrival - 1) // config.generation_size, len(after.own) - self._own
        self._own = len(after.own)
        self._search.listener(GenerationFinished(task, generation, joined, after.best, after.best_score))
