"""Whose turn it is on places that several runs share by weight (Pathways' proportional shares, arXiv 2203.12533, 4.4).

A run's virtual time grows by the device seconds that it was given over its weight; who has the least of it comes first
(start-time fair queueing). Gangs of several places are given all or none. Nobody who comes later takes a place that
somebody before waits for, so that gangs do not starve, and all are served in one order, so that no two wait for each
other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

CREDIT_SECONDS = 10.0
"""Device seconds that a run which had nothing to do may claim of the others when it comes back."""


@dataclass(frozen=True)
class Request:
    """A run asks for `size` places, any of those named `among`, or of all: for a gang, or for a worker that it has."""

    run: str
    ticket: str
    size: int = 1
    among: frozenset[str] | None = None


@dataclass
class Sharer:
    """A run: its weight, the device seconds that it was given, its virtual time, and when it was last heard of."""

    weight: float
    spent: float
    virtual: float
    heard: float
    waiting: list[Request] = field(default_factory=list[Request])


class Shares:
    """Places, who has which, and who waits. Times are seconds of one clock, given with every call."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._places: set[str] = set()
        self._runs: dict[str, Sharer] = {}
        self._turns: dict[str, tuple[Request, frozenset[str]]] = {}

    @property
    def runs(self) -> Mapping[str, Sharer]:
        return self._runs

    @property
    def turns(self) -> Mapping[str, frozenset[str]]:
        """The places that are taken, by ticket."""
        return {ticket: places for ticket, (_, places) in self._turns.items()}

    def offer(self, places: Collection[str]) -> None:
        """These places exist, no others; a turn on one that has gone lasts until it is given back."""
        self._places = {*places}

    def join(self, run: str, weight: float, now: float, holding: Mapping[str, Collection[str]] = {}) -> None:
        """A run is there, with the turns that it has where nobody knew them. Raises `ValueError` for a bad weight."""
        if not 0 < weight < float("inf"):
            raise ValueError(f"a weight must be above 0, not {weight}")
        self._pass(now)
        known = self._runs.get(run)
        if known is None:
            self._runs[run] = Sharer(weight, 0.0, self._least(), now)
        else:
            known.weight, known.heard = weight, now
        for ticket, places in holding.items():
            self._turns.setdefault(ticket, (Request(run, ticket, len(places)), frozenset(places)))

    def hear(self, run: str, now: float) -> bool:
        """A run lives; whether it is known."""
        if run in self._runs:
            self._runs[run].heard = now
        return run in self._runs

    def leave(self, run: str, now: float) -> list[str]:
        """A run goes, with all its turns and requests; the tickets of these requests."""
        self._pass(now)
        gone = self._runs.pop(run, None)
        self._turns = {ticket: turn for ticket, turn in self._turns.items() if turn[0].run != run}
        return [request.ticket for request in gone.waiting] if gone is not None else []

    def silent(self, now: float, patience: float) -> list[str]:
        """Runs of which nothing was heard for so long."""
        return [name for name, run in self._runs.items() if now - run.heard > patience]

    def ask(self, request: Request, now: float) -> None:
        """A run that has joined waits for a turn."""
        self._pass(now)
        run = self._runs[request.run]
        run.heard = now
        if not self._active(request.run):
            run.virtual = max(run.virtual, self._least() - CREDIT_SECONDS / run.weight)
        run.waiting.append(request)

    def done(self, ticket: str, now: float) -> None:
        """A turn is given back, or a request withdrawn; nothing where nobody knows it."""
        self._pass(now)
        self._turns.pop(ticket, None)
        for run in self._runs.values():
            run.waiting = [request for request in run.waiting if request.ticket != ticket]

    def grant(self, now: float) -> Sequence[tuple[str, frozenset[str]]]:
        """The turns that begin now: tickets, and the places of each. Who asks for more than there is delays nobody."""
        self._pass(now)
        free = self._places - {place for _, places in self._turns.values() for place in places}
        began: list[tuple[str, frozenset[str]]] = []
        queues = {name: [*run.waiting] for name, run in self._runs.items() if run.waiting}
        virtual = {name: self._runs[name].virtual for name in queues}
        while queues and free:
            name = min(queues, key=lambda each: (virtual[each], each))
            request = queues[name].pop(0)
            fitting = sorted(free if request.among is None else free & request.among)
            if len(fitting) >= request.size:
                places = frozenset(fitting[: request.size])
                self._turns[request.ticket] = request, places
                self._runs[name].waiting.remove(request)
                began.append((request.ticket, places))
                free -= places
                # What begins together is spread by weight, too, before any time has passed.
                virtual[name] += request.size / self._runs[name].weight
            elif request.size <= len(self._places if request.among is None else self._places & request.among):
                free -= {*fitting}
            if not queues[name]:
                del queues[name]
        return began

    def _pass(self, now: float) -> None:
        """Count the time since the last call."""
        passed, self._at = max(0.0, now - self._at), max(now, self._at)
        for request, places in self._turns.values():
            run = self._runs.get(request.run)
            if run is not None:
                run.spent += passed * len(places)
                run.virtual += passed * len(places) / run.weight

    def _active(self, run: str) -> bool:
        return bool(self._runs[run].waiting) or any(request.run == run for request, _ in self._turns.values())

    def _least(self) -> float:
        """The least virtual time among runs that have something to do; without any, among all."""
        active = [run.virtual for name, run in self._runs.items() if self._active(name)]
        return min(active or [run.virtual for run in self._runs.values()], default=0.0)
