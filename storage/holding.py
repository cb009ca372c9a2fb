"""Holding a system's lease while a block lasts: taken or waited for, kept by a thread that beats, given back."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mutant.storage import facts, leases
from mutant.storage.leases import Lease
from mutant.storage.process import Process
from mutant.storage.refusals import Superseded
from mutant.storage.store import Store
from mutant.storage.sweep import sweep
from mutant.tasks.errors import UserError


@dataclass(frozen=True)
class Pace:
    """How often a holder beats, and how long it may be silent before another takes over; both in seconds."""

    beat: float = 2.0
    expiry: float = leases.EXPIRY_SECONDS


Told = Callable[[str], None]


@contextmanager
def holding(
    store: Store, purpose: str, *, told: Told = lambda _: None, pace: Pace = Pace(), process: Process | None = None
) -> Generator[Lease]:
    """Hold the lease of the store's system: meanwhile `store` alone may change runs.

    A holder whose process is gone from this machine loses the lease at once, another when it was silent for
    `pace.expiry` seconds; `told` hears of both, and, from the thread that beats, when that fails for half as long.
    Raises Held when the holder is alive.
    """
    lease = _acquire(store, purpose, process or Process.here(), told, pace)
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(store, stop, pace, told), name="lease", daemon=True)
    try:
        store.lease = lease
        thread.start()
        _sweep(store, told)
        yield lease
    finally:
        stop.set()
        thread.join()
        with suppress(UserError):  # taken over, or a database that cannot be reached: nothing to give back
            store.give_lease_back()
        store.lease = None


def _acquire(store: Store, purpose: str, process: Process, told: Told, pace: Pace) -> Lease:
    seen: Lease | None = None
    expiry = 0.0
    while True:
        with store.writing() as connection:
            holder = leases.load(connection)
            if holder is None or holder.process is None:
                return leases.take(connection, process, purpose)
            silent = seen == holder and time.monotonic() > expiry
            if silent or holder.process.is_gone():
                why = f"has been silent for {pace.expiry:g} s" if silent else "is gone"
                told(f"{holder} {why}: taking over.")
                lease = leases.take(connection, process, purpose)
                facts.write_event(connection, None, "taken over", {"from": str(holder), "why": why, "by": str(lease)})
                return lease
        if seen is None:
            told(f"Waiting to hear from {holder} ...")
            seen, expiry = holder, time.monotonic() + pace.expiry
        elif seen != holder:
            raise leases.is_held(holder)
        time.sleep(min(0.2, pace.beat / 4))


def _sweep(store: Store, told: Told) -> None:
    """Delete what an earlier holder's crash left loose; a store that cannot be reached stops whoever needs it later."""
    try:
        found = sweep(store)
    except Superseded:
        raise
    except UserError as error:
        told(f"Loose blobs were not swept: {error}")
        return
    if found.blobs:
        told(f"Swept {found.blobs:,} loose blobs ({found.bytes:,} bytes) that a crash had left.")


def _beat(store: Store, stop: threading.Event, pace: Pace, told: Told) -> None:
    """Until told to stop, or until the lease is lost; the next write of the run then says so.

    Whatever else goes wrong costs a beat, not the lease: a database may be busy or away for a moment. When it lasts,
    `told` hears of it once.
    """
    beaten, known = time.monotonic(), False
    while not stop.wait(pace.beat):
        try:
            with store.writing() as connection:
                leases.beat(connection)
            beaten, known = time.monotonic(), False
        except Superseded:
            return
        except Exception as error:
            passed = time.monotonic() - beaten
            if passed > pace.expiry / 2 and not known:
                known = True
                why = error.message.rstrip(".") if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                told(
                    f"The lease was not renewed for {passed:.0f} s ({why}). After {pace.expiry:g} s another process "
                    "may take this one's work over; it is tried again."
                )
