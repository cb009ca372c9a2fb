"""Recording what a worker does while it trains a child: one phase after the other, and what happens inside them."""

import os
import platform
import time

from mutant.spans import Seat, Span, SpanKind, coarse, flattened


class Recorder:
    """The time of one child, from now on. Phases are of the thread that trains, what is `inside` them of any.

    The time of day is read once and everything after it measured by a clock that only goes forward, so that no span
    changes when the machine's clock is set.
    """

    def __init__(self, phase: SpanKind = "load") -> None:
        self._offset = time.time() - time.monotonic()
        self._phases: list[Span] = []
        self._inside: list[Span] = []
        self._kind: SpanKind = phase
        self._since = self._now()

    def _now(self) -> float:
        return time.monotonic() + self._offset

    def phase(self, kind: SpanKind) -> None:
        """What is done from now on."""
        now = self._now()
        self._phases.append(Span(self._kind, self._since, now - self._since))
        self._kind, self._since = kind, now

    def compiled(self, seconds: float) -> None:
        """For so long until now something was compiled."""
        self._inside.append(Span("compile", self._now() - seconds, seconds))

    def computed(self, seconds: float) -> None:
        """For so long until now frozen activations were computed."""
        self._inside.append(Span("activations", self._now() - seconds, seconds))

    def spans(self) -> tuple[Span, ...]:
        """Everything until now."""
        self.phase(self._kind)
        return coarse(flattened(self._phases, self._inside))


def seat() -> Seat:
    """Where this process is. Starts JAX where it has not started."""
    from mutant import backend

    return Seat(platform.node(), os.getpid(), backend.device())
