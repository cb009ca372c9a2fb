"""Who works, and where the time of a child went, as rows that are written with the run's own transactions."""

import time
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection, insert, update

from mutant.spans import Account, Seat, Span
from mutant.storage.records import SegmentKey, now
from mutant.storage.schema_work import TimingRow, WorkerRow


@dataclass(frozen=True)
class ChildPlace:
    """A child by its place in the runs."""

    segment: SegmentKey
    generation: int
    child: int

    @property
    def columns(self) -> dict[str, int]:
        """The place as columns of a row."""
        segment = self.segment
        return {"run": segment.run, "segment": segment.index, "generation": self.generation, "child": self.child}


@dataclass(frozen=True)
class Beginning:
    """A moment, by the time of day and by a clock that only goes forward."""

    wall: float
    clock: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.time(), time.monotonic())

    def until_now(self) -> Span:
        """What was committed between this moment and the present."""
        return Span("commit", self.wall, time.monotonic() - self.clock)


@dataclass(frozen=True)
class Commit:
    """When an outcome was committed, and how long that took; known only after the transaction that kept it."""

    place: ChildPlace
    span: Span


def write_account(connection: Connection, place: ChildPlace, account: Account) -> None:
    """Keep where a child's time went."""
    began = account.spans[0].start if account.spans else 0.0
    spans = [[span.kind, round(span.start - began, 6), round(span.seconds, 6)] for span in account.spans]
    row = insert(TimingRow).values(
        **place.columns,
        host=account.seat.host,
        pid=account.seat.pid,
        device=account.seat.device,
        began=began,
        spans=spans,
        reused_rows=account.reused_rows,
        computed_rows=account.computed_rows,
        held_bytes=account.held_bytes,
    )
    connection.execute(row)


def write_commit(connection: Connection, commit: Commit | None) -> None:
    """Keep how long the outcome before this one took to be committed."""
    if commit is not None:
        row = update(TimingRow).filter_by(**commit.place.columns)
        connection.execute(row.values(commit_began=commit.span.start, commit_seconds=commit.span.seconds))


def write_worker(connection: Connection, token: int, name: str, seat: Seat | None) -> None:
    """Note that the controller with this `token` has a worker of that name, and where, if that is known by now."""
    known = {} if seat is None else {"host": seat.host, "pid": seat.pid, "device": seat.device}
    there = update(WorkerRow).filter_by(token=token, name=name).values(known or {"name": name})
    if connection.execute(there).rowcount == 0:
        connection.execute(insert(WorkerRow).values(token=token, name=name, since=now(), **known))
