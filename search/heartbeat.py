"""Who hangs: the silence of each running call, held against how long such a call may do nothing that can be seen.

Time is counted in looks, not on the clock: a controller that was itself suspended knows nothing of the time between.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

LEAST_PATIENCE = 600.0
"""Seconds without any progress that every call may take: to import JAX, compile on a busy machine, and fetch data."""
PAUSES = 10.0
CHILDREN = 2.0
"""So many of the longest pause that ended well, or of a child's predicted time, are allowed when that is more."""

Key = TypeVar("Key", bound=Hashable)


def patience(asked: float | None, longest_pause: float, predicted: float) -> float:
    """Seconds without progress after which a call counts as hung: as `asked`, else by what was seen and predicted.

    >>> patience(None, 3.0, 40.0), patience(None, 90.0, 40.0), patience(None, 3.0, 4000.0), patience(5.0, 90.0, 40.0)
    (600.0, 900.0, 8000.0, 5.0)
    """
    return asked if asked is not None else max(LEAST_PATIENCE, PAUSES * longest_pause, CHILDREN * predicted)


def period(asked: float | None) -> float:
    """Seconds between two looks: often enough to tell, seldom enough to cost nothing."""
    return min(10.0, max(0.1, (LEAST_PATIENCE if asked is None else asked) / 20))


@dataclass
class _Call:
    predicted: float
    count: float | None = None
    silent: float = 0.0
    answers: bool = True


class Heartbeats(Generic[Key]):
    """Calls by key, each with the count that its worker told last; `longest` is the longest pause that ended."""

    def __init__(self, asked: float | None = None) -> None:
        self.asked = asked
        self.longest = 0.0
        self._calls: dict[Key, _Call] = {}

    def clear(self) -> None:
        """Watch no call any more, those among them whose end nobody waited for."""
        self._calls.clear()

    def begin(self, key: Key, predicted: float) -> None:
        """A call begins, which will take about `predicted` seconds."""
        self._calls[key] = _Call(predicted)

    def end(self, key: Key) -> None:
        self._calls.pop(key, None)

    def hear(self, key: Key, count: float) -> None:
        """The worker says how far the call is. The same count as before is no progress, but a sign of life."""
        call = self._calls.get(key)
        if call is None:
            return
        if count != call.count:
            if call.count is not None:
                self.longest = max(self.longest, call.silent)
            call.count, call.silent = count, 0.0
        call.answers = True

    def look(self, seconds: float) -> list[tuple[Key, float]]:
        """So many more seconds have passed: the calls that hang now, to be ended, and how long each was silent.

        A worker that does not even answer is surely stuck. One that answers may be waiting for another's rows: of such
        one is ended at a time, the longest silent, and the others begin to count anew.
        """
        for call in self._calls.values():
            call.silent += seconds
        overdue = [key for key, call in self._calls.items() if call.silent > self._allowed(call)]
        stuck = [key for key in overdue if not self._calls[key].answers]
        chosen = stuck or sorted(overdue, key=lambda key: -self._calls[key].silent)[:1]
        hung = [(key, self._calls.pop(key).silent) for key in chosen]
        for call in self._calls.values():
            if hung:
                call.silent = 0.0
            call.answers = False
        return hung

    def _allowed(self, call: _Call) -> float:
        return patience(self.asked, self.longest, call.predicted)
