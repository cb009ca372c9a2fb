"""Full fine-tuning here against the same fine-tuning in PyTorch, from the same weights: a witness from outside.

    .venv/bin/python -m pip install torch==2.13.0     (not a dependency; the benchmark says so when it is missing)
    .venv/bin/python benchmarks/finetune_torch.py [--tasks sample:textures,sample:cyrillic] [--seeds 0,1,2] [--size 64]

One core of an AMD EPYC beside other work, 30 November 2026 (accuracies do not depend on time): ratio 0.995. Textures
89.9% here and 89.7% in PyTorch, cyrillic letters 66.1% and 67.2%; the six differences have a mean of -0.4 points and a
standard deviation of 2.1, so that the two cannot be told apart.

EfficientNet-Lite0 with all its weights trained, its batch norms' statistics as they are: SGD with momentum 0.9 and
clipping, cosine with warm-up, batch 32, the best of four validations counts, its accuracy is that of the test split.
PyTorch draws its own order of examples; only the decoded images and the schedule of rates are common, so that the
network, its gradient, the optimizer and the training loop are each one's own. The ratio is the accuracy here over
PyTorch's, averaged over tasks and seeds; `spread` is the standard deviation of the seeds' differences.
"""

import argparse
import importlib.util
import json
import statistics
from typing import Any

from support.training_program import with_worker_environment

RATE, VALIDATIONS, EXAMPLES, BATCH = 0.01, 4, 2_048, 32
INSTALL = "PyTorch is not installed, so nothing is compared. Install it with: python -m pip install torch==2.13.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="sample:textures,sample:cyrillic", help="task URIs, at least two")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print(INSTALL)
        return
    with_worker_environment()
    from support.one_task import OneTask

    found: dict[str, list[tuple[float, float]]] = {}
    for uri in options.tasks.split(","):
        with OneTask(uri, root="efficientnet-lite0", image_size=options.size) as one:
            pairs: list[tuple[float, float]] = []
            for seed in map(int, options.seeds.split(",")):
                pairs.append((ours(one, seed), theirs(one, options.size, seed)))
                print(f"{one.name} seed {seed}: here {pairs[-1][0]:.4f}, PyTorch {pairs[-1][1]:.4f}", flush=True)
            found[one.name] = pairs
    every = [pair for pairs in found.values() for pair in pairs]
    differences = [here - torch for here, torch in every]
    result = {
        "name": "finetune_torch",
        "ratio": round(sum(here for here, _ in every) / sum(torch for _, torch in every), 4),
        "goal": 1.0,
        "baseline": "the same fine-tuning in PyTorch",
        "difference": round(statistics.mean(differences), 4),
        "spread": round(statistics.stdev(differences), 4) if len(differences) > 1 else None,
        "tasks": {
            name: {
                side: round(statistics.mean(values), 4)
                for side, values in zip(("here", "torch"), zip(*pairs, strict=True), strict=True)
            }
            for name, pairs in found.items()
        },
    }
    print(json.dumps(result))


def ours(one: Any, seed: int) -> float:
    """Test accuracy of a child that trains everything."""
    from mutant.assignment import Training
    from mutant.mutation import Clone, SetHyperparameter
    from mutant.path import HEAD

    clones = [Clone(part.slot) for part in one.root.parts if part.slot != HEAD]
    work = one.work((SetHyperparameter("learning_rate", RATE), *clones), Training(EXAMPLES, VALIDATIONS, BATCH), seed)
    return one.tested(one.trained(work))


def theirs(one: Any, size: int, seed: int) -> float:
    """Test accuracy of the same in PyTorch."""
    from support.torch_finetuning import Examples, fine_tune

    from mutant.hyperparameters import Hyperparameters
    from mutant.path import HEAD
    from mutant.schedule import learning_rates

    dataset, test = one.data.dataset(size), one.task.split("test")
    splits = {
        "train": Examples(dataset.train.images, dataset.train.labels),
        "validation": Examples(dataset.validation.images, dataset.validation.labels),
        "test": Examples(test.images(size), test.labels),
    }
    visit = min(EXAMPLES, len(dataset.train))
    steps = -(-visit // BATCH)
    rates = learning_rates(Hyperparameters(learning_rate=RATE), steps * VALIDATIONS, VALIDATIONS)
    parts = list(one.supply.components([part.digest for part in one.root.parts if part.slot != HEAD]).values())
    return fine_tune(
        [part.spec for part in parts], [part.arrays for part in parts], splits, one.data.classes,
        rates=rates.reshape(VALIDATIONS, steps), visit=visit, batch=BATCH, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
