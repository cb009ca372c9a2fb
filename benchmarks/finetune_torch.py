"""Full fine-tuning here against the same fine-tuning in PyTorch, from the same weights: a witness from outside.

    .venv/bin/python -m pip install torch==2.13.0     (not a dependency; the benchmark says so when it is missing)
    .venv/bin/python benchmarks/finetune_torch.py [--tasks sample:textures,sample:cyrillic] [--seeds 0,1,2] [--size 64]

Not measured yet.

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
import tempfile
from pathlib import Path

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
    found: dict[str, list[tuple[float, float]]] = {}
    for uri in options.tasks.split(","):
        with Bench(uri, options.size) as bench:
            pairs: list[tuple[float, float]] = []
            for seed in map(int, options.seeds.split(",")):
                pairs.append((bench.ours(seed), bench.theirs(seed)))
                print(f"{bench.name} seed {seed}: here {pairs[-1][0]:.4f}, PyTorch {pairs[-1][1]:.4f}", flush=True)
            found[bench.name] = pairs
    every = [pair for pairs in found.values() for pair in pairs]
    differences = [ours - theirs for ours, theirs in every]
    result = {
        "name": "finetune_torch",
        "ratio": round(sum(ours for ours, _ in every) / sum(theirs for _, theirs in every), 4),
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


class Bench:
    """A system with its root and one task, fine-tuned on either side."""

    def __init__(self, uri: str, size: int) -> None:
        import mutant
        from mutant.search.evaluator import InProcessEvaluator
        from mutant.search.supply import SearchData, StoreSupply

        self._directory = tempfile.TemporaryDirectory()
        self._task = mutant.load_task(uri)
        self.name = self._task.task.name
        self._system = mutant.create(Path(self._directory.name) / "m.db", root="efficientnet-lite0", image_size=size)
        self._root = self._system.store.root()
        self._data = SearchData.of(self._task)
        self._supply = StoreSupply(self._system.store, {self.name: self._data})
        self._evaluator = InProcessEvaluator()
        self._size = size

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._evaluator.close()
        self._system.close()
        self._directory.cleanup()

    def ours(self, seed: int) -> float:
        """Test accuracy of a child that trains everything."""
        from mutant.assignment import Training
        from mutant.blueprint import blueprint
        from mutant.mutation import Clone, NewHead, SetHyperparameter
        from mutant.outcome import Trained
        from mutant.path import HEAD, Candidate
        from mutant.search.evaluate import evaluate
        from mutant.search.evaluator import Work

        clones = [Clone(part.slot) for part in self._root.parts if part.slot != HEAD]
        edits = (SetHyperparameter("learning_rate", RATE), *clones, NewHead(self._data.classes))
        training = Training(EXAMPLES, VALIDATIONS, BATCH)
        work = Work(Candidate(self.name, self._root.id, edits, seed), blueprint([self._root], edits), training)
        ((_, outcome),) = self._evaluator.train([work], self._supply)
        assert isinstance(outcome, Trained), outcome
        shared = {part.digest: self._supply.component(part.digest) for part in self._root.parts}
        return evaluate(outcome.path, {**shared, **outcome.components}, self._task, self._evaluator).accuracy

    def theirs(self, seed: int) -> float:
        """Test accuracy of the same in PyTorch."""
        from support.torch_finetuning import Examples, fine_tune

        from mutant.hyperparameters import Hyperparameters
        from mutant.path import HEAD
        from mutant.schedule import learning_rates

        dataset, test = self._data.dataset(self._size), self._task.split("test")
        splits = {
            "train": Examples(dataset.train.images, dataset.train.labels),
            "validation": Examples(dataset.validation.images, dataset.validation.labels),
            "test": Examples(test.images(self._size), test.labels),
        }
        visit = min(EXAMPLES, len(dataset.train))
        steps = -(-visit // BATCH)
        rates = learning_rates(Hyperparameters(learning_rate=RATE), steps * VALIDATIONS, VALIDATIONS)
        parts = [self._supply.component(part.digest) for part in self._root.parts if part.slot != HEAD]
        return fine_tune(
            [part.spec for part in parts], [part.arrays for part in parts], splits, self._data.classes,
            rates=rates.reshape(VALIDATIONS, steps), visit=visit, batch=BATCH, seed=seed,
        )  # fmt: skip


if __name__ == "__main__":
    main()
