"""How busy Ray keeps the device, against the bare loop in one process on the same children; and when the first child is
trained.

    .venv/bin/python benchmarks/workers.py
    .venv/bin/python benchmarks/workers.py --children 24 --rounds 1

About 14 minutes on two quiet cores: ratio 0.998, and two workers 1.82 times faster than one process. One generation of
eight children of EfficientNet-Lite0 on `sample:letters`, trained in this process, by one Ray worker and by two, in
turn, three times, with warm programs. The device-busy share is the seconds inside device programs
(`Cost.device_seconds`) over the workers' wall time; the ratio is that of one Ray worker over that of this process. Two
workers are busy together for a part of the time only: the last child of a generation has one of them alone, the less
the more children there are. One worker with both cores for its XLA threads (`--threads 2` of a run) is measured, too.

The time to the first trained child is that of a new process, from its start, with Ray's, with no compiled program at
hand (cold) and with those of the time before (warm).

It needs both cores for itself: a worker stays on a core of its own, and waits there for whoever else uses it, while the
one process takes whichever core is free.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mutant
from mutant.blueprint import blueprint
from mutant.mutation import Clone, InsertAdapter, Mutation, NewHead
from mutant.outcome import Trained
from mutant.path import Candidate
from mutant.search.evaluator import Evaluator, InProcessEvaluator, Work
from mutant.search.growth import configure
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_start import ray, start
from mutant.search.supply import SearchData, StoreSupply
from mutant.search.workers import Terms

ROUNDS = 3
GOAL = 0.97
FIRST = "--first"
THREADS = "ray 1, 2 threads"
EDITS: tuple[tuple[Mutation, ...], ...] = (
    (Clone("block_12"), Clone("norm")),
    (Clone("block_13"), Clone("norm")),
    (InsertAdapter(12, 32), Clone("norm")),
    (Clone("block_12"), Clone("block_15")),
)


@dataclass(frozen=True)
class Round:
    """One generation: its wall seconds, the seconds in device programs, and what came of it."""

    seconds: float
    device: float
    versions: tuple[str, ...]

    def busy(self, workers: int) -> float:
        return self.device / (self.seconds * workers)


@contextmanager
def prepared(children: int) -> Iterator[tuple[list[Work], StoreSupply]]:
    """So many children, and where their weights and data are."""
    task = mutant.load_task("sample:letters")
    with (
        tempfile.TemporaryDirectory() as directory,
        mutant.create(Path(directory) / "m.db", root="efficientnet-lite0") as system,
    ):
        store, root = system.store, system.store.root()
        training = configure(store, ("letters",), mutant.Settings()).training
        edits = [EDITS[place % len(EDITS)] for place in range(children)]
        made = [
            Candidate("letters", root.id, (*edit, NewHead(26)), place // len(EDITS)) for place, edit in enumerate(edits)
        ]
        work = [Work(child, blueprint([root], child.mutations), training) for child in made]
        yield work, StoreSupply(store, {"letters": SearchData.of(task)})


def trained(evaluator: Evaluator, work: list[Work], supply: StoreSupply) -> Round:
    started = time.perf_counter()
    outcomes = dict(evaluator.train(work, supply))
    seconds = time.perf_counter() - started
    done = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Trained)]
    assert len(done) == len(work), outcomes
    return Round(seconds, sum(one.cost.device_seconds for one in done), tuple(one.path.version for one in done))


@contextmanager
def workers(count: int, threads: int = 1) -> Iterator[tuple[RayEvaluator, float]]:
    """A Ray with so many workers of so many threads, and the seconds until they were there."""
    started = time.perf_counter()
    watchdog = start(count * threads, None)
    evaluator = RayEvaluator(count, terms=Terms(threads=threads))
    try:
        _ = evaluator.abouts
        yield evaluator, time.perf_counter() - started
    finally:
        evaluator.close()
        ray.shutdown()
        if watchdog is not None:
            watchdog.end()


def first_child() -> None:
    """What the subprocess does: Ray, one worker, one child."""
    with prepared(1) as (work, supply), workers(1) as (evaluator, _):
        trained(evaluator, work, supply)


def first_children() -> dict[str, float]:
    """Seconds from nothing to the first trained child, without and with compiled programs at hand."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as programs:
        for name in ("cold", "warm"):
            started = time.perf_counter()
            environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": programs}
            subprocess.run([sys.executable, __file__, FIRST], check=True, env=environment)
            found[name] = round(time.perf_counter() - started, 1)
    return found


def measured(children: int, repeats: int) -> tuple[dict[str, list[Round]], float]:
    """The rounds of each way, and the seconds in which one worker of Ray came."""
    alone, came = InProcessEvaluator(), 0.0
    with prepared(children) as (work, supply):
        rounds: dict[str, list[Round]] = {}
        trained(alone, work, supply)
        rounds["alone"] = [trained(alone, work, supply) for _ in range(repeats)]
        for name, count, threads in (("ray 1", 1, 1), ("ray 2", 2, 1), (THREADS, 1, 2)):
            with workers(count, threads) as (evaluator, seconds):
                came = came or seconds
                trained(evaluator, work, supply)
                rounds[name] = [trained(evaluator, work, supply) for _ in range(repeats)]
        # before and after, for the load drifts
        rounds["alone"] += [trained(alone, work, supply) for _ in range(repeats)]
        alone.close()
    one_thread = {one.versions for name, each in rounds.items() for one in each if name != THREADS}
    assert len(one_thread) == 1, "all must give the same bytes"
    assert len({one.versions for one in rounds[THREADS]}) == 1, "two threads give the same bytes each time"
    return rounds, came


def times_faster(rounds: dict[str, list[Round]], name: str, than: str) -> float:
    middle = {one: statistics.median(each.seconds for each in rounds[one]) for one in (name, than)}
    return round(middle[than] / middle[name], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    rounds, came = measured(options.children, options.rounds)
    busy = {name: [one.busy(2 if name == "ray 2" else 1) for one in each] for name, each in rounds.items()}
    for name, shares in busy.items():
        seconds = statistics.median(one.seconds for one in rounds[name])
        print(f"{name:<16} {seconds:6.1f} s a generation, device busy {min(shares):.1%} to {max(shares):.1%}")
    first = first_children()
    print(f"first trained child: {first['cold']} s cold, {first['warm']} s warm; Ray's start {came:.1f} s of it")
    middle = {name: statistics.median(shares) for name, shares in busy.items()}
    result = {
        "name": "workers",
        "ratio": round(middle["ray 1"] / middle["alone"], 3),
        "goal": GOAL,
        "baseline": "device-busy share of one process without Ray, same children",
        "busy": {name: round(share, 3) for name, share in middle.items()},
        "two workers over one process": times_faster(rounds, "ray 2", "alone"),
        "two workers over one of two threads": times_faster(rounds, "ray 2", THREADS),
        "first child seconds": first,
        "children": options.children,
        "rounds": options.rounds,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    first_child() if sys.argv[1:] == [FIRST] else main()
