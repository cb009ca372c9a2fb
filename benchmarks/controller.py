"""How many children per second can one controller keep going, and how short may they be?

    python benchmarks/controller.py [--longest 0]
    python benchmarks/controller.py --workers 1,8 --back-ends sqlite
    python benchmarks/controller.py --workers 512 --back-ends sqlite --shortest 64 --longest 256    15 minutes

Children are no-ops: their outcome is made up at once (or after a sleep). Everything else is real: draws, predictions,
leases and commits on the database, calls of Ray actors. The simulated workers are threads of two actor processes, since
no machine here has 512 cores. Printed are, for each number of workers,

- children per second through the whole controller, by generations (as large as there are workers) and without,
- where its time goes (milliseconds per child by the store's method; the rest is drawing, Ray and the loop),
- calls per second without a controller, in the words of Pathways (arXiv 2203.12533, section 5.1): OpByOp (the next call
  when the one before was heard of), chained (calls with the one before as argument, none waited for), fused (one call
  that does many),
- the same through the search's own evaluator on Ray, each worker a process of its own as in a run (`--real`), so that
  there are few of them,
- the shortest child, of 0.1 s (`--shortest`) doubled again and again, that keeps the workers busy for 95% of the time.

The ratio is children per second through the controller, without generations, at the most workers to that at one worker
(goal 1: it does not fall); the baseline is one worker in the same run.

Measured on 2 cores: 27 children per second with 1 worker and 26 with 512 (ratio 0.98), 1,000 OpByOp calls; the commit,
which is SQLAlchemy's work on some 15 statements, takes half of a child's time (docs/workers.md). Half an hour with all
that is tried of `--longest`, four minutes with `--longest 0`.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from support.back_ends import BACK_ENDS, available, databases
from support.no_op_actors import DISPATCH, Actors, NoOpWorker, running
from support.simulation import new_system, run_of
from support.timing import Clock, TimedStore

from mutant.activations.limits import OFF
from mutant.search.config import Settings
from mutant.search.evolve import evolve
from mutant.search.ray_evaluator import RayEvaluator

GOAL, BUSY = 1.0, 0.95


def through_controller(url: str, actors: Any, children: int, settings: Settings) -> tuple[float, dict[str, float]]:
    """Children per second of a segment of so many, and seconds by method of the store."""
    clock = Clock()
    with new_system(url) as store:
        chosen = replace(settings, children=children)
        with run_of(store, ["task"], chosen, actors) as search:
            timed = replace(search, store=cast(Any, TimedStore(store, clock)))
            started = time.perf_counter()
            evolve(timed)
            seconds = time.perf_counter() - started
    actors.close()
    return children / seconds, {name: took / children for name, took in clock.seconds.items()}


def busy_share(url: str, workers: int, children: int, seconds: float) -> float:
    """Share of the workers' time that is spent in children of so many seconds, from the first draw to the last end."""
    actors = Actors(workers, seconds)
    settings = replace(Settings(), children=children, asynchronous=True)
    with new_system(url) as store, run_of(store, ["task"], settings, actors) as search:
        started = time.perf_counter()
        evolve(search)
        took = time.perf_counter() - started
    actors.close()
    return children * seconds / (workers * took)


def shortest(new: Any, workers: int, rounds: int, start: float, most: float) -> tuple[float, float]:
    """Seconds of the shortest child that keeps `BUSY` of the workers busy, and that share; the last try at `most`."""
    seconds = start
    while True:
        share = busy_share(new(), workers, rounds * workers, seconds)
        print(f"    {seconds:7.2f} s: {share:.1%} busy", flush=True)
        if share >= BUSY or seconds >= most:
            return seconds, share
        seconds *= 2


def measured(options: argparse.Namespace, counts: Sequence[int]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for workers in counts:
        actors, calls = Actors(workers), max(options.children, 2 * workers) // workers * workers
        for way in DISPATCH:
            rates: list[float] = []
            for _ in range(options.repeats):
                started = time.perf_counter()
                way(actors, calls)
                rates.append(calls / (time.perf_counter() - started))
            spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
            print(
                f"{workers:4} workers, {way.__name__:9} {statistics.median(rates):9,.0f} calls/s ({spread})", flush=True
            )
            results.append({"workers": workers, "what": way.__name__, "per_second": round(statistics.median(rates), 1)})
        actors.close()
    for back_end in available(options.back_ends.split(",")):
        with databases(back_end) as new:
            for workers in counts:
                children = max(options.children, 2 * workers)
                for asynchronous in (False, True):
                    settings = Settings(generation_size=max(8, workers), asynchronous=asynchronous)
                    found = through_controller(new(), Actors(workers), children, settings)
                    what = f"{back_end}, {'one by one' if asynchronous else 'by generations'}"
                    results.append(told(workers, what, *found))
                if options.longest:
                    seconds, share = shortest(new, workers, 3, options.shortest, options.longest)
                    results.append({"workers": workers, "what": f"{back_end}, shortest child", "seconds": seconds})
                    print(
                        f"{workers:4} workers, {back_end}: {share:.1%} busy with children of {seconds:g} s", flush=True
                    )
    return results


def told(workers: int, what: str, rate: float, where: Mapping[str, float]) -> dict[str, Any]:
    parts = ", ".join(f"{n} {1000 * s:.1f}" for n, s in sorted(where.items(), key=lambda x: -x[1])[:3])
    print(f"{workers:4} workers, {what}: {rate:.1f} children/s; of {1000 / rate:.1f} ms: {parts}", flush=True)
    return {"workers": workers, "what": what, "per_second": round(rate, 2)}


def of_the_search(options: argparse.Namespace, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Children per second with workers that are processes of their own, by the evaluator of the search."""
    results: list[dict[str, Any]] = []
    for workers in counts:
        with running(workers), databases("sqlite") as new:
            for asynchronous in (False, True):
                settings = Settings(generation_size=max(8, workers), asynchronous=asynchronous)
                evaluator = RayEvaluator(workers, cache=OFF, worker=NoOpWorker)
                _ = evaluator.abouts
                found = through_controller(new(), evaluator, options.children, settings)
                what = f"sqlite, the search's evaluator, {'one by one' if asynchronous else 'by generations'}"
                results.append(told(workers, what, *found))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,8,64,512")
    parser.add_argument("--real", default="1,8", help="workers that are processes of their own; empty: none")
    parser.add_argument("--children", type=int, default=256, help="at least; two for each worker if that is more")
    parser.add_argument("--back-ends", default=",".join(BACK_ENDS))
    parser.add_argument("--repeats", type=int, default=3, help="of the calls without a controller")
    parser.add_argument(
        "--longest", type=float, default=20.0, help="seconds of the longest child that is tried; 0: none"
    )
    parser.add_argument("--shortest", type=float, default=0.1, help="seconds of the shortest child that is tried")
    options = parser.parse_args()
    counts = [int(number) for number in options.workers.split(",")]
    with running():
        results = measured(options, counts)
    one_by_one = [r["per_second"] for r in results if r["what"].endswith("one by one")]
    results.extend(of_the_search(options, [int(number) for number in options.real.split(",") if number]))
    ratio = round(one_by_one[len(counts) - 1] / one_by_one[0], 2)
    result = {"name": "controller", "ratio": ratio, "goal": GOAL, "baseline": f"{counts[0]} simulated workers"}
    print(json.dumps(result | {"load": round(os.getloadavg()[0], 1), "results": results}))


if __name__ == "__main__":
    main()
