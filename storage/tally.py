"""What became of candidates, counted by the database: an overview need not read each of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from mutant.storage.checks import checked
from mutant.storage.records import SegmentKey
from mutant.storage.schema import CandidateRow, PathRow, SegmentRow, TaskRow


@dataclass(frozen=True)
class Tally:
    """A segment's candidates: how many are in each state, the best quality so far, the seconds spent on them."""

    states: Mapping[str, int] = field(default_factory=dict[str, int])
    best: float | None = None
    seconds: float = 0.0

    def __hash__(self) -> int:
        return hash((self.best, self.seconds))

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
    query = (
        select(row.run, row.segment, row.state, func.count(), func.max(PathRow.quality), func.sum(row.seconds))
        .outerjoin(PathRow, PathRow.key == row.path_key)
        .group_by(row.run, row.segment, row.state)
    )
    states: defaultdict[SegmentKey, dict[str, int]] = defaultdict(dict)
    best: dict[SegmentKey, float] = {}
    seconds: defaultdict[SegmentKey, float] = defaultdict(float)
    for run, segment, state, number, quality, spent in connection.execute(query):
        key = SegmentKey(run, segment)
        states[key][state] = number
        seconds[key] += spent
        if state == "DONE":
            best[key] = quality
    return {key: checked(Tally(states[key], best.get(key), seconds[key])) for key in states}


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
