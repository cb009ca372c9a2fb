"""How far a training has come, for whoever watches it from another thread. The device is asked, never waited for."""

from collections import deque
from typing import Any


class Pulse:
    """Counts what a training gets done: chunks that were prepared, chunks that the device has finished, validations.

    >>> pulse = Pulse()
    >>> pulse.beat()
    >>> pulse.count()
    1
    """

    def __init__(self) -> None:
        self._beats = 0
        self._computing: deque[Any] = deque()

    def beat(self) -> None:
        """Something was done. A beat that two threads lose to each other does no harm: there are others."""
        self._beats += 1

    def follow(self, result: Any) -> None:
        """Count `result`, an array of JAX, when the device has computed it."""
        self._computing.append(result)

    def count(self) -> int:
        """All that was done until now. It only grows; one thread asks."""
        while self._computing and _is_computed(self._computing[0]):
            self._computing.popleft()
            self._beats += 1
        return self._beats


def _is_computed(result: Any) -> bool:
    try:
        return result.is_ready()
    except RuntimeError:  # deleted since: the training it belonged to has ended
        return True
