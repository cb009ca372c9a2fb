"""The evaluator on Ray: children to warm workers, each again elsewhere when its worker dies, hangs or goes away.

`ray_team.py` knows who the workers are, `ray_worker.py` is what one does; both have Ray from `ray_start.py`.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mutant.activations.homes import private_name
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images
from mutant.component import Component
from mutant.outcome import Failed, Outcome, Trained
from mutant.path import Path
from mutant.search.deaths import Death, verdict
from mutant.search.evaluator import Begun, Chain, Flops, Listed, Source, Supply, Work, unheard
from mutant.search.heartbeat import Heartbeats, patience, period
from mutant.search.kinds import Rates, deal
from mutant.search.prediction import FLOPS_PER_SECOND
from mutant.search.ray_shelf import ObjectShelf
from mutant.search.ray_start import ended, last_line, ray, start
from mutant.search.ray_team import Member, Team, aside, no_room
from mutant.search.ray_turns import AtWill, Beginning, ByTurns
from mutant.search.ray_worker import About, Worker
from mutant.search.workers import OWN_RAY, Terms

MANY = 1_000
LOOK_SECONDS = 1.0
"""How often a cluster is asked who is there, at least."""


class RayEvaluator:
    """Trains candidates on `workers` actors of this machine's Ray, or of the cluster that `terms` name.

    With None on a cluster there are as many as it has free cores. The workers of a host share its activations, up to
    the limits `cache`, in the directory that `home` names. One that makes no progress for `patience` seconds (None:
    `heartbeat.patience`) is ended, and its child trained again. With `share` the runs that have one take turns, each
    by that weight. `worker` is what lives in the actors.
    """

    def __init__(
        self,
        workers: int | None,
        *,
        terms: Terms = OWN_RAY,
        cache: CacheLimits = CacheLimits(),
        home: str | None = None,
        told: Callable[[str], None] = lambda text: None,
        worker: type[Worker] = Worker,
    ) -> None:
        self._owns_ray = not ray.is_initialized()
        self._watchdog = start((workers or 1) * terms.threads, terms.address) if self._owns_ray else None
        self._cache, self._home, self._told = cache, home or private_name(), told
        shared = terms.share is not None
        self._team = Team(
            workers,
            local=terms.address is None,
            cache=cache,
            home=self._home,
            told=told,
            shared=shared,
            threads=terms.threads,
            worker=worker,
        )
        self._beginning: Beginning = AtWill() if terms.share is None else ByTurns(terms.share, self._team.unit)
        self._hearts: Heartbeats[Any] = Heartbeats(terms.patience)
        self._pause = period(terms.patience) if terms.address is None else min(LOOK_SECONDS, period(terms.patience))
        self._looked = time.monotonic()
        self._rates = Rates(FLOPS_PER_SECOND)
        self._shift: _Shift | None = None
        self._shelf = ObjectShelf()

    @property
    def present(self) -> Mapping[int, About]:
        """What the workers that are there now say of themselves, by number."""
        return {m.slot: about for m, about in sorted(self._team.present.items(), key=lambda item: item[0].slot)}

    @property
    def abouts(self) -> Mapping[int, About]:
        """The same when all have arrived, which is waited for."""
        self._team.await_all()
        return self.present

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, for those who want to watch (or kill) one."""
        return [about.pid for about in self.abouts.values()]

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self._worked_off(_Shift(Listed(work), everything=True), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self._worked_off(_Shift(source), supply, begun)

    def _worked_off(self, shift: "_Shift", supply: Supply, begun: Begun) -> Iterator[tuple[int, Outcome]]:
        try:
            yield from self._outcomes(shift, supply, begun)
        finally:
            self._beginning.rest()

    def _outcomes(self, shift: "_Shift", supply: Supply, begun: Begun) -> Iterator[tuple[int, Outcome]]:
        work, self._shift = shift.work, shift
        self._shelf.keep_for(shift.around)
        self._hearts.clear()
        self._team.call_roll()
        heard = list[tuple[int, Outcome]]()
        while shift.take(self._team.present) or (shift.lazy and not self._team.present):
            for index, member in self._dealt(shift):
                begun(index, f"worker {member.slot}", member.about.seat if member.about else None)
                if shift.is_new(index):
                    self._shelf.keep_for(shift.around)
                try:
                    parcel = self._shelf.parcel(work[index], supply, work[shift.waiting[0]] if shift.waiting else None)
                except MemoryError as error:
                    yield index, Failed(work[index].candidate.id, "out of memory", f"preparing its data: {error}")
                    continue
                call = member.actor.train.remote(parcel)
                shift.running[call] = index, member
                self._hearts.begin(call, self._seconds(work[index], member))
            yield from heard  # by now its worker has the next child, where that was planned before
            heard.clear()
            self._fill(shift, supply)
            call = self._next(shift)
            if call is None:
                continue
            index, member = shift.running.pop(call)
            self._hearts.end(call)
            self._beginning.ended(member, more=shift.demand > 0)
            outcome = self._result(call, work[index], member, shift, index)
            if outcome is None:
                begun(index, None)
                shift.waiting.appendleft(index)
            elif shift.lazy:
                yield index, outcome
                shift.forget(index)
            else:
                heard.append((index, outcome))
        yield from heard
        self._pass_on_notices()

    def _dealt(self, shift: "_Shift") -> list[tuple[int, Member]]:
        """Children that begin now and their workers; taken from those that wait."""
        free = shift.idle(self._team.present)
        idle = self._beginning.among(free, self._team.members, wanted=bool(shift.waiting))
        if not shift.waiting or not idle:
            return []
        known = {member: member.about for member in self._team.members if member.about is not None}
        rates = {member: self._rates.of(about.kind) for member, about in known.items()}
        costs = [shift.work[index].flops for index in shift.waiting]
        found = deal(costs, {place: rates[member] for place, member in enumerate(idle)}, [*rates.values()])
        dealt = [(shift.waiting[place], idle[who]) for place, who in found]
        for index, _ in dealt:
            shift.waiting.remove(index)
        return dealt

    def _next(self, shift: "_Shift") -> Any | None:
        """A child's call that has ended; None when first there is something else to see to."""
        self._look(shift)
        calls = (*shift.running, *shift.filling.calls, *self._team.arriving, *self._beginning.calls)
        if not calls:
            self._team.grow(1)
            time.sleep(0 if self._team.arriving else self._pause)
        for call in ended(calls, timeout=self._pause):
            if call in shift.running:
                return call
            if call in shift.filling.calls:
                self._filled(shift.filling, call)
            elif call in self._beginning.calls:
                self._beginning.came(call)
            else:
                self._arrived(call)
        return None

    def _look(self, shift: "_Shift") -> None:
        """Every now and then: who hangs, who has gone, who could come."""
        now = time.monotonic()
        if now - self._looked < self._pause:
            return
        passed, self._looked = min(now - self._looked, 2 * self._pause), now
        self._beginning.look()
        calls = {member: call for call, (_, member) in shift.running.items()}
        for member, count in self._team.heard(calls.keys()).items():
            if member in calls:
                self._hearts.hear(calls[member], count)
        for call, silent in self._hearts.look(passed):
            shift.hung[call] = silent
            self._team.lose(shift.running[call][1])
        self._team.look(shift.demand)

    def _arrived(self, call: Any) -> None:
        about = self._team.arrived(call)
        if about is not None:
            self._rates = self._rates.assuming(about.kind, about.rate)

    def _seconds(self, work: Work, member: Member) -> float:
        """A guess of what a child takes on a worker, the larger one of two."""
        kind = member.about.kind if member.about is not None else ""
        return max(work.seconds, work.flops / self._rates.of(kind))

    def _result(self, call: Any, work: Work, member: Member, shift: "_Shift", index: int) -> Outcome | None:
        """The outcome of a call that has ended, or None when the child deserves another."""
        candidate = work.candidate.id
        try:
            outcome: Outcome = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            lost = isinstance(error.cause, ray.exceptions.ObjectLostError)
            if not lost:
                return Failed(candidate, "out of memory" if no_room(error.cause) else "error", last_line(error))
            self._shelf.clear()  # what lay on a machine that has gone is put into the store again
            death = self._team.death(member, error.cause)
        except ray.exceptions.RayError as error:
            death = self._team.death(member, error, hung_for=shift.hung.pop(call, None))
            self._team.lose(member)
            self._team.grow(shift.demand + 1)
        else:
            if isinstance(outcome, Trained) and member.about is not None:
                self._rates = self._rates.after(member.about.kind, outcome.cost)
            return outcome
        shift.deaths.setdefault(index, []).append(death)
        return verdict(candidate, shift.deaths[index])

    def _fill(self, shift: "_Shift", supply: Supply) -> None:
        """Let workers that have no child to train compute activations for those who have, until all are kept."""
        filling = shift.filling
        if self._cache.off or not shift.running or not self._beginning.fills:
            return
        running = [shift.work[index] for index, _ in shift.running.values()]
        for member in shift.idle(self._team.present):
            item = filling.next(running) if member not in filling.calls.values() else None
            if item is not None:
                call = member.actor.fill.remote(self._shelf.parcel(item, supply))
                filling.calls[call] = member
                filling.prefixes[call] = item.prefix

    def _filled(self, filling: "_Filling", call: Any) -> None:
        member, prefix = filling.calls.pop(call), filling.prefixes.pop(call)
        try:
            computed = ray.get(call)
        except ray.exceptions.RayTaskError:
            computed = 0  # the child that needs it meets the error itself
        except ray.exceptions.RayError:
            computed = 0
            self._team.lose(member)
            self._team.grow(1)
        if computed == 0:
            filling.complete.add(prefix)

    def _pass_on_notices(self) -> None:
        calls = [aside(member.actor.notices) for member in self._team.present]
        for call in ended(calls, timeout=LOOK_SECONDS, every=True):
            with suppress(ray.exceptions.RayError):
                for text in ray.get(call):
                    self._told(text)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        seconds = path.flops * len(images) / FLOPS_PER_SECOND
        return self._asked(lambda actor: actor.answer.remote(path, components, images), seconds=seconds)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        """Counted by every worker, for all of them will need JAX and these counts; the first one's answer is taken. By
        one that has no child while others train."""
        training = self._shift is not None and bool(self._shift.running)
        return self._asked(lambda actor: actor.flops.remote(chains), everybody=not training)

    def _asked(self, call: Callable[[Any], Any], *, everybody: bool = False, seconds: float = 0.0) -> Any:
        """What the first worker without a child answers to a call of about so many `seconds`, or another one when it
        dies, hangs or goes away.

        `everybody` does it; the others' answers are not waited for.
        """
        allowed = max(patience(None, seconds, 0.0), self._hearts.asked or 0.0)
        deaths: list[Death] = []
        while True:
            idle = self._shift.idle(self._team.present) if self._shift is not None and self._shift.running else []
            if not idle:
                self._team.call_roll()
            member = idle[0] if idle else self._team.await_one()
            for other in self._team.members if everybody else ():
                if other is not member:
                    call(other.actor)
            try:
                return ray.get(call(member.actor), timeout=allowed)
            except ray.exceptions.RayTaskError:
                raise
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.GetTimeoutError,
                ray.exceptions.NodeDiedError,
            ) as error:
                deaths.append(self._team.death(member, error))
                self._team.lose(member)
                self._team.grow(1)
                if verdict("", deaths) is not None:
                    raise

    def close(self) -> None:
        self._beginning.close()
        self._team.close()
        self._shelf.clear()
        if self._owns_ray:
            ray.shutdown()
        if self._watchdog is not None:
            self._watchdog.end()


@dataclass
class _Filling:
    """Calls of a generation that compute activations ahead: the worker and the prefix of each, and what is complete."""

    source: Source
    calls: dict[Any, Member] = field(default_factory=dict[Any, Member])
    prefixes: dict[Any, tuple[str, ...]] = field(default_factory=dict[Any, tuple[str, ...]])
    complete: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])

    def next(self, running: Sequence[Work]) -> Work | None:
        """One whose prefix is not complete yet: of those that are being trained, else of the generation."""
        busy = {*self.prefixes.values(), *self.complete}
        return next((item for item in (*running, *self.source.around) if item.prefix and item.prefix not in busy), None)


class _Shift:
    """What one call trains: who waits and what runs where, by index; what has died under whom, and hung.

    `everything` that the source has waits from the beginning, so that it can be dealt; else a child is taken from it
    for each worker that has none.
    """

    def __init__(self, source: Source, *, everything: bool = False) -> None:
        self.source = source
        self.work: dict[int, Work] = {}
        self.waiting: deque[int] = deque()
        self.running: dict[Any, tuple[int, Member]] = {}
        self.deaths: dict[int, list[Death]] = {}
        self.hung: dict[Any, float] = {}
        self.filling = _Filling(source)
        self.lazy, self._more, self._new = not everything, True, 0
        while everything and self._taken(""):
            pass

    def take(self, present: Collection[Member]) -> bool:
        """Take a child for each worker without one, unless all were; whether there is anything to do."""
        if self.lazy:
            self._more = True
            for member in self.idle(present)[len(self.waiting) :]:
                self._more = self._more and self._taken(f"worker {member.slot}")
        return bool(self.waiting or self.running)

    def _taken(self, worker: str) -> bool:
        taken = self.source.take(worker)
        if taken is not None:
            self.work[taken[0]] = taken[1]
            self.waiting.append(taken[0])
        return taken is not None

    def forget(self, index: int) -> None:
        """A child of a source that goes on has its outcome."""
        if self.lazy:
            del self.work[index]

    def is_new(self, index: int) -> bool:
        """Whether a child of a source that goes on is the first of another generation's worth."""
        self._new += self.lazy and index not in self.deaths
        return self.lazy and self._new % max(1, len(self.source.around)) == 0

    @property
    def around(self) -> Sequence[Work]:
        """All whose components are worth keeping at hand."""
        under_way = (*self.waiting, *(index for index, _ in self.running.values()))
        return [*self.source.around, *(self.work[index] for index in under_way)] if self.lazy else self.source.around

    @property
    def demand(self) -> int:
        """How many children wait for a worker; many where the source goes on."""
        return len(self.waiting) + (MANY if self.lazy and self._more else 0)

    def idle(self, present: Collection[Member]) -> list[Member]:
        """Those who are there and train no child."""
        if len(self.running) >= len(present):
            return []
        busy = {member for _, member in self.running.values()}
        return [member for member in present if member not in busy]
