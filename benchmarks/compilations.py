"""Programs that a segment compiles, and the time to the first trained step, cold and warm.

    .venv/bin/python benchmarks/compilations.py [--children 12]

About two minutes; 7 structures in 6 templates (1.17), the first step after 16.9 s cold and 9.2 s warm. The goal was
reached (2.0 over 40 draws) while the preset cloned each of the root's top two blocks by chance; now children
begin at any of six depths, and what two of them could share is less.

Children of the default preset on `sample:letters` from EfficientNet-Lite0, each in a process of its own with an empty
cache of compiled programs (cold) and again with what the first left (warm). The baseline is a program for each
structure of suffix and of what is trained in it, counted over the same children: what a segment compiled before
templates. `programs` counts all that XLA compiled for a segment, inference and small helpers among it; `templates` the
training programs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mutant import backend

GOAL = 2.0


def grown(children: int) -> dict[str, Any]:
    """In this process: the segment, then what it compiled."""
    import time

    started = time.perf_counter()
    from support.segments import grow

    import mutant
    from mutant import sgd
    from mutant.activations.limits import CacheLimits
    from mutant.blueprint import Blueprint
    from mutant.search import evaluator as evaluators
    from mutant.search.config import Settings

    structures: set[Any] = set()
    first: list[float] = []
    train = evaluators.Work.assignment

    def seen(work: Any, *given: Any) -> Any:
        plan: Blueprint = work.blueprint
        above = plan.parts[plan.frozen_prefix :]
        structures.add((plan.chain[plan.frozen_prefix :], tuple(part.trainable for part in above)))
        return train(work, *given)

    evaluators.Work.assignment = seen  # pyright: ignore[reportAttributeAccessIssue]
    program = sgd.training_program

    def first_step(template: Any) -> Any:
        compiled = program(template)

        def run(*given: Any) -> Any:
            reached = compiled(*given)
            if not first:
                reached[1].block_until_ready()
                first.append(time.perf_counter() - started)
            return reached

        return run

    import mutant.train

    mutant.train.training_program = first_step
    task = mutant.load_task("sample:letters")
    done = grow(task, Settings(children=children), CacheLimits())
    return {
        "structures": len(structures),
        "templates": program.cache_info().currsize,
        "programs": done.effort.compilations,
        "compile_seconds": round(done.effort.compile_seconds, 2),
        "seconds": round(done.seconds, 2),
        "first_step": round(first[0], 2),
    }


def in_a_process(children: int, cache: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--children", str(children), "--here"]
    environment = {**os.environ, "MUTANT_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=12)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(grown(options.children)))
        return
    with tempfile.TemporaryDirectory() as directory:
        for there in backend.cache_directory().glob("*"):
            if len(there.name) == 64:  # downloaded weights stay at hand
                (Path(directory) / there.name).symlink_to(there)
        cold, warm = (in_a_process(options.children, Path(directory)) for _ in range(2))
    for name, found in (("cold", cold), ("warm", warm)):
        print(name, ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    result = {
        "name": "compilations",
        "ratio": round(cold["structures"] / cold["templates"], 2),
        "goal": GOAL,
        "baseline": "a training program for each structure of suffix",
        "cold": cold,
        "warm": warm,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
