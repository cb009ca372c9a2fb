"""A training step above k of 12 frozen blocks, with cached activations, against what the cost model predicts.

    taskset -c 0 .venv/bin/python benchmarks/cached_step.py [--root vit-ti16 --image-size 128]

About four minutes on one core; 0.95, each k in a process of its own.

ViT-Ti/16, 65 tokens, batch 32, one thread. Three ways for each k: the full network trained (k = 0), the prefix frozen
but run at every step, the prefix frozen and its activations read. The cost model counts three forwards for what is
trained and one for a prefix that is run (`mutant/counting.py`), at the rates of the full step and of the whole forward,
and a fixed time per step, that of the head alone (k = 12). It predicts full / cached and recomputed / cached; the ratio
is the worst of measured / predicted over k = 3, 6, 9, 11.
Time is CPU time of the process, of the best of the repeats; programs are compiled before.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from support.timing import best_of
from support.training_program import STEPS, TrainingProgram, with_worker_environment

FROZEN = (0, 3, 6, 9, 11, 12)
GOAL, REPEATS = 0.9, 3


def measured(root: str, image_size: int, k: int) -> tuple[float, float]:
    """Seconds of a step above `k` frozen blocks, and of running those for its batch."""
    import numpy as np
    from support.suffixes import BATCH, suffix

    from mutant.network import on_device, run_in_batches

    program = TrainingProgram(suffix(root, image_size, f"block_{k:02d}" if k < 12 else "norm", tokens=True))
    steps = STEPS if k > 6 else STEPS // 8
    program.run(1)
    step = best_of(REPEATS, lambda: program.run(steps), enough=30.0).cpu / steps
    if k == 0:
        return step, 0.0
    whole = suffix(root, image_size, "block_00", tokens=True)
    arrays = on_device(whole.arrays[:k])

    def run() -> object:
        return np.asarray(run_in_batches(whole.specs[:k], arrays, whole.x[:BATCH]))

    run()
    return step, best_of(REPEATS, run).cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="vit-ti16")
    parser.add_argument("--image-size", type=int, default=128)
    options = parser.parse_args()
    with_worker_environment()
    from support.suffixes import suffix

    whole = suffix(options.root, options.image_size, "block_00", tokens=True)
    cached: dict[int, float] = {}
    prefix: dict[int, float] = {}
    for k in FROZEN:
        # In a process of its own: what another left in memory made a step up to a sixth slower.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            cached[k], prefix[k] = alone.submit(measured, options.root, options.image_size, k).result()
        print(f"k = {k}: step {1e3 * cached[k]:.2f} ms, prefix {1e3 * prefix[k]:.2f} ms", flush=True)
    fixed, whole_flops = cached[12], sum(whole.flops)
    found: dict[str, dict[str, float]] = {}
    for k in FROZEN[1:]:
        share = sum(whole.flops[k:]) / whole_flops
        step = fixed + share * (cached[0] - fixed)
        run = prefix[12] * sum(whole.flops[:k]) / sum(whole.flops[:12])
        model = cached[0] / step, (step + run) / step
        found_here = cached[0] / cached[k], (cached[k] + prefix[k]) / cached[k]
        found[str(k)] = {
            "of_full": round(found_here[0], 2), "of_full_predicted": round(model[0], 2),
            "of_recomputed": round(found_here[1], 2), "of_recomputed_predicted": round(model[1], 2),
        }  # fmt: skip
        print(f"k = {k}: full / cached {found_here[0]:.2f} (model {model[0]:.2f}), "
              f"recomputed / cached {found_here[1]:.2f} (model {model[1]:.2f})", flush=True)  # fmt: skip
    worst = min(
        min(f["of_full"] / f["of_full_predicted"], f["of_recomputed"] / f["of_recomputed_predicted"])
        for k, f in found.items()
        if k != "12"
    )
    result = {"name": "cached_step", "ratio": round(worst, 2), "goal": GOAL, "baseline": "the cost model's prediction"}
    print(json.dumps({**result, "by_frozen_blocks": found}))


if __name__ == "__main__":
    main()
