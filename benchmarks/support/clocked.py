"""A crew whose stages have a device each on a clock of its own: each call runs here, and counts as if it ran there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mutant.pipeline import Hand
from mutant.stage import Setup, Stage


@dataclass(frozen=True)
class At:
    """A value and the second at which it is there."""

    value: Any
    second: float


class ClockedCrew:
    """What a pipeline would take with a device per stage that nothing else uses, and messages that take no time.

    A call begins when its stage has ended the one before and what it is given is there, and lasts the processor time
    that it takes here. `second` is when all that was asked for is there; `busy` what each stage has computed.
    """

    def __init__(self) -> None:
        self.busy: list[float] = []
        self.asked = self.second = 0.0

    def begin(self, setups: Sequence[Setup]) -> Sequence[Hand]:
        self.asked = self.second = 0.0
        self.busy = [0.0] * len(setups)
        return [_Clocked(self, group, Stage(setup)) for group, setup in enumerate(setups)]

    def values(self, futures: Sequence[Any]) -> list[Any]:
        self.asked = max((self.asked, *(future.second for future in futures)))
        return [future.value for future in futures]


class _Clocked:
    def __init__(self, crew: ClockedCrew, group: int, stage: Stage) -> None:
        self._crew, self._group, self._stage, self._free = crew, group, stage, 0.0

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        given = [argument.value if isinstance(argument, At) else argument for argument in arguments]
        ready = max((self._free, self._crew.asked, *(a.second for a in arguments if isinstance(a, At))))
        began = time.process_time()
        found = getattr(self._stage, method)(*given)
        took = time.process_time() - began
        self._free = ready + took
        self._crew.busy[self._group] += took
        self._crew.second = max(self._crew.second, self._free)
        return [At(value, self._free) for value in (found if returns > 1 else [found])]
