"""What a setting does to accuracy, size and time, on the quick start's four tasks, over several seeds.

    taskset -c 0 .venv/bin/python benchmarks/settings_choice.py [--seeds 0,1,2] [--run reach=4,children=8] [--run ...]

The default runs are the preset without its deep children, and the preset. Minutes for a seed.

Each `--run` is a set of settings over the quick start's own; the first is the baseline. All of them see the same seeds,
one after the other in this process, so that neither neighbours nor the order favours one. Accuracy is the average over
the tasks' test splits, parameters are those accounted for, on average; device seconds are those inside device programs,
summed over all children, without compiling. `spread` is the standard deviation over the seeds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mutant
from mutant.cli.quickstart import IMAGE_SIZE, ROOT, SETTINGS, TASKS
from mutant.search.config import Settings
from mutant.search.growth import Engine
from mutant.storage.effort import efforts

GOAL = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0", help="for example 0,1,2")
    parser.add_argument("--run", action="append", type=settings_of, help="settings, key=value,key=value")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = options.run or [{"deep_every": 0}, {}]
    found: dict[str, list[dict[str, float]]] = {named(run): [] for run in runs}
    for seed in map(int, options.seeds.split(",")):
        for run in runs:
            found[named(run)].append(grown(seed, run))
            print(named(run), json.dumps({"seed": seed, **found[named(run)][-1]}), flush=True)
    means = {name: averaged(each) for name, each in found.items()}
    for name, mean in means.items():
        print(name, json.dumps(mean), flush=True)
    baseline, last = named(runs[0]), named(runs[-1])
    ratio = means[last]["accuracy"] / means[baseline]["accuracy"]
    result = {"name": "settings_choice", "ratio": round(ratio, 3), "goal": GOAL, "baseline": baseline}
    print(json.dumps({**result, "seeds": options.seeds, "runs": means}))


def settings_of(words: str) -> dict[str, Any]:
    """`reach=2,children=12` as a mapping."""
    pairs = (word.split("=", 1) for word in words.split(","))
    return {key: json.loads(value) for key, value in pairs}


def named(run: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in run.items()) or "the preset"


def grown(seed: int, run: Mapping[str, Any]) -> dict[str, float]:
    """The quick start's four tasks in a new system."""
    settings = Settings(**{**SETTINGS, **run})
    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "m.db"
        with mutant.create(database, root=ROOT, image_size=IMAGE_SIZE, seed=seed, settings=settings) as system:
            summaries = system.add(TASKS, engine=Engine(workers=1), baseline=False)
            every = efforts(system.store)
    tests = {summary.task: summary.test_accuracy or 0.0 for summary in summaries}
    return {
        "accuracy": statistics.mean(tests.values()),
        **{task: round(accuracy, 4) for task, accuracy in tests.items()},
        "accounted": statistics.mean(summary.accounted_parameters or 0.0 for summary in summaries),
        "device_seconds": sum(effort.device_seconds for effort in every),
        "flops": sum(effort.flops for effort in every),
        "children": sum(effort.children for effort in every),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }


def averaged(each: list[dict[str, float]]) -> dict[str, float]:
    means = {key: statistics.mean(one[key] for one in each) for key in each[0]}
    rounded = {key: float(f"{mean:.4g}") for key, mean in means.items()}
    spread = statistics.stdev(one["accuracy"] for one in each) if len(each) > 1 else 0.0
    return {**rounded, "spread": round(spread, 4)}


if __name__ == "__main__":
    main()
