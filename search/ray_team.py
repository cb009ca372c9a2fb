"""The workers of a run on Ray: who is there, who is on the way, who has gone; and why a call of theirs ended."""

import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mutant.activations.limits import CacheLimits
from mutant.search.deaths import Death
from mutant.search.ray_places import Place, at, free, places, reserving, unit
from mutant.search.ray_start import ended, last_line, machines, ray
from mutant.search.ray_worker import ASIDE, About, Worker
from mutant.search.workers import MOST_WORKERS
from mutant.tasks.errors import UserError

CLOSE_SECONDS = 10.0
ROLL_SECONDS = 30.0
"""A worker that was there and does not answer for so long between two children is replaced."""
FAILED_STARTS = 5
"""So many workers that could not start, with none that could between them, and the run gives up."""
CROWDED_SECONDS = 15.0
"""Without a single worker for so long, the person is told."""


@dataclass(eq=False)
class Member:
    """A worker by its number. `about` is what it said of itself when it arrived."""

    slot: int
    actor: Any
    cores: tuple[int, ...]
    place: Place | None = None
    about: About | None = None


class Team:
    """`size` workers of a core for each of their `threads`; with None on a cluster, as many as it has free cores for
    while children wait.

    On this machine (`local`) each worker has cores of its own if there are enough. On a cluster a worker that Ray has
    no core for waits until a machine joins; one whose machine goes away is replaced in the same way. Where runs take
    turns (`shared`), there is a worker in each place, or in `size` of them, and Ray reserves none. A core stands for
    an accelerator where the cluster has any.
    """

    def __init__(
        self,
        size: int | None,
        *,
        local: bool,
        cache: CacheLimits,
        home: str,
        told: Callable[[str], None],
        shared: bool = False,
        threads: int = 1,
        worker: type[Worker] = Worker,
    ) -> None:
        self._size, self._local, self._told, self._shared = size, local, told, shared
        self._threads, self._worker = threads, worker
        self.unit = unit(local=local)
        self._arguments = cache, home
        self._cores = pinned_cores(size, threads) if local and size is not None else []
        self._members: dict[int, Member] = {}
        self._present: dict[Member, About] = {}
        self._arriving: dict[Any, Member] = {}
        self._called: dict[Any, float] = {}
        self._asked: dict[Member, Any] = {}
        self._failed_starts = 0
        self._alone_since: float | None = time.monotonic()
        self._turned = secrets.randbelow(MOST_WORKERS)
        for _ in range(size if size is not None else max(1, self._free())):
            self._add()

    @property
    def arriving(self) -> Collection[Any]:
        """Calls that end when a worker has arrived, to be given to `arrived`."""
        return self._arriving.keys()

    @property
    def present(self) -> Mapping[Member, About]:
        """The workers that can be given something to do."""
        return self._present

    @property
    def members(self) -> Collection[Member]:
        """All workers, those that are on the way among them."""
        return self._members.values()

    def call_roll(self) -> None:
        """Ask everybody who is there to answer before the next child: a worker can die while it has nothing to do."""
        for member in [*self._present]:
            self._expect(member)

    def arrived(self, call: Any) -> About | None:
        """One of `arriving` has ended: what the worker said, or None when there is none; another may be on its way.

        Raises `UserError` when workers cannot start at all.
        """
        member = self._arriving.pop(call)
        self._called.pop(call)
        try:
            about: About = ray.get(call)
        except ray.exceptions.RayError as error:
            known = member.about is not None
            self.lose(member)
            self._failed_starts += not known
            if self._failed_starts >= FAILED_STARTS:
                raise cannot_start(error) from error
            self.grow(1)
            return None
        self._failed_starts, self._alone_since = 0, None
        member.about = self._present[member] = about
        return about

    def await_one(self) -> Member:
        """The first worker that is there, waited for."""
        while not self._present:
            for call in ended(self._arriving, timeout=1.0):
                self.arrived(call)
            self.look(1)
            if not self._arriving and not self._present:  # no machine to have a worker on
                time.sleep(1.0)
        return next(iter(self._present))

    def await_all(self) -> None:
        while self._arriving:
            for call in ended(self._arriving, timeout=None):
                self.arrived(call)

    def look(self, waiting: int) -> None:
        """See who has gone, and let others come while so many children wait for a worker."""
        now = time.monotonic()
        for call, member in [*self._arriving.items()]:
            if member.about is not None and now - self._called[call] > ROLL_SECONDS:
                self.lose(member)
        if not self._local:
            alive = machines()
            for member in [*self._members.values()]:
                if member.about is not None and member.about.node not in alive:
                    self.lose(member)
        self.grow(waiting)
        self._tell_when_alone(now)

    def grow(self, waiting: int) -> None:
        """Let workers come: those that are missing from a fixed number, else one per free core and waiting child."""
        if self._size is not None:
            missing = self._size - len(self._members)
        else:
            coming = sum(member.about is None for member in self._arriving.values())
            wanted = min(waiting, MOST_WORKERS - len(self._members)) - coming
            missing = min(wanted, self._free() - coming) if wanted > 0 else 0
            missing = max(missing, 0 if self._members else 1)
        for _ in range(missing):
            self._add()

    def lose(self, member: Member) -> None:
        """End a worker, if it lives, and count it no more. Whatever it was called for ends with an error."""
        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(member.actor)
        if self._members.get(member.slot) is member:
            del self._members[member.slot]
        self._present.pop(member, None)
        self._asked.pop(member, None)
        for call in [call for call, arriving in self._arriving.items() if arriving is member]:
            del self._arriving[call], self._called[call]
        if self._alone_since is None and not self._members:
            self._alone_since = time.monotonic()

    def heard(self, busy: Collection[Member]) -> dict[Member, float]:
        """How far those who answered since the last time say they are; then all that are `busy` are asked again."""
        asked = {call: member for member, call in self._asked.items()}
        found: dict[Member, float] = {}
        for call in ended(asked, every=True):
            member = asked[call]
            del self._asked[member]
            with suppress(ray.exceptions.RayError):  # the call that it runs tells
                found[member] = ray.get(call)
        for member in busy:
            if member not in self._asked:
                self._asked[member] = aside(member.actor.progress)
        return found

    def death(self, member: Member, error: Exception, *, hung_for: float | None = None) -> Death:
        """Why a worker that ended with `error` did; with `hung_for`, because it had made no progress for so long."""
        if hung_for is not None:
            return Death("hung", f"no progress for {hung_for:.0f} s")
        return death_of(error, gone=self._gone(member))

    def close(self) -> None:
        closing = [member.actor.close.remote() for member in self.members if member.about is not None]
        ended(closing, timeout=CLOSE_SECONDS, every=True)
        for member in [*self._members.values()]:
            self.lose(member)

    def _gone(self, member: Member) -> bool:
        """Whether Ray knows that the machine of a worker has gone."""
        if self._local or member.about is None:
            return False
        return member.about.node not in machines()

    def _add(self) -> None:
        place = next(iter(self._untaken()), None) if self._shared else None
        if self._shared and place is None:
            return
        slot = next(slot for slot in range(len(self._members) + 1) if slot not in self._members)
        taken = {member.cores for member in self._members.values()}
        cores = next((own for own in self._cores if own not in taken), ())
        options = at(place, self.unit) if place is not None else reserving(self.unit, self._size, self._threads)
        made = ray.remote(concurrency_groups={ASIDE: 1})(self._worker).options(**options)
        member = self._members[slot] = Member(slot, made.remote(cores, *self._arguments), cores, place)
        self._expect(member)

    def _expect(self, member: Member) -> None:
        self._present.pop(member, None)
        call = aside(member.actor.about)
        self._arriving[call], self._called[call] = member, time.monotonic()

    def _tell_when_alone(self, now: float) -> None:
        if not self._local and self._alone_since is not None and now - self._alone_since > CROWDED_SECONDS:
            self._alone_since = float("inf")
            self._told("The Ray cluster has no core free for a worker: waiting for one.")

    def _free(self) -> int:
        """Places of the cluster that nobody has; where runs take turns, that this one has no worker in."""
        return len(self._untaken()) if self._shared else free(self.unit, self._threads)

    def _untaken(self) -> list[Place]:
        """Places without a worker of this run, from a random one on, so that runs with few workers do not meet."""
        taken, there = {member.place for member in self._members.values()}, places(self.unit)
        turned = self._turned % max(1, len(there))
        return [place for place in (*there[turned:], *there[:turned]) if place not in taken]


def aside(method: Any) -> Any:
    """Call an actor's method on its second thread, which answers while the first one trains."""
    return method.options(concurrency_group=ASIDE).remote()


def death_of(error: Exception, *, gone: bool) -> Death:
    """What Ray says of a worker's end; `gone`: its machine has left.

    Ray's own watch over memory ends a worker with OutOfMemoryError. The system's kills it without a word, so that this
    is a lost worker like any other.
    """
    away = (
        ray.exceptions.NodeDiedError,
        ray.exceptions.ActorUnavailableError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.ActorUnschedulableError,
    )
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Death("out of memory", "Ray ended it, since its machine had hardly any memory left")
    if gone or isinstance(error, away) or getattr(error, "preempted", False) or "node has died" in str(error):
        return Death("preempted", last_line(error))
    return Death("worker lost", last_line(error))


def cannot_start(error: Exception) -> UserError:
    """What a person is told when one worker after the other ended before it had arrived."""
    return UserError(
        f"Workers cannot start on Ray: {last_line(error)}",
        hint="The Python environment must be the same on every machine. See Ray's logs: ray logs",
    )


def no_room(cause: BaseException | None) -> bool:
    """Whether a worker's training, or its result in Ray's object store, found no memory."""
    full = ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError
    return isinstance(cause, MemoryError | full[0] | full[1])


def pinned_cores(workers: int, threads: int = 1) -> list[tuple[int, ...]]:
    """Cores for the `threads` of each worker when there are enough, else none: no pinning."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if workers * threads > len(cores):
        return [()] * workers
    return [tuple(cores[first * threads : (first + 1) * threads]) for first in range(workers)]
