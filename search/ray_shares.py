"""Turns on a cluster that several runs share by weight: the actor that gives them, and what a run says to it.

The actor belongs to the run that came first and ends with it. Whoever is left makes another and tells it what it holds.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

from mutant.search.ray_places import Place, places
from mutant.search.ray_start import ray
from mutant.search.shares import Request, Shares

NAMESPACE = "mutant"
SILENT_SECONDS = 60.0
"""A run of which nothing was heard for so long has ended; its turns go to the others."""
HEAR_SECONDS = 1.0
MANY = 100_000

K = TypeVar("K", bound=Hashable)


class Arbiter:
    """Lives in a Ray actor: one for all runs of a cluster that share its places of one unit. Every method runs on its
    one event loop."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._shares = Shares(time.monotonic())
        self._waiting: dict[str, asyncio.Event] = {}
        self._looked = float("-inf")

    async def join(self, run: str, weight: float, holding: Mapping[str, Collection[str]]) -> None:
        self._shares.join(run, weight, time.monotonic(), holding)
        self._settle()

    async def ask(self, request: Request) -> frozenset[str] | None:
        """The places of a turn, when it comes; None when it was withdrawn or this actor does not know the run."""
        if not self._shares.hear(request.run, time.monotonic()):
            return None
        came = self._waiting[request.ticket] = asyncio.Event()
        self._shares.ask(request, time.monotonic())
        self._settle()
        await came.wait()
        return self._shares.turns.get(request.ticket)

    async def done(self, ticket: str) -> None:
        self._shares.done(ticket, time.monotonic())
        self._wake([ticket])
        self._settle()

    async def hear(self, run: str) -> bool:
        known = self._shares.hear(run, time.monotonic())
        self._settle()
        return known

    async def leave(self, run: str) -> None:
        self._wake(self._shares.leave(run, time.monotonic()))
        self._settle()

    def _settle(self) -> None:
        """See who has gone and what places there are, and give the turns that are due."""
        now = time.monotonic()
        if now - self._looked > HEAR_SECONDS:
            self._looked = now
            self._shares.offer([str(place) for place in places(self._unit)])
            for run in self._shares.silent(now, SILENT_SECONDS):
                self._wake(self._shares.leave(run, now))
        self._wake([ticket for ticket, _ in self._shares.grant(now)])

    def _wake(self, tickets: Collection[str]) -> None:
        for ticket in tickets:
            came = self._waiting.pop(ticket, None)
            if came is not None:
                came.set()


class Turns(Generic[K]):
    """The turns of one run with this weight, each for somebody of its own: a worker, or a gang.

    Asked for by `seek`; a call of `calls` that has ended is given to `came`.
    """

    def __init__(self, weight: float, unit: str) -> None:
        self._weight, self._unit = weight, unit
        self._run = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._count = 0
        self._asked: dict[Any, tuple[K, str]] = {}
        self._held: dict[K, tuple[str, frozenset[str]]] = {}
        self._hearing: Any = None
        self._heard = time.monotonic()
        self._arbiter = self._joined()

    @property
    def calls(self) -> Collection[Any]:
        return self._asked.keys()

    def held(self, whom: K) -> list[Place]:
        """The places of somebody's turn; none while it has not come."""
        return sorted((Place.parse(name) for name in self._held[whom][1]), key=str) if whom in self._held else []

    @property
    def whom(self) -> Collection[K]:
        """All who have a turn, or for whom one was asked."""
        return {*self._held, *(whom for whom, _ in self._asked.values())}

    def seek(self, whom: K, *, size: int = 1, among: Collection[Place] | None = None) -> Any:
        """Ask for a turn, unless somebody has one: of `size` places, among these or all. The call that ends with it."""
        for call, (asked, _) in self._asked.items():
            if asked == whom:
                return call
        if whom in self._held:
            return None
        self._count += 1
        ticket = f"{self._run}-{self._count}"
        names = None if among is None else frozenset(str(place) for place in among)
        call = self._arbiter.ask.remote(Request(self._run, ticket, size, names))
        self._asked[call] = whom, ticket
        return call

    def came(self, call: Any) -> bool:
        """Whether a call that has ended brought a turn; else it is to be asked for again."""
        whom, ticket = self._asked.pop(call)
        try:
            found: frozenset[str] | None = ray.get(call)
        except ray.exceptions.RayError:
            found = None
            self._arbiter = self._joined()
        if found is not None:
            self._held[whom] = ticket, found
        return found is not None

    def pass_on(self, whom: K, *, among: Collection[Place]) -> None:
        """Give somebody's turn back and ask for the next, first: else who comes later would always be before it."""
        held = self._held.pop(whom, None)
        self.seek(whom, among=among)
        if held is not None:
            self._arbiter.done.remote(held[0])

    def done(self, whom: K) -> None:
        """Give somebody's turn back, or withdraw what was asked for it."""
        tickets = [self._held.pop(whom)[0]] if whom in self._held else []
        calls = [call for call, (asked, _) in self._asked.items() if asked == whom]
        tickets.extend(self._asked.pop(call)[1] for call in calls)
        for ticket in tickets:
            self._arbiter.done.remote(ticket)

    def clear(self) -> None:
        """Give everything back."""
        for whom in [*self.whom]:
            self.done(whom)

    def look(self) -> None:
        """Say every now and then that this run lives. One that was thought dead joins again."""
        now = time.monotonic()
        if self._hearing is not None and ray.wait([self._hearing], timeout=0.0)[0]:
            known = False
            with suppress(ray.exceptions.RayError):
                known = ray.get(self._hearing)
            self._hearing = None
            if not known:
                self._arbiter = self._joined()
        if self._hearing is None and now - self._heard > HEAR_SECONDS:
            self._heard, self._hearing = now, self._arbiter.hear.remote(self._run)

    def close(self) -> None:
        self.clear()
        with suppress(ray.exceptions.RayError):
            ray.get(self._arbiter.leave.remote(self._run), timeout=10.0)

    def _joined(self) -> Any:
        """The cluster's arbiter, which knows this run and what it holds."""
        named = {"name": f"shares of {self._unit}", "namespace": NAMESPACE, "get_if_exists": True}
        while True:
            found = ray.remote(Arbiter).options(**named, num_cpus=0, max_concurrency=MANY).remote(self._unit)
            holding = {ticket: [*names] for ticket, names in self._held.values()}
            try:
                ray.get(found.join.remote(self._run, self._weight, holding))
            except ray.exceptions.RayActorError:
                time.sleep(0.1)  # its owner is just ending, and its name with it
            else:
                return found
