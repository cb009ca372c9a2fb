"""Children trained by gangs: several Ray actors each, placed all or none, gone with the child (arXiv 2203.12533, 4.4).

Two gangs never hold a part each of what both need (`ray_rooms.py`). Places are asked for in the order of the children,
and so they come.
"""

import os
import platform
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mutant.activations.homes import private_name
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images
from mutant.component import Component
from mutant.outcome import Failed, Outcome, Trained
from mutant.path import Path
from mutant.recorder import Recorder
from mutant.search.deaths import Death, verdict
from mutant.search.evaluator import Begun, Chain, Flops, Listed, Source, Supply, Work, unheard
from mutant.search.heartbeat import Heartbeats, period
from mutant.search.ray_clerk import Clerk
from mutant.search.ray_places import unit
from mutant.search.ray_rooms import ByTurn, Reserved, Rooms
from mutant.search.ray_shelf import ObjectShelf
from mutant.search.ray_slices import OnSlices, fitting, whole_slices
from mutant.search.ray_start import ended, last_line, machines, ray, start
from mutant.search.ray_team import CROWDED_SECONDS, aside, death_of, no_room
from mutant.search.ray_worker import ASIDE, KIND, About, Parcel, Worker, kind_of
from mutant.search.workers import OWN_RAY, Gangs, Terms
from mutant.spans import Seat
from mutant.tasks.errors import UserError

LOOK_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""A member may fail because another one died, of which Ray tells a moment later; so long a failure is not believed."""


class GangWorker(Worker):
    """Lives in a Ray actor: one member of a gang. It trains one child, and is gone with it."""

    def about(self) -> About:
        """What it is, as Ray knows it: JAX must not start before the gang has met."""
        node = ray.get_runtime_context().get_node_id()
        types = [name.split(":", 1)[1] for name in machines().get(node, ()) if name.startswith("accelerator_type:")]
        kind, rate = kind_of(os.environ.get(KIND) or next(iter(types), None))
        return About(os.getpid(), node, kind, rate, host=platform.node())

    def address(self) -> str:
        """Where the gang can meet: this machine and a port that is free."""
        with socket.socket() as held:
            held.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{held.getsockname()[1]}"

    def train_with(self, parcel: Parcel, rank: int, size: int, coordinator: str, sharded: bool) -> Outcome | None:
        """Train the child with the others; all have the outcome, rank 0 tells it, and who failed tells that."""
        from mutant.gang import Membership, join
        from mutant.train import train

        recorder = Recorder()
        gang = join(Membership(rank, size, coordinator), sharded=sharded)
        given = self._unpacked(parcel)
        outcome = train(*given, self._cache, pulse=self._pulse, recorder=recorder, gang=gang)
        return outcome if rank == 0 or isinstance(outcome, Failed) else None


@dataclass(eq=False)
class _Gang:
    """A child that waits for its places, then the actors in them and their calls, by rank: first those that end when
    they have arrived, then those of the training; `said` is what these ended with."""

    index: int
    work: Work
    slot: int
    actors: list[Any] = field(default_factory=list[Any])
    arriving: list[Any] = field(default_factory=list[Any])
    calls: list[Any] = field(default_factory=list[Any])
    said: dict[int, Outcome | None] = field(default_factory=dict[int, Outcome | None])
    failed_at: float | None = None
    hung_for: float | None = None

    @property
    def open(self) -> list[Any]:
        """Calls that have not been heard of; of those that arrive the ones that are waited for."""
        if self.arriving:
            there = {*ended(self.arriving, every=True)}
            return [call for call in self.arriving if call not in there] or self.arriving
        return [call for rank, call in enumerate(self.calls) if rank not in self.said]

    @property
    def outcome(self) -> Outcome | None:
        """What rank 0 said, or that somebody failed, once that can be believed."""
        if isinstance(done := self.said.get(0), Trained):
            return done
        failed = next((said for _, said in sorted(self.said.items()) if said is not None), None)
        waited = self.failed_at is not None and time.monotonic() - self.failed_at > GRACE_SECONDS
        return failed if waited or len(self.said) == len(self.calls) else None


class GangEvaluator:
    """Trains every child by a gang of processes; as many gangs at a time as `workers` make, or, with None on a
    cluster, as many as Ray has places for.

    A gang of which one member ends is ended whole, and its child trained again with the same identity, as often as
    `deaths` says. Paths are asked for answers, and FLOPs counted, by a clerk. With `share` the runs that have one take
    turns, each by that weight.
    """

    def __init__(
        self,
        workers: int | None,
        gangs: Gangs,
        *,
        terms: Terms = OWN_RAY,
        cache: CacheLimits = CacheLimits(),
        home: str | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._size, self._sharded, self._local = gangs.size, gangs.sharded, terms.address is None
        self._owns_ray = not ray.is_initialized()
        self._threads = terms.threads
        self._watchdog = start((workers or gangs.size) * terms.threads, terms.address) if self._owns_ray else None
        self._most = None if workers is None else max(1, workers // gangs.size)
        self._arguments = (), cache, home or private_name()
        self._hearts: Heartbeats[_Gang] = Heartbeats(terms.patience)
        self._pause = min(LOOK_SECONDS, period(terms.patience))
        self._shelf = ObjectShelf()
        self._pulses: dict[Any, _Gang] = {}
        self._told, self._waits_since = told, float("inf")
        try:
            self._rooms: Rooms[_Gang] = self._found_rooms(terms.share)
            self._clerk = Clerk(cache, self._arguments[-1])
        except BaseException:
            self._end_ray()
            raise

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        again: deque[tuple[int, Work]] = deque()
        forming: list[_Gang] = []
        running: list[_Gang] = []
        deaths: dict[str, list[Death]] = {}
        asking, looked = True, time.monotonic()
        self._waits_since = looked
        try:
            while True:
                if (asking or again) and not forming and (self._most is None or len(running) < self._most):
                    slot = next(n for n in range(len(running) + 1) if n not in {gang.slot for gang in running})
                    taken = again.popleft() if again else source.take(f"gang {slot}")
                    if taken is None:
                        asking = False
                    else:
                        forming.append(_Gang(*taken, slot))
                if not forming and not running:
                    return
                for gang in self._formed(forming):
                    self._start(gang)
                    running.append(gang)
                ended([*map(self._rooms.seek, forming), *(call for gang in running for call in gang.open)], self._pause)
                passed = min(time.monotonic() - looked, 2 * self._pause)
                looked = time.monotonic()
                self._look(running, passed)
                self._tell_when_waiting(looked, waits=not running)
                for gang in [*running]:
                    if gang.arriving:
                        around = [*source.around, *(other.work for other in running)]
                        end = self._arrived(gang, partial(self._begin, gang, supply, begun, around))
                    else:
                        end = self._heard(gang) or gang.outcome
                    if end is None:
                        continue
                    running.remove(gang)
                    self._end(gang)
                    outcome = self._judged(gang, end, deaths)
                    if outcome is None:
                        if gang.calls:
                            begun(gang.index, None)
                        again.append((gang.index, gang.work))
                    else:
                        asking = True
                        yield gang.index, outcome
        finally:
            for gang in (*running, *forming):
                self._end(gang)

    def _found_rooms(self, share: float | None) -> Rooms[_Gang]:
        """Who gives gangs their places. Raises `UserError` when none will ever fit into what there is."""
        cores = ray.cluster_resources().get("CPU", 0)
        if self._local and cores < self._size * self._threads:
            raise UserError(
                f"A gang of {self._size} has no place among {cores / self._threads:.0f} workers.",
                hint=f"Ask for more: --workers {self._size}",
            )
        found = unit(local=self._local)
        if found == "TPU" and share is not None:
            raise UserError(
                "Runs that share a cluster take turns at single places, and a gang on TPUs takes a whole slice.",
                hint="Leave --share out: slices go to who asks first.",
            )
        if found == "TPU":
            return OnSlices(fitting(whole_slices().values(), self._size), self._threads)
        there = ray.cluster_resources().get(found, 0)
        if self._local and there < self._size:
            raise UserError(
                f"A gang of {self._size} has no place on the {there:.0f} accelerators of this machine.",
                hint="Ask for fewer, or for none: JAX_PLATFORMS=cpu trains it on cores.",
            )
        return Reserved(self._size, found, self._threads) if share is None else ByTurn(self._size, found, share)

    def _formed(self, forming: list[_Gang]) -> list[_Gang]:
        """Gangs that have their places now, taken from those that wait for them."""
        calls = {self._rooms.seek(gang): gang for gang in forming}
        formed = [calls[call] for call in ended(calls, every=True) if self._rooms.came(calls[call], call)]
        for gang in formed:
            forming.remove(gang)
        return formed

    def _start(self, gang: _Gang) -> None:
        """Let a gang's actors come into their places."""
        made = ray.remote(concurrency_groups={ASIDE: 1})(GangWorker)
        for rank in range(self._size):
            gang.actors.append(made.options(**self._rooms.options(gang, rank)).remote(*self._arguments))
        gang.arriving = [aside(actor.about) for actor in gang.actors]
        self._hearts.begin(gang, 0.0)

    def _arrived(self, gang: _Gang, begin: Callable[[Seat], Failed | None]) -> Death | Failed | None:
        """Begin the child once all actors have arrived; the death of one that could not, or the child's failure."""
        if len(ended(gang.arriving, every=True)) < len(gang.arriving):
            return None
        try:
            abouts: list[About] = ray.get(gang.arriving)
        except ray.exceptions.RayError as error:
            return self._death(gang, error)
        gang.arriving = []
        kinds = Counter(about.kind for about in abouts)
        device = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        return begin(replace(abouts[0].seat, device=device))

    def _judged(self, gang: _Gang, end: Death | Outcome, deaths: dict[str, list[Death]]) -> Outcome | None:
        """The outcome of a child whose gang has ended, or None when it deserves another."""
        if not isinstance(end, Death):
            return end
        candidate = gang.work.candidate.id
        deaths.setdefault(candidate, []).append(end)
        return verdict(candidate, deaths[candidate])

    def _begin(self, gang: _Gang, supply: Supply, begun: Begun, around: Sequence[Work], seat: Seat) -> Failed | None:
        """Give a gang's actors the child, and tell where it is: in rank 0's process, and on what all compute. A failure
        where its data cannot be had."""
        begun(gang.index, f"gang {gang.slot}", seat)
        self._shelf.keep_for(around)
        try:
            parcel = self._shelf.parcel(gang.work, supply)
        except MemoryError as error:
            return Failed(gang.work.candidate.id, "out of memory", f"preparing its data: {error}")
        coordinator = gang.actors[0].address.remote()
        for rank, actor in enumerate(gang.actors):
            gang.calls.append(actor.train_with.remote(parcel, rank, self._size, coordinator, self._sharded))
        self._hearts.begin(gang, gang.work.seconds)
        return None

    def _heard(self, gang: _Gang) -> Death | None:
        """Note what members said whose calls ended; the death of one that ended otherwise."""
        for call in ended(gang.open, every=True):
            said: Outcome | None
            try:
                said = ray.get(call)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ray.exceptions.ObjectLostError):
                    self._shelf.clear()  # what lay on a machine that has gone is put into the store again
                    return Death("preempted", last_line(error))
                kind = "out of memory" if no_room(error.cause) else "error"
                said = Failed(gang.work.candidate.id, kind, last_line(error))
            except ray.exceptions.RayError as error:
                return self._death(gang, error)
            gang.said[gang.calls.index(call)] = said
            if isinstance(said, Failed) and gang.failed_at is None:
                gang.failed_at = time.monotonic()
        return None

    def _death(self, gang: _Gang, error: Exception) -> Death:
        if gang.hung_for is not None:
            return Death("hung", f"no progress for {gang.hung_for:.0f} s")
        return death_of(error, gone=self._gone(gang))

    def _look(self, running: Sequence[_Gang], passed: float) -> None:
        """Hear from rank 0 of every gang, and end those that make no progress: one that waits is waited for by all."""
        for call in ended(self._pulses, every=True):
            gang = self._pulses.pop(call)
            with suppress(ray.exceptions.RayError):
                self._hearts.hear(gang, ray.get(call))
        self._rooms.look()
        asked = set(self._pulses.values())
        for gang in running:
            if gang not in asked:
                self._pulses[aside(gang.actors[0].progress)] = gang
        for gang, silent in self._hearts.look(passed):
            gang.hung_for = silent
            for actor in gang.actors:
                ray.kill(actor)

    def _tell_when_waiting(self, now: float, *, waits: bool) -> None:
        """Tell, once, that for long there was no gang that had its places."""
        if not waits:
            self._waits_since = now
        elif now - self._waits_since > CROWDED_SECONDS:
            self._waits_since = float("inf")
            self._told(f"A gang waits for {self._rooms.wanted()}.")

    def _gone(self, gang: _Gang) -> bool:
        return not self._local and not {*self._rooms.nodes(gang)} <= {*machines()}

    def _end(self, gang: _Gang) -> None:
        """Take a gang down, whole: its actors, and what was reserved for them."""
        self._hearts.end(gang)
        self._pulses = {call: other for call, other in self._pulses.items() if other is not gang}
        for actor in gang.actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor)
        self._rooms.done(gang)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return self._clerk.answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return self._clerk.flops(chains)

    def close(self) -> None:
        self._clerk.close()
        self._rooms.close()
        self._shelf.clear()
        self._end_ray()

    def _end_ray(self) -> None:
        if self._owns_ray:
            ray.shutdown()
        if self._watchdog is not None:
            self._watchdog.end()
