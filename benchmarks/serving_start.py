"""How long a server takes until it answers, with an empty cache of compiled programs and with a filled one, and its
memory.

    .venv/bin/python benchmarks/serving_start.py [--db FILE] [--tasks 8] [--repeats 3]

Two minutes. Figures: docs/serving.md.
Of the system in FILE; without it, of a synthetic one with so many tasks, of one with a single task, and of the quick
start's (`make quickstart`), where that is there. Every repeat has a cache of its own, in which the first start is cold
and the second warm. "Ready" is until `/v2/health/ready` says so, from the start of the process on; processor seconds
tell more on a busy machine. Memory is what is private to the process then (Linux). The ratio is a cold start over a
warm one, of the system named last; the goal, ready in 10 s when warm, is told for each. `serving_memory.py` holds
memory against that of separate models.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.many_tasks import many_tasks
from support.memory import MIB
from support.servers import mutant_serve

GOAL_SECONDS = 10.0
QUICK_START = Path(__file__).parents[1] / "quickstart" / "mutant.db"


@dataclass(frozen=True)
class Started:
    """Seconds until ready of each repeat, processor seconds of each warm one, and MiB private to the process after the
    last."""

    cold: Sequence[float]
    warm: Sequence[float]
    processor: Sequence[float]
    mib: float

    @property
    def ratio(self) -> float:
        """Cold over warm, by their medians."""
        return statistics.median(self.cold) / statistics.median(self.warm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, metavar="FILE", help="a system; else a synthetic one and the quick start's")
    parser.add_argument("--tasks", type=int, default=8, help="of the synthetic system")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.db is not None and not arguments.db.is_file():
        parser.error(f"there is no system {arguments.db}; the quick start makes one: make quickstart")
    with tempfile.TemporaryDirectory() as text:
        systems = _systems(Path(text), arguments.db, arguments.tasks)
        found: dict[str, Started] = {}
        print(f"seconds until ready, median (least to most) of {arguments.repeats}")
        for name, database in systems.items():
            one = found[name] = _started(database, arguments.repeats)
            met = "met" if statistics.median(one.warm) <= GOAL_SECONDS else "missed"
            print(f"{name:21s} cold {_spread(one.cold)}  warm {_spread(one.warm)}, goal {met}; "
                  f"{min(one.processor):.1f} s of processor time, {one.mib:.0f} MiB private", flush=True)  # fmt: skip
    if arguments.db is None and not QUICK_START.exists():
        print("no quickstart/mutant.db here (make quickstart), left out")
    last = list(found)[-1]
    result = {
        "name": "time until a server answers, empty compile cache over a filled one",
        "ratio": round(found[last].ratio, 2),
        "goal": 1.0,
        "baseline": f"{last}: the second start in the same cache",
        "warm_goal_seconds": GOAL_SECONDS,
        "warm_goal_met": all(statistics.median(one.warm) <= GOAL_SECONDS for one in found.values()),
        "repeats": arguments.repeats,
        "systems": {
            name: {
                "cold": [round(seconds, 2) for seconds in one.cold],
                "warm": [round(seconds, 2) for seconds in one.warm],
                "processor": [round(seconds, 2) for seconds in one.processor],
                "mib": round(one.mib),
            }
            for name, one in found.items()
        },
    }
    print(json.dumps(result))


def _systems(directory: Path, given: Path | None, tasks: int) -> dict[str, Path]:
    """The systems to start, by what they are called."""
    if given is not None:
        return {str(given): given}
    made = {"synthetic, 1 task": 1, f"synthetic, {tasks} tasks": tasks}
    for name, n in made.items():
        many_tasks(directory / f"{name}.db", n)
    found = {name: directory / f"{name}.db" for name in made}
    return found | ({"quick start": QUICK_START} if QUICK_START.exists() else {})


def _started(database: Path, repeats: int) -> Started:
    cold: list[float] = []
    warm: list[float] = []
    processor: list[float] = []
    memory = 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            with mutant_serve(database, cache=Path(cache)) as server:
                cold.append(server.seconds)
            with mutant_serve(database, cache=Path(cache)) as server:
                warm.append(server.seconds)
                processor.append(server.processor_seconds)
                memory = server.resident_bytes
    return Started(cold, warm, processor, memory / MIB)


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):5.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
