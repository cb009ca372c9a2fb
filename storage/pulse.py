"""Whether anything changed since one looked: two short digests, by a few counts that the database has at hand."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from mutant.storage.faults import decoding
from mutant.storage.schema import (
    BaselineRow,
    CandidateRow,
    EvaluationRow,
    EventRow,
    PathRow,
    RunRow,
    SegmentRow,
    TaskRow,
)
from mutant.storage.store import Store

Query = Select[*tuple[Any, ...]]
_LEARNT: tuple[Query, ...] = (
    select(func.count(), func.max(TaskRow.added_at), func.count(TaskRow.removed_at), func.max(TaskRow.removed_at)),
    select(SegmentRow.state, func.count(), func.count(SegmentRow.winner_key)).group_by(SegmentRow.state),
    select(func.count(), func.max(EvaluationRow.at)),
    select(func.count(), func.max(BaselineRow.at)),
    select(func.max(EventRow.id)),
)
_GOING_ON: tuple[Query, ...] = (
    select(RunRow.state, func.count(), func.max(RunRow.ended_at)).group_by(RunRow.state),
    select(CandidateRow.state, func.count(), func.max(CandidateRow.committed_at)).group_by(CandidateRow.state),
    select(func.max(PathRow.key)),
)


@dataclass(frozen=True)
class Pulse:
    """Digests that change when what they stand for does: `learnt` the tasks and what answers for them, `all` also runs
    and their children."""

    learnt: str
    all: str


def pulse(store: Store) -> Pulse:
    """The system's pulse now, of one state of the database."""
    with store.reading() as connection, decoding():
        learnt, going_on = (
            repr([[tuple(row) for row in sorted(connection.execute(query), key=repr)] for query in queries])
            for queries in (_LEARNT, _GOING_ON)
        )
    return Pulse(_digest(learnt), _digest(learnt + going_on))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
