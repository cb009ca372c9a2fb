"""What became of candidates, counted by the database: an overview need not read each of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select

from mutant.outcome import Cost
from mutant.storage.checks import checked
from mutant.storage.records import SegmentKey
from mutant.storage.schema import CandidateRow, PathRow, SegmentRow, TaskRow


@dataclass(frozen=True)
class Tally:
    """A segment's candidates: how many are in each state, the best quality so far, what they took.

    `predicted` is what had been predicted for those that were trained (None: nobody did).
    """

    states: Mapping[str, int] = field(default_factory=dict[str, int])
    best: float | None = None
    cost: Cost = Cost()
    predicted_seconds: float | None = None
    predicted_flops: float | None = None

    def __hash__(self) -> int:
        return hash((self.best, self.cost))

    @property
    def done(self) -> int:
        return self.states.get("DONE", 0) + self.states.get("FAILED", 0)


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be trained."""

    run: int
    task: str
    generation: int
    child: int
    failure: str
    reason: str
    seconds: float


def tallies(connection: Connection) -> dict[SegmentKey, Tally]:
    """Of every segment that has candidates."""
    row = CandidateRow
    sums = (func.sum(getattr(row, each.name)) for each in fields(Cost))
    predicted = func.sum(row.predicted_seconds), func.sum(row.predicted_flops)
    query = (
        select(row.run, row.segment, row.state, func.count(), func.max(PathRow.quality), *predicted, *sums)
        .outerjoin(PathRow, PathRow.key == row.path_key)
        .group_by(row.run, row.segment, row.state)
    )
    states: defaultdict[SegmentKey, dict[str, int]] = defaultdict(dict)
    trained: dict[SegmentKey, tuple[float, float | None, float | None]] = {}
    costs: defaultdict[SegmentKey, Cost] = defaultdict(Cost)
    for run, segment, state, number, quality, seconds, flops, *cost in connection.execute(query):
        key = SegmentKey(run, segment)
        states[key][state] = number
        costs[key] += Cost(*(_number(value) for value in cost))
        if state == "DONE":
            trained[key] = quality, seconds, flops
    return {key: _tally(states[key], costs[key], *trained.get(key, (None, None, None))) for key in states}


def _tally(
    states: Mapping[str, int], cost: Cost, best: float | None, seconds: float | None, flops: float | None
) -> Tally:
    return checked(Tally(states, best, checked(cost), seconds, flops))


def _number(value: Any) -> Any:
    """A sum of whole numbers as one: PostgreSQL gives decimals."""
    return int(value) if isinstance(value, Decimal) else value


def last_failures(connection: Connection, most: int) -> tuple[Failure, ...]:
    """The failures with the latest places in the runs, in order."""
    row = CandidateRow
    query = (
        select(row.run, TaskRow.name, row.generation, row.child, row.failure, row.reason, row.seconds)
        .join(SegmentRow, (SegmentRow.run == row.run) & (SegmentRow.segment == row.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(row.state == "FAILED")
        .order_by(row.run.desc(), row.segment.desc(), row.generation.desc(), row.child.desc())
        .limit(most)
    )
    found = [
        checked(Failure(run, task, generation, child, failure or "", reason or "", seconds))
        for run, task, generation, child, failure, reason, seconds in connection.execute(query)
    ]
    return tuple(reversed(found))
