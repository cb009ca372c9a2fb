"""What keeping activations of frozen prefixes saves in a generation, and that it stays within its budget.

    .venv/bin/python benchmarks/activations.py

A generation of eight children of a ViT of 10 blocks (random weights: the work is what counts) on 1,024 images, whose
frozen prefixes share their lower parts: without activations kept, with a cache too small for all of them, and with
one that has room. What lies in the cache's directories is read from the file system while the children train, and
compared with the budget; every child must end with the same bytes in all three. A minute and a half on one core.
Measured on a machine of 2 cores that was busy with other work:

    none        31.65 s     13,312 rows computed     0.0 MiB in memory,   0.0 MiB in files of 0 and 0
    too small   14.87 s      7,552 rows computed     3.9 MiB in memory,   0.0 MiB in files of 8 and 8
    room         9.01 s      3,456 rows computed    31.7 MiB in memory,   0.0 MiB in files of 256 and 0
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

os.environ["NPROC"] = "1"

import numpy as np

from mutant import families
from mutant.activations.homes import home_of, memory_of, run_home
from mutant.activations.limits import OFF, CacheLimits
from mutant.assignment import Training
from mutant.blueprint import blueprint
from mutant.component import Component, Spec
from mutant.dataset import Dataset, Split
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Clone, NewHead, SetHyperparameter
from mutant.outcome import Trained
from mutant.path import Candidate, Part, block_slot
from mutant.path import Path as ModelPath
from mutant.search.evaluator import InProcessEvaluator, Work
from mutant.search.sharing import sharing

SIZE, BLOCKS, FEATURES, CLASSES, EXAMPLES, VALIDATION = 48, 10, 96, 4, 1_024, 128
TRAINING = Training(512, 3, 32)
MIB = 1 << 20


class Shelf:
    """A root with random weights and noisy images, as a supply."""

    def __init__(self) -> None:
        grey = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
        block = Spec.of(
            "vit/block", features=FEATURES, heads=3, mlp=4 * FEATURES, eps=1e-6, layer_scale=False, gelu="exact"
        )
        place = Spec.of("vit/position_embedding", grid=6, interpolation="bilinear", features=FEATURES)
        chain = [
            ("embedding", 0, Spec.of("vit/embedding", patch=8, features=FEATURES, **grey)),
            ("class_token", 0, Spec.of("vit/class_token", features=FEATURES)),
            ("position_embedding", 0, place),
            *((block_slot(i), i + 1, block) for i in range(BLOCKS)),
            ("norm", 0, Spec.of("vit/norm", features=FEATURES, eps=1e-6)),
        ]
        self._made: dict[str, Component] = {}
        parts: list[Part] = []
        for index, (slot, depth, spec) in enumerate(chain):
            one = Component(spec, families.initial(spec, np.random.default_rng(index)))
            self._made[one.digest] = one
            parts.append(Part(slot, spec, one.digest, one.n_parameters, depth, trained_by="0" * 64))
        self.root = ModelPath("0" * 64, None, None, tuple(parts), Hyperparameters(image_size=SIZE, learning_rate=0.02))
        self.data = Dataset(_split("train", EXAMPLES), _split("validation", VALIDATION), CLASSES)

    def components(self, digests: Iterable[str]) -> dict[str, Component]:
        return {digest: self._made[digest] for digest in digests}

    def trace(self, digest: str) -> dict[str, np.ndarray]:
        return {}

    def dataset(self, task: str, image_size: int) -> Dataset:
        return self.data

    def generation(self, seed: int) -> tuple[Work, ...]:
        """Children that clone one block from the top four upwards, or only train a head, each with another rate."""
        edits = [[Clone(block_slot(BLOCKS - 1 - k % 4))] if k % 2 else [] for k in range(8)]
        return sharing([self._work(k + 8 * seed, edit) for k, edit in enumerate(edits)])

    def _work(self, seed: int, edit: list[Clone]) -> Work:
        mutations = (SetHyperparameter("learning_rate", 0.01), *edit, NewHead(CLASSES))
        return Work(Candidate("noise", self.root.id, mutations, seed), blueprint([self.root], mutations), TRAINING)


def _split(name: str, n: int) -> Split:
    rng = np.random.default_rng(len(name))
    labels = (np.arange(n) % CLASSES).astype(np.int32)
    images = rng.integers(0, 180, (n, SIZE, SIZE, 3)).astype(np.uint8)
    images[np.arange(n), 8 * labels] += 70
    return Split(f"noise/{name}", images, labels)


class Watch(threading.Thread):
    """Reads, while it runs, how many bytes the file system says lie in the directories of a run."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.memory, self.files, self._stop_it = 0, 0, threading.Event()
        self._directories = memory_of(home_of(name)), home_of(name) / "files"

    def run(self) -> None:
        while not self._stop_it.wait(0.05):
            memory, files = (sum(map(_bytes, _files(directory))) for directory in self._directories)
            self.memory, self.files = max(self.memory, memory), max(self.files, files)

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def measure(shelf: Shelf, name: str, limits: CacheLimits, seed: int) -> tuple[dict[str, float], list[str]]:
    """Seconds of one generation, bytes held at most, and the children's components."""
    with run_home(name):
        evaluator, watch = InProcessEvaluator(limits, name), Watch(name)
        watch.start()
        started = time.perf_counter()
        outcomes = dict(evaluator.train(shelf.generation(seed), shelf))
        seconds = time.perf_counter() - started
        watch.stop()
        computed = evaluator.cache.computed_rows
        evaluator.close()
    assert not home_of(name).exists()
    assert not memory_of(home_of(name)).exists()
    trained = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Trained)]
    assert len(trained) == 8, outcomes
    found = {"seconds": seconds, "memory": watch.memory, "files": watch.files, "rows": computed}
    return found, [digest for outcome in trained for digest in outcome.components]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["MUTANT_CACHE"] = directory
        shelf = Shelf()
        measure(shelf, "compile", CacheLimits(), 1)
        kept = {"none": OFF, "too small": CacheLimits(8 * MIB, 8 * MIB), "room": CacheLimits(256 * MIB, 0)}
        results: dict[str, dict[str, float]] = {}
        bits: list[list[str]] = []
        for name, limits in kept.items():
            results[name], components = measure(shelf, name.replace(" ", "-"), limits, 0)
            bits.append(components)
            one = results[name]
            held = f"{one['memory'] / MIB:5.1f} MiB in memory, {one['files'] / MIB:5.1f} MiB in files"
            budget = f"of {(limits.memory_bytes or 0) / MIB:.0f} and {(limits.file_bytes or 0) / MIB:.0f}"
            print(f"{name:10} {one['seconds']:6.2f} s   {one['rows']:8,.0f} rows computed   {held} {budget}")
            assert one["memory"] <= (limits.memory_bytes or 0) + 4096
            assert one["files"] <= (limits.file_bytes or 0)
    assert bits[0] == bits[1] == bits[2], "a child differs"
    print("Every child ends with the same bytes in all three.")
    shares = [results["too small"]["memory"] / (8 * MIB), results["room"]["memory"] / (256 * MIB)]
    memory = {
        "name": "memory",
        "ratio": round(1 / max(shares), 2),
        "goal": 1.0,
        "baseline": "the cache's limit of memory",
    }
    print(json.dumps(memory))
    ratio = results["none"]["seconds"] / results["room"]["seconds"]
    small = results["none"]["seconds"] / results["too small"]["seconds"]
    told = {"name": "activations", "ratio": round(ratio, 2), "goal": 2.0, "baseline": "no activations kept"}
    print(json.dumps({**told, "too_small_ratio": round(small, 2), "results": results}))


if __name__ == "__main__":
    main()
