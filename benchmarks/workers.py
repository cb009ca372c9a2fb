"""What two workers of one core each gain over one process with one thread, on the same children.

    .venv/bin/python benchmarks/workers.py

Expect about five minutes on two quiet cores (an estimate). One generation of eight children of EfficientNet-Lite0 on
`sample:letters`, trained in this process and on Ray in turn, three times, in the same run and with warm programs.
Starting Ray is reported and not part of the ratio.

It needs both cores for itself: each worker stays on a core of its own, and waits there for whoever else uses it, while
the one process takes whichever core is free. Beside other work it once gave 0.71, and under a load of 20 on 2 cores it
had not ended after twelve minutes; no figure of a quiet machine has been taken yet. A worker also meets frozen prefixes
that the other one computed before, which the one process has all in its cache.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import mutant
from mutant.blueprint import blueprint
from mutant.mutation import Clone, InsertAdapter, Mutation, NewHead
from mutant.outcome import Trained
from mutant.path import Candidate
from mutant.search.evaluator import Evaluator, InProcessEvaluator, Work
from mutant.search.growth import configure
from mutant.search.supply import SearchData, StoreSupply
from mutant.search.workers import Crew, start_evaluator

ROUNDS = 3
EDITS: tuple[tuple[Mutation, ...], ...] = (
    (Clone("block_12"), Clone("norm")),
    (Clone("block_13"), Clone("norm")),
    (InsertAdapter(12, 32), Clone("norm")),
    (Clone("block_12"), Clone("block_15")),
)


def timed(evaluator: Evaluator, work: list[Work], supply: StoreSupply) -> tuple[float, list[str]]:
    started = time.perf_counter()
    outcomes = dict(evaluator.train(work, supply))
    seconds = time.perf_counter() - started
    versions = [outcome.path.version for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Trained)]
    return seconds, versions


def main() -> None:
    task = mutant.load_task("sample:letters")
    with tempfile.TemporaryDirectory() as directory:
        db = Path(directory) / "m.db"
        with mutant.create(db, root="efficientnet-lite0") as system:
            store, root = system.store, system.store.root()
            training = configure(store, ("letters",), mutant.Settings()).training
            supply = StoreSupply(store, {"letters": SearchData.of(task)})
            work = [
                Work(c, blueprint([root], c.mutations), training)
                for c in (
                    Candidate("letters", root.id, (*edit, NewHead(26)), seed) for seed in (0, 1) for edit in EDITS
                )
            ]
            alone = InProcessEvaluator()
            started = time.perf_counter()
            crew = start_evaluator(Crew(2, "benchmark"))
            ray_start = time.perf_counter() - started
            try:
                timed(alone, work, supply)
                timed(crew, work, supply)
                rounds = [(timed(alone, work, supply), timed(crew, work, supply)) for _ in range(ROUNDS)]
            finally:
                crew.close()
    assert len({tuple(versions) for pair in rounds for _, versions in pair}) == 1, "all must give the same bytes"
    ratios = [one / two for (one, _), (two, _) in rounds]
    one, two = (statistics.median(pair[which][0] for pair in rounds) for which in (0, 1))
    print(f"one process {one:.1f} s, two Ray workers {two:.1f} s, starting Ray {ray_start:.1f} s, same bytes")
    print(f"{ROUNDS} rounds: {min(ratios):.2f} to {max(ratios):.2f}; load {os.getloadavg()[0]:.1f}")
    result = {
        "name": "workers",
        "ratio": round(statistics.median(ratios), 2),
        "goal": 1.6,
        "baseline": "one process, one thread",
        "ratios": [round(ratio, 2) for ratio in ratios],
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
