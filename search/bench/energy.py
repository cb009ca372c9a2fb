"""Energy of the processor's packages, where the machine tells it (Linux, Intel and AMD, RAPL)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
