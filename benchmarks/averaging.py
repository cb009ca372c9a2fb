"""Does averaging a child's best validations pay? The same children trained with it and without.

    .venv/bin/python benchmarks/averaging.py [--tasks URI,URI] [--seeds 0,1,2] [--size 64]

On an AMD EPYC, 30 November 2026, with tasks of the two suites of docs/benchmarks.md: ratio 1.0008 over ten image tasks
of 64 pixels and two seeds (+0.06 points, error 0.19, 6 better and 3 worse of 20), 0.9978 over ten tasks of characters
of 32 pixels and three seeds (-0.20 points, error 0.40, 6 better and 8 worse of 30). It does not pay here.

What a child trains on its way is the same to the bit in both; with `averaging = "greedy"` it ends with the average of
its best snapshots, without with the best one (docs/settings.md). Children are those on which the default preset spends
most: six blocks below the top three, which are dropped, with a probed head. A benchmark of whole searches (`averaging`
of `mutant bench`) tells less, since another winner early on changes all that comes later. The ratio is that of the
mean test accuracies; `points` their difference, `error` its standard error over children, `better` and `worse` how
many.
"""

import argparse
import json
import statistics
from dataclasses import replace

from support.training_program import with_worker_environment

TASKS = "sample:digits,sample:letters,sample:greek,sample:cyrillic,sample:textures"
RATE, TRAINED, DROPPED = 0.02, range(7, 13), (15, 14, 13)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=TASKS, help="task URIs")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    options = parser.parse_args()
    with_worker_environment()
    from support.one_task import OneTask

    from mutant.mutation import Clone, DropTopBlock, SetHyperparameter
    from mutant.path import block_slot
    from mutant.search.presets import DEFAULT, PRESETS

    edits = (
        SetHyperparameter("learning_rate", RATE),
        *(DropTopBlock(block) for block in DROPPED),
        *(Clone(block_slot(block)) for block in TRAINED),
    )
    kept = PRESETS[DEFAULT].training
    averaged = replace(kept, averaging="greedy")
    pairs: list[tuple[float, float]] = []
    for uri in options.tasks.split(","):
        with OneTask(uri, root="efficientnet-lite0", image_size=options.size) as one:
            for seed in map(int, options.seeds.split(",")):
                with_it, without = (
                    one.tested(one.trained(one.work(edits, training, seed))) for training in (averaged, kept)
                )
                pairs.append((with_it, without))
                print(f"{one.name} seed {seed}: averaged {with_it:.4f}, best {without:.4f}", flush=True)
    points = [100 * (with_it - without) for with_it, without in pairs]
    result = {
        "name": "averaging",
        "ratio": round(sum(with_it for with_it, _ in pairs) / sum(without for _, without in pairs), 4),
        "goal": 1.0,
        "baseline": "the best validation's weights",
        "points": round(statistics.mean(points), 3),
        "error": round(statistics.stdev(points) / len(points) ** 0.5, 3) if len(points) > 1 else None,
        "better": sum(one > 0 for one in points),
        "worse": sum(one < 0 for one in points),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
