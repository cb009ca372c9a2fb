"""A run of 1,000 tasks and 100,000 children: does a child cost the same at the end as at the beginning?

    python benchmarks/thousand_tasks.py                         # 1,000 tasks x 10 children, minutes
    python benchmarks/thousand_tasks.py --children 100          # the whole of it

Training is fake (eight numbers for each part that would be trained, at once); planning, leases, commits, retention,
golden outputs and the end of every segment are the loop's own, on SQLite, with one worker in this process. Printed is
the time per child, tenth by tenth of the run; the baseline is the first tenth of the same run, and the goal is that the
last one costs at most half as much again (0.67). Other load on the machine moves the wall time: processor time of this
process is printed beside it, and the ratio is that of processor times.

Measured, 1,000 tasks x 100 children, on one of 2 cores beside other work: 63 minutes; 29, 33, 31, 30, 30, 30, 29, 29,
30, 28 processor ms per child in the tenths (ratio 1.02). Most of it is the commit, which is SQLAlchemy's work on some
15 statements, not the disk; then the lease, drawing and planning.
"""

import argparse
import cProfile
import json
import os
import pstats
import tempfile
import time
from pathlib import Path

from support.simulation import NoOp, new_system, run_of

from mutant.search.config import Settings
from mutant.search.evolve import evolve
from mutant.search.progress import Progress, SegmentFinished
from mutant.storage.store import Store

GOAL = 0.67


class Watch:
    """Notes the time at the end of every segment, and prints every `tenth` of them what a child took."""

    def __init__(self, tenth: int, children: int) -> None:
        self._tenth, self._children = tenth, children
        self.ends: list[tuple[float, float]] = []
        self.each: list[tuple[float, float]] = []

    def begin(self) -> None:
        self.ends = [(time.perf_counter(), time.process_time())]
        print("| children | wall ms per child | processor ms per child |\n|---|---|---|", flush=True)

    def heard(self, event: Progress) -> None:
        if isinstance(event, SegmentFinished):
            self.ends.append((time.perf_counter(), time.process_time()))
            done = len(self.ends) - 1
            if done % self._tenth == 0:
                self._tell(done - self._tenth, done)

    def _tell(self, first: int, last: int) -> None:
        children = self._children * (last - first)
        wall, cpu = (1000 * (b - a) / children for a, b in zip(self.ends[first], self.ends[last], strict=True))
        self.each.append((wall, cpu))
        place = f"{first * self._children:,} to {last * self._children:,}"
        print(f"| {place} | {wall:.2f} | {cpu:.2f} |", flush=True)


def grown(store: Store, tasks: int, settings: Settings) -> Watch:
    watch = Watch(max(1, tasks // 10), settings.children or 0)
    names = [f"task-{number:04d}" for number in range(tasks)]
    with run_of(store, names, settings, NoOp(), watch.heard) as search:
        watch.begin()
        evolve(search)
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--children", type=int, default=10, help="per task")
    parser.add_argument("--generation-size", type=int, default=5)
    parser.add_argument("--async", dest="asynchronous", action="store_true")
    parser.add_argument("--dir", help="where the database lies (a temporary directory)")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    settings = Settings(
        children=options.children, generation_size=options.generation_size, asynchronous=options.asynchronous
    )
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory, new_system(f"{directory}/m.db") as store:
        if options.profile:
            profile.enable()
        watch = grown(store, options.tasks, settings)
        profile.disable()
        size = Path(directory, "m.db").stat().st_size / 1e6
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    seconds = watch.ends[-1][0] - watch.ends[0][0]
    print(f"{options.tasks:,} tasks, {options.tasks * options.children:,} children in {seconds:.0f} s; {size:.0f} MB")
    ratio = watch.each[0][1] / watch.each[-1][1]
    result = {"name": "thousand_tasks", "ratio": round(ratio, 2), "goal": GOAL, "baseline": "the run's first tenth"}
    print(
        json.dumps(
            result | {"load": round(os.getloadavg()[0], 1), "ms_per_child": [round(c, 2) for _, c in watch.each]}
        )
    )


if __name__ == "__main__":
    main()
