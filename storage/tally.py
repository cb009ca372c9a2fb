"""What became of candidates, counted by the database: an overview need not read each of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, cast, func, select

from mutant.outcome import Cost
from mutant.storage.checks import checked
from mutant.storage.costs import cost_of
from mutant.storage.faults import decoding
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


@decoding()
def tallies(connection: Connection) -> dict[SegmentKey, Tally]:
    """Of every segment that has candidates."""
    row = CandidateRow
    sums = [_sum(row.__table__.c[each.name]) for each in fields(Cost)]
    predicted = [_sum(row.__table__.c[name]) for name in ("predicted_seconds", "predicted_flops")]
    query = (
        select(row.run, row.segment, row.state, func.count().label("number"), func.max(PathRow.quality).label("best"))
        .add_columns(*predicted, *sums)
        .outerjoin(PathRow, PathRow.key == row.path_key)
        .group_by(row.run, row.segment, row.state)
    )
    found: defaultdict[SegmentKey, Tally] = defaultdict(Tally)
    for counted in connection.execute(query):
        key = SegmentKey(counted.run, counted.segment)
        found[key] = checked(_with(found[key], counted))
    return dict(found)


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A sum of the column's own type and name; PostgreSQL sums whole numbers as decimals."""
    return cast(func.sum(column), column.type).label(column.key)


def _with(tally: Tally, counted: Any) -> Tally:
    """The tally with the candidates of one more state; what was predicted of those that are trained."""
    states, cost = {**tally.states, counted.state: counted.number}, tally.cost + cost_of(counted)
    if counted.state != "DONE":
        return replace(tally, states=states, cost=cost)
    return Tally(states, counted.best, cost, counted.predicted_seconds, counted.predicted_flops)


@decoding()
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
