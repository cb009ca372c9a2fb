"""Share of peak: counted model FLOPs over time, against the large matrix products of the same run.

    taskset -c 0 .venv/bin/python benchmarks/peak.py

About seven minutes of one core. Steps of EfficientNet 50-51%, of ViT-S 56-81%, of ViT-Ti 51-65%, geometric mean 59%;
forward 55-89%; a segment 23% (docs/step.md).
Forward: the inference programs at their one batch. Step: the training program, 16 steps per call. Segment: four
children of the default preset on `sample:letters` from EfficientNet-Lite0, compiling, reading, validation, storing and
the test included; its FLOPs are those that the system records (`mutant/cost.py`: a backward pass as two forward ones).
A step's FLOPs: forward of every part; as much again for the gradient of the weights of each trained part, and for the
gradient of the input of each part above the first trained one. That is a lower bound: all but the first layer of the
first trained part have the gradient of their input computed, too. Forward FLOPs are XLA's count.
The peak is float32 on a CPU and bfloat16 on GPU and TPU (`mutant/peak.py`); the best of several trials counts. On a CPU
time is CPU time, of one thread, so that neighbours disturb little.
"""

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from support.training_program import TrainingProgram, with_worker_environment

GOAL, REPEATS, SECONDS, ROOT = 0.5, 3, 2.0, "efficientnet-lite0"


def forward_share(suffix: Any, peak: float) -> float:
    import numpy as np

    from mutant.network import BATCH, on_device, run_in_batches

    arrays = on_device(suffix.arrays)
    rows = suffix.x[: 16 * BATCH]
    run_in_batches(suffix.specs, arrays, rows[:BATCH])
    seconds = _best(lambda: np.asarray(run_in_batches(suffix.specs, arrays, rows)))
    return sum(suffix.flops) * len(rows) / seconds / peak


def step_share(suffix: Any, peak: float) -> float:
    from support.suffixes import BATCH

    program = TrainingProgram(suffix)
    steps = program.steps_in(SECONDS)
    seconds = _best(lambda: program.run(steps)) / steps
    trained = [bool(suffix.trained(i)) for i in range(len(suffix.specs))]
    passes = [1 + trained[i] + any(trained[:i]) for i in range(len(trained))]
    flops = sum(flop * times for flop, times in zip(suffix.flops, passes, strict=True))
    return flops * BATCH / seconds / peak


def segment_share(peak: float) -> float:
    import mutant
    from mutant.search.growth import Engine
    from mutant.storage.effort import efforts

    with tempfile.TemporaryDirectory() as directory, mutant.create(Path(directory) / "m.db", root=ROOT) as system:
        started = clock()
        system.add("sample:letters", settings=mutant.Settings(children=4), engine=Engine(workers=1), baseline=False)
        seconds = clock() - started
        return sum(effort.flops for effort in efforts(system.store)) / seconds / peak


def clock() -> float:
    """Seconds: of the process where it computes itself, by the wall where a device does."""
    import jax

    return time.process_time() if jax.default_backend() == "cpu" else time.perf_counter()


def _best(run: Any) -> float:
    """The least seconds of one call."""
    times = list[float]()
    for _ in range(REPEATS):
        started = clock()
        run()
        times.append(clock() - started)
    return min(times)


def main() -> None:
    with_worker_environment()
    from support.suffixes import suffixes

    from mutant.peak import measured_peak

    peak = measured_peak()
    print(f"peak {peak.flops_per_second / 1e9:.0f} GFLOP/s, {peak.dtype}, {peak.device}", flush=True)
    forward, step = dict[str, float](), dict[str, float]()
    for suffix in suffixes():
        forward[suffix.name] = forward_share(suffix, peak.flops_per_second)
        step[suffix.name] = step_share(suffix, peak.flops_per_second)
        print(f"{suffix.name}: forward {forward[suffix.name]:.0%}, training step {step[suffix.name]:.0%}", flush=True)
    segment = segment_share(peak.flops_per_second)
    print(f"segment {segment:.0%}")
    mean = math.exp(sum(map(math.log, step.values())) / len(step))
    result = {"name": "peak", "ratio": round(mean, 2), "goal": GOAL, "baseline": "large matrix products, same run"}
    shares = {"forward": _rounded(forward), "step": _rounded(step), "segment": round(segment, 2)}
    print(json.dumps({**result, **shares}))


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 2) for name, share in shares.items()}


if __name__ == "__main__":
    main()
