"""What workers did and do, read from the database: every child's timing, and who works at the moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any

from sqlalchemy import ColumnElement, case, cast, func, select
from sqlalchemy.orm import aliased

from mutant.mutation import Mutation, from_dict
from mutant.outcome import Cost
from mutant.spans import Account, Seat, Span
from mutant.storage.checks import checked
from mutant.storage.costs import cost_of
from mutant.storage.faults import decoding
from mutant.storage.records import CandidateState
from mutant.storage.schema import CandidateRow, PathRow, SegmentRow, TaskRow
from mutant.storage.schema_work import TimingRow, WorkerRow
from mutant.storage.store import Store

_AT_A_TIME = 500


@dataclass(frozen=True)
class Timing:
    """A child that ended or is being trained, and where its time went.

    `account` is None for one that is being trained, and where nobody told (a worker that died, an older version of
    mutant); then `seat` may still be known. `commit` is the controller's span; None where it was not kept.
    """

    task: str
    segment: int
    generation: int
    child: int
    parent: str
    mutations: tuple[Mutation, ...]
    state: CandidateState
    failure: str | None
    quality: float | None
    cost: Cost
    attempt: int
    worker: str | None
    began_at: datetime | None
    committed_at: datetime | None
    seat: Seat | None
    account: Account | None
    commit: Span | None

    def __hash__(self) -> int:
        return hash((self.segment, self.generation, self.child))


def timings(store: Store, run: int) -> Iterator[Timing]:
    """The children of a run that ended or are being trained, in the order in which they began, but for those of which
    nobody told when that was. They are read as they are asked for, of one state of the database.
    """
    told = TimingRow.began.is_not(None)
    query = _children(run)
    with store.reading() as connection, decoding():
        others = query.where(~told, CandidateRow.began_at.is_not(None)).order_by(CandidateRow.began_at)
        few = [_timing(row) for row in connection.execute(others)]
        many = query.where(told).order_by(TimingRow.began).execution_options(yield_per=_AT_A_TIME)
        yield from merge(few, (_timing(row) for row in connection.execute(many)), key=_began)


def _began(timing: Timing) -> float:
    if timing.account is not None and timing.account.spans:
        return timing.account.spans[0].start
    return 0.0 if timing.began_at is None else timing.began_at.timestamp()


def _children(run: int) -> Any:
    row, parent, path = CandidateRow, aliased(PathRow), aliased(PathRow)
    return (
        select(*(column for column in row.__table__.c if column.key != "hyperparameters"))
        .add_columns(TaskRow.name.label("task"), parent.id.label("parent"), path.quality)
        .add_columns(*(column.label(f"timing_{column.key}") for column in TimingRow.__table__.c))
        .add_columns(WorkerRow.host, WorkerRow.pid, WorkerRow.device)
        .join(SegmentRow, (SegmentRow.run == row.run) & (SegmentRow.segment == row.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .join(parent, parent.key == row.parent_key)
        .outerjoin(path, path.key == row.path_key)
        .outerjoin(TimingRow, _same_child())
        .outerjoin(WorkerRow, (WorkerRow.token == row.token) & (WorkerRow.name == row.worker))
        .where(row.run == run, row.state.in_(("RUNNING", "DONE", "FAILED")))
    )


def _same_child() -> ColumnElement[bool]:
    row, timing = CandidateRow, TimingRow
    place = (timing.run == row.run) & (timing.segment == row.segment)
    return place & (timing.generation == row.generation) & (timing.child == row.child)


def _timing(row: Any) -> Timing:
    account, commit = None, None
    seat = None if row.host is None else checked(Seat(row.host, row.pid, row.device))
    if row.timing_host is not None:
        seat = checked(Seat(row.timing_host, row.timing_pid, row.timing_device))
        began = row.timing_began
        spans = tuple(checked(Span(kind, began + after, seconds)) for kind, after, seconds in row.timing_spans)
        account = checked(Account(seat, spans, row.timing_reused_rows, row.timing_computed_rows, row.timing_held_bytes))
        if row.timing_commit_began is not None:
            commit = checked(Span("commit", row.timing_commit_began, row.timing_commit_seconds))
    return checked(
        Timing(
            task=row.task,
            segment=row.segment,
            generation=row.generation,
            child=row.child,
            parent=row.parent,
            mutations=tuple(checked(from_dict(data)) for data in row.mutations),
            state=row.state,
            failure=row.failure,
            quality=row.quality,
            cost=cost_of(row),
            attempt=row.attempt,
            worker=row.worker,
            began_at=row.began_at,
            committed_at=row.committed_at,
            seat=seat,
            account=account,
            commit=commit,
        )
    )


@dataclass(frozen=True)
class Working:
    """A worker of the controller that holds the lease: what it did in this call, and the child that it trains now.

    `seat` is None until the worker has told where it is. `device_seconds` are those of its children that ended, as are
    the rows of frozen activations that were read from the cache (`reused_rows`) and computed. `task`, `generation`,
    `child` and `running_since` are None where it has no child.
    """

    name: str
    since: datetime
    seat: Seat | None
    done: int
    failed: int
    device_seconds: float
    reused_rows: int
    computed_rows: int
    task: str | None = None
    generation: int | None = None
    child: int | None = None
    running_since: datetime | None = None

    def utilisation(self, now: datetime) -> float | None:
        """The share of the time since the worker began, until its present child did, that its device worked; None
        before the end of its first child.
        """
        seconds = ((self.running_since or now) - self.since).total_seconds()
        return min(1.0, self.device_seconds / seconds) if seconds > 0 and self.done + self.failed else None


def workers(store: Store, token: int) -> tuple[Working, ...]:
    """The workers of the controller whose lease has this `token`, by name."""
    with store.reading() as connection, decoding():
        known = connection.execute(select(WorkerRow.__table__).where(WorkerRow.token == token)).all()
        totals = {row.worker: row for row in connection.execute(_totals(token))}
        running = {row.worker: row for row in connection.execute(_running(token))}
        found = [_working(row, totals.get(row.name), running.get(row.name)) for row in known]
    return tuple(sorted(found, key=lambda one: (len(one.name), one.name)))


def _totals(token: int) -> Any:
    """What the children that ended took, by worker."""
    row, timing = CandidateRow, TimingRow
    # A failed child tells no device seconds; a trained one always took some.
    sums = [cast(func.coalesce(func.sum(column), 0), column.type).label(column.key)
            for column in (row.__table__.c.device_seconds, timing.__table__.c.reused_rows,
                           timing.__table__.c.computed_rows)]  # fmt: skip
    number = [func.sum(case((row.state == state, 1), else_=0)).label(state.lower()) for state in ("DONE", "FAILED")]
    return (
        select(row.worker, *number, *sums)
        .outerjoin(timing, _same_child())
        .where(row.token == token, row.state.in_(("DONE", "FAILED")))
        .group_by(row.worker)
    )


def _running(token: int) -> Any:
    """The children that are being trained."""
    row = CandidateRow
    return (
        select(row.worker, TaskRow.name.label("task"), row.generation, row.child, row.began_at)
        .join(SegmentRow, (SegmentRow.run == row.run) & (SegmentRow.segment == row.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(row.token == token, row.state == "RUNNING")
        .order_by(row.began_at)
    )


def _working(worker: Any, totals: Any, running: Any) -> Working:
    seat = None if worker.host is None else checked(Seat(worker.host, worker.pid, worker.device))
    done = (0, 0, 0.0, 0, 0) if totals is None else (
        int(totals.done), int(totals.failed), totals.device_seconds, int(totals.reused_rows), int(totals.computed_rows)
    )  # fmt: skip
    child = () if running is None else (running.task, running.generation, running.child, running.began_at)
    return checked(Working(worker.name, worker.since, seat, *done, *child))
