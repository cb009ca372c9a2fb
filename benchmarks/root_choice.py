"""Which root should be the default: a linear probe on frozen features, and the speed of features and of gradients.

    make venv && .venv/bin/python benchmarks/root_choice.py

Single thread, both roots in one run, on the quick start's tasks. The ratio is EfficientNet-Lite0 at 64 px over the
named baseline, ViT-S/14 at 56 px: the product of images per second through features and through the gradient of the
whole network (geometric mean), reported only if the probe's mean test accuracy is not lower.

Some minutes on a quiet machine (an estimate). Under a load of 20 on 2 cores it was stopped after the first of four
lines (vit-s14 at 28 px: probe 0.861, 31 features/s, 9 gradients/s); no whole result has been noted here yet.
"""

import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import mutant
from mutant.families import apply
from mutant.network import BATCH, on_device, run_in_batches
from mutant.roots import Root, load_root
from mutant.tasks.load import LoadedTask
from mutant.typed import jnp, xla

TASKS = ("sample:digits", "sample:letters", "sample:textures")
CHOICES = (("vit-s14", 28), ("vit-s14", 56), ("efficientnet-lite0", 32), ("efficientnet-lite0", 64))
BASELINE, CANDIDATE = CHOICES[1], CHOICES[3]


def probe(root: Root, size: int, task: LoadedTask) -> tuple[float, float]:
    """(test accuracy of logistic regression on the root's features, images per second through the root)."""
    chain = [part.component.spec for part in root.parts]
    arrays = on_device([part.component.arrays for part in root.parts])
    run_in_batches(chain, arrays, task.train.images(size)[:BATCH])
    started = time.perf_counter()
    train, test = (run_in_batches(chain, arrays, split.images(size)) for split in (task.train, task.test))
    rate = (len(train) + len(test)) / (time.perf_counter() - started)
    scaler = StandardScaler().fit(train)
    accuracies = (
        LogisticRegression(C=c, max_iter=100)
        .fit(scaler.transform(train), task.train.labels)
        .score(scaler.transform(test), task.test.labels)
        for c in (0.01, 0.1)
    )
    return max(accuracies), rate


def gradient_rate(root: Root, size: int, batches: int = 4) -> float:
    """Images per second through the gradient of every component."""
    chain = [part.component.spec for part in root.parts]
    arrays = on_device([part.component.arrays for part in root.parts])
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3)).astype(np.uint8)

    def loss(values: Sequence[Mapping[str, object]]) -> object:
        x = images
        for spec, value in zip(chain, values, strict=True):
            x = apply(spec, value, x)  # pyright: ignore[reportArgumentType]
        return jnp.mean(jnp.square(x))

    gradient = xla.jit(xla.grad(loss))
    xla.block_until_ready(gradient(arrays))
    started = time.perf_counter()
    for _ in range(batches):
        xla.block_until_ready(gradient(arrays))
    return BATCH * batches / (time.perf_counter() - started)


def main() -> None:
    tasks = [mutant.load_task(uri) for uri in TASKS]
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for name, size in CHOICES:
        root = load_root(name)
        probes = [probe(root, size, task) for task in tasks]
        gradient = gradient_rate(root, size)
        forward = float(np.mean([rate for _, rate in probes]))
        accuracy = float(np.mean([accuracy for accuracy, _ in probes]))
        found[name, size] = accuracy, float(np.sqrt(forward * gradient))
        each = ", ".join(f"{uri} {accuracy:.3f}" for uri, (accuracy, _) in zip(TASKS, probes, strict=True))
        print(f"{name} {size} px: probe {accuracy:.3f} ({each}), features {forward:.0f}/s, gradient {gradient:.0f}/s")
    better = found[CANDIDATE][0] >= found[BASELINE][0]
    ratio = found[CANDIDATE][1] / found[BASELINE][1] if better else 0.0
    result = {
        "name": "root_choice",
        "ratio": round(ratio, 2),
        "goal": 1.0,
        "baseline": "vit-s14 at 56 px: features and gradient per second, one thread",
        "probe": {f"{name}@{size}": round(accuracy, 3) for (name, size), (accuracy, _) in found.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
