"""The lease: one controller at a time changes a system's runs, and one that lost its lease can write no more.

A lease has a token that only grows (a fencing token: every write of a run asks for it in its own transaction) and a
beat that its holder counts up. Whoever waits for a lease watches the beat by a clock of its own that only goes forward;
no two machines' clocks are compared and no time of day is read, so clocks that jump change nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.process import Process
from mutant.storage.records import now
from mutant.storage.refusals import Conflict, Held, Superseded
from mutant.storage.schema import CandidateRow, LeaseRow

EXPIRY_SECONDS = 30.0
"""How long a holder may be silent before another takes over."""


@dataclass(frozen=True)
class Lease:
    """Who may change runs, and what for; `process` is None when it was given back."""

    token: int
    process: Process | None
    purpose: str
    beat: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.process} ({self.purpose})"


@decoding()
def load(connection: Connection) -> Lease | None:
    """The lease as it stands; None before the first."""
    row = connection.execute(select(LeaseRow.__table__)).one_or_none()
    if row is None:
        return None
    process = None if row.host is None else checked(Process(row.host, row.boot, row.pid, row.born))
    return checked(Lease(row.token, process, row.purpose, row.beat, row.since))


def holder(connection: Connection) -> Lease | None:
    """The lease, if anybody holds it."""
    lease = load(connection)
    return None if lease is None or lease.process is None else lease


def take(connection: Connection, process: Process, purpose: str) -> Lease:
    """Give the lease to `process`, whoever has it. What the holder before it left in training is STALE."""
    before = load(connection)
    lease = Lease((before.token if before else 0) + 1, process, purpose, 0, now())
    if before is None:
        connection.execute(insert(LeaseRow).values(key=1, **_columns(lease)))
    else:
        connection.execute(update(LeaseRow).values(_columns(lease)))
    leave(connection)
    return lease


def _columns(lease: Lease) -> Mapping[str, Any]:
    process = {} if lease.process is None else asdict(lease.process)
    return {"token": lease.token, "purpose": lease.purpose, "beat": lease.beat, "since": lease.since, **process}


def beat(connection: Connection) -> None:
    """Count the holder's beat up: it lives."""
    connection.execute(update(LeaseRow).values(beat=LeaseRow.beat + 1))


def give_back(connection: Connection) -> None:
    """The holder needs the lease no more."""
    connection.execute(update(LeaseRow).values(host=None))
    leave(connection)


def token(held: Lease | None) -> int:
    """The token of the lease that a store holds. Raises Conflict when it holds none."""
    if held is None:
        raise Conflict("A candidate is leased by who holds the system's lease.")
    return held.token


def leave(connection: Connection) -> None:
    """Nobody trains the candidates that are RUNNING any more."""
    connection.execute(update(CandidateRow).where(CandidateRow.state == "RUNNING").values(state="STALE"))


def check(connection: Connection, held: Lease | None) -> None:
    """Raise Superseded when `held` is another's by now, or Held when somebody has the lease and `held` is None."""
    row = connection.execute(select(LeaseRow.token, LeaseRow.host)).one_or_none()
    if held is not None and (row is None or row.token != held.token or row.host is None):
        raise superseded(load(connection))
    if held is None and row is not None and row.host is not None:
        lease = load(connection)
        assert lease is not None
        raise is_held(lease)


def superseded(lease: Lease | None) -> Superseded:
    by = "" if lease is None or lease.process is None else f" by {lease}"
    return Superseded(
        f"This process was not heard of for too long, and its work was taken over{by}. Nothing more is written here.",
        hint="See: mutant status",
    )


def is_held(lease: Lease) -> Held:
    return Held(
        f"Another process works on this system since {lease.since:%Y-%m-%d %H:%M:%S} UTC: {lease}.",
        hint="Wait for it, or stop it there with Ctrl-C; then: mutant resume. See: mutant status",
    )
