"""Memory of running processes (Linux): what is a process's own, its share of what it has with others, and over time."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np

MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """Bytes: `private` are mapped by no other process (USS), `proportional` has an n-th of what n do (PSS)."""

    private: int
    proportional: int


def footprint(*pids: int) -> Footprint:
    """The memory of some processes together."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8") for pid in pids]
    return Footprint(_bytes(r"Private_\w+", texts), _bytes("Pss", texts))


def private_bytes(pid: int) -> int:
    """Bytes of memory that no other process shares with this one."""
    return footprint(pid).private


def _bytes(name: str, texts: Iterable[str]) -> int:
    return 1024 * sum(int(found) for text in texts for found in re.findall(rf"^{name}: +(\d+) kB", text, re.M))


@dataclass
class Watched:
    """Memory over time: what `read` says every few seconds, as `minutes` and `mib`."""

    read: Callable[[], int]
    minutes: list[float] = field(default_factory=list[float])
    mib: list[float] = field(default_factory=list[float])

    def until(self, stop: Event, every: float = 5.0) -> None:
        """Look every so many seconds, and once when `stop` is set. A look at a process that just ended is left out."""
        began = time.monotonic()
        done = False
        while not done:
            done = stop.wait(every if self.mib else 0.0)
            try:
                found = self.read()
            except OSError:
                continue
            if found:
                self.minutes.append((time.monotonic() - began) / 60)
                self.mib.append(found / MIB)

    def at(self, minute: float) -> float:
        """MiB at the first look after this minute; the last one when there is none."""
        return next((mib for at, mib in zip(self.minutes, self.mib, strict=True) if at >= minute), self.mib[-1])

    def slope(self) -> float:
        """MiB per minute in the second half: a line of least squares through it. 0 for fewer than two looks."""
        half = self.minutes[-1] / 2
        late = [(at, mib) for at, mib in zip(self.minutes, self.mib, strict=True) if at >= half]
        if len(late) < 2:
            return 0.0
        minutes, mib = np.array(late).T
        return float(np.polyfit(minutes, mib, 1)[0])
