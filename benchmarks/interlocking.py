"""Interlocking backpropagation: accuracy and time of local, pairwise, 3-wise and end-to-end training on a real task.

    .venv/bin/python benchmarks/interlocking.py [--data FILE] [--seeds 0,1] [--rate 0.01] [--no-ray]

About 40 minutes with two seeds, 10 with `--seeds ""`. Measured (docs/interlocking.md): pairwise 1.77 times faster than
end-to-end with a device for each group, local 3.0 times at six points less accuracy.

PACS sketches (7 classes, from the data pack beside the repository; `sample:textures` without it), ViT-S/14 at 56 px,
its top eight blocks, norm and a new head trained in four groups of two blocks, batch 32, all ways from the same seeds
and with the same learning rate. Accuracy is that of the test split, of the best of four validations.

Time is that of a step, in processor time of one thread: on one device, all groups in one program; and as a pipeline
with a device for each group, on a clock that counts for every call what it takes here and lets it begin when a device
of its own could (`support/clocked.py`), since this machine has fewer cores than groups. `ray` is the pipeline on two
Ray actors and `wall` the one device, both by the wall clock, which other work on the machine disturbs. Each pipeline
must end with the bytes of the one device.

The ratio is the step of end-to-end training on one device over that of the pairwise pipeline. Four groups in windows of
two allow 2 at most, since the two that follow the true loss do half of the work in turn; the goal is that limit.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.training_program import with_worker_environment

WAYS = ("local", "pairwise", "3-wise", "end-to-end")
GROUPS, LOWEST, BATCH, VALIDATIONS, EXAMPLES = 4, 4, 32, 4, 1_408
STEPS, REPEATS, GOAL = 8, 3, 2.0
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "pacs_sketch.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA), help="a folder or zip of split/class/image")
    parser.add_argument("--seeds", default="0,1", help="for example 0,1,2; nothing: time alone")
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate")
    parser.add_argument("--no-ray", action="store_true", help="leave the pipeline on Ray out")
    options = parser.parse_args()
    with_worker_environment()
    found: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    from support.one_task import OneTask

    uri = f"folder:{options.data}" if Path(options.data).exists() else "sample:textures"
    with OneTask(uri, root="vit-s14", image_size=56) as one:
        bench = Bench(one, options.rate)
        for way in WAYS:
            found[way] = bench.step_times(way)
            print(way, json.dumps(found[way]), flush=True)
        if not options.no_ray:
            for way, seconds in bench.on_ray(WAYS[:-1]).items():
                found[way]["ray"] = seconds
                print(way, "ray", seconds, flush=True)
        for way in WAYS:
            tests = [bench.accuracy(way, int(seed)) for seed in filter(None, options.seeds.split(","))]
            found[way]["accuracy"] = round(statistics.mean(tests), 4) if tests else None
            found[way]["spread"] = round(statistics.stdev(tests), 4) if len(tests) > 1 else None
            print(way, json.dumps(found[way]), flush=True)
        task = one.name
    ratio = found["end-to-end"]["one_device"] / found["pairwise"]["pipeline"]
    result = {
        "name": "interlocking", "ratio": round(ratio, 2), "goal": GOAL,
        "baseline": "end-to-end training on one device", "task": task, "repeats": REPEATS,
        "load": round(os.getloadavg()[0], 1), "ways": found,
    }  # fmt: skip
    print(json.dumps(result))


class Bench:
    """The ways side by side, on the root and task of `one` (`support/one_task.py`)."""

    def __init__(self, one: Any, rate: float) -> None:
        self._one, self._rate = one, rate
        self._ends: dict[str, list[bytes]] = {}

    def _work(self, way: str, seed: int) -> Any:
        from mutant.assignment import Training
        from mutant.mutation import Clone, SetHyperparameter

        blocks = [Clone(f"block_{block:02d}") for block in range(LOWEST, self._one.root.depth)]
        edits = (SetHyperparameter("learning_rate", self._rate), *blocks, Clone("norm"))
        return self._one.work(edits, Training(EXAMPLES, VALIDATIONS, BATCH, backprop=way, groups=GROUPS), seed)

    def accuracy(self, way: str, seed: int) -> float:
        """Test accuracy of a child."""
        outcome = self._one.trained(self._work(way, seed))
        accuracy = self._one.tested(outcome)
        told = {"seed": seed, "validations": outcome.validations, "test": accuracy}
        print(way, json.dumps({**told, "device_seconds": round(outcome.cost.device_seconds, 1)}), flush=True)
        return accuracy

    def step_times(self, way: str) -> dict[str, Any]:
        """Seconds of a step on one device, and as a pipeline on the clock of a device for each group."""
        from support.clocked import ClockedCrew

        (cpu, wall), end = best(self._one_device(way))
        self._ends[way] = end
        found = {"one_device": cpu, "wall": wall}
        if way != "end-to-end":
            crew = ClockedCrew()
            (clock, _), end = best(self._pipeline(way, crew, lambda: crew.second))
            assert end == self._ends[way], f"{way}: a pipeline ended with other bytes"
            found |= {"pipeline": clock, "busiest": round(max(crew.busy) / sum(crew.busy), 3)}
        return found

    def on_ray(self, ways: tuple[str, ...]) -> Mapping[str, float]:
        """Seconds of a step by the wall clock, of a pipeline on two actors of Ray."""
        from mutant.search.ray_stages import RayCrew

        crew, found = RayCrew(2), dict[str, float]()
        try:
            for way in ways:
                (_, wall), end = best(self._pipeline(way, crew, time.process_time))
                assert end == self._ends[way], f"{way}: Ray ended with other bytes"
                found[way] = wall
        finally:
            crew.close()
        return found

    def _started(self, way: str) -> Any:
        """(suffix, groups, state, buffers, child, chunk) of a child before its first step."""
        import numpy as np

        from mutant.feed import Feed
        from mutant.groups import grouped
        from mutant.sgd import Child
        from mutant.state import initial_state
        from mutant.template import fitted

        work = self._work(way, 0)
        components = self._one.supply.components(work.digests)
        assignment = work.assignment(components, {})
        suffix = fitted(work.blueprint)
        feed = Feed(assignment, self._one.supply.dataset(*work.dataset), self._one.evaluator.cache, suffix.inputs)
        with feed.chunks() as chunks:
            _, chunk = next(chunks)
        child = Child(suffix.numbers, suffix.trained, np.float32(0.9), np.bool_(False))
        return suffix, grouped(suffix, work.training), *initial_state(assignment, suffix), child, chunk

    def _one_device(self, way: str) -> Callable[[], "Took"]:
        import numpy as np

        from mutant.interlocking import interlocked, interlocking_program
        from mutant.sgd import training_program
        from mutant.typed import jnp, xla

        suffix, groups, start, buffers, child, chunk = self._started(way)
        whole = groups.end_to_end
        program = training_program(suffix.template) if whole else interlocking_program(suffix.template, groups)

        def run() -> Took:
            main = xla.tree.map(jnp.array, start)
            state = main if whole else interlocked(suffix, groups, main)
            state, losses = program(state, buffers, child, chunk._replace(steps=np.int32(1)))
            losses.block_until_ready()
            rest = type(chunk)(*(np.roll(part, -1, axis=0) for part in chunk[:4]), np.int32(STEPS))
            cpu, wall = time.process_time(), time.perf_counter()
            state, losses = program(state, buffers, child, rest)
            losses.block_until_ready()
            took = (time.process_time() - cpu) / STEPS, (time.perf_counter() - wall) / STEPS
            return took, as_bytes(state if whole else state.main)

        return run

    def _pipeline(self, way: str, crew: Any, clock: Callable[[], float]) -> Callable[[], "Took"]:
        from mutant.pipeline import Pipeline, setups

        suffix, groups, start, buffers, child, chunk = self._started(way)

        def run() -> Took:
            pipeline = Pipeline(crew, setups(suffix, groups, start, buffers, child))

            def steps(first: int, count: int) -> None:
                wanted = range(first, first + count)
                pipeline.losses([pipeline.step(*(part[i] for part in chunk[:4])) for i in wanted])
                pipeline.state()

            steps(0, 1)
            own, wall = clock(), time.perf_counter()
            steps(1, STEPS)
            return ((clock() - own) / STEPS, (time.perf_counter() - wall) / STEPS), as_bytes(pipeline.state())

        return run


Took = tuple[tuple[float, float], list[bytes]]
"""Seconds of a step by a process's own clock and by the wall clock, and the weights and momentum at the end."""


def best(run: Callable[[], Took]) -> Took:
    """The shortest of some runs after one that compiles; all of them must end alike."""
    run()
    every = [run() for _ in range(REPEATS)]
    assert all(end == every[0][1] for _, end in every)
    return (round(min(t[0] for t, _ in every), 4), round(min(t[1] for t, _ in every), 4)), every[0][1]


def as_bytes(tree: Any) -> list[bytes]:
    import numpy as np

    from mutant.typed import xla

    return [np.asarray(leaf).tobytes() for leaf in xla.tree.leaves(tree)]


if __name__ == "__main__":
    main()
