"""Energy of the processor's packages, where the machine tells it (Linux, Intel and AMD, RAPL), and of each segment."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mutant.search.progress import Progress, SegmentFinished, SegmentStarted
from mutant.storage.records import ENERGY
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """Energy counters as they stood, in microjoules by zone, each with where it begins again."""

    counted: Mapping[str, int]
    ranges: Mapping[str, int]

    @staticmethod
    def read(folder: Path = POWERCAP) -> "Meter | None":
        """The counters now; None where there are none, or where they may not be read."""
        counted: dict[str, int] = {}
        ranges: dict[str, int] = {}
        try:
            for zone in sorted(folder.glob("*-rapl:*")):
                if zone.name.count(":") == 1:  # a package; what is in it is counted in it
                    counted[zone.name] = int((zone / "energy_uj").read_text())
                    ranges[zone.name] = int((zone / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            return None
        return Meter(counted, ranges) if counted else None

    def joules_since(self, before: "Meter") -> float:
        """Joules of all packages between two readings, of every process on the machine."""
        spent = 0
        for zone, now in self.counted.items():
            gone = now - before.counted.get(zone, now)
            spent += gone if gone >= 0 else gone + self.ranges[zone]
        return spent / 1e6


class SegmentMeter:
    """Records what each segment of a run drew, as an event of the run; what was interrupted has several, to be added.

    It is the energy of all processes of this machine meanwhile; where workers are not `here`, nothing is recorded.
    """

    def __init__(self, store: Store, run: int, *, here: bool = True, folder: Path | None = None) -> None:
        self._store, self._run, self._here, self._folder = store, run, here, folder or POWERCAP
        self._begun: tuple[str, Meter] | None = None

    def hear(self, event: Progress) -> None:
        if isinstance(event, SegmentStarted):
            before = Meter.read(self._folder) if self._here else None
            self._begun = None if before is None else (event.task, before)
        elif isinstance(event, SegmentFinished):
            self.close()

    def close(self) -> None:
        """Record what an unfinished segment drew so far."""
        after = Meter.read(self._folder)
        if self._begun is not None and after is not None:
            task, before = self._begun
            data = {"task": task, "joules": round(after.joules_since(before), 3)}
            with suppress(UserError):  # at the end of a run that another process has taken over
                self._store.record_event(self._run, ENERGY, data)
        self._begun = None
