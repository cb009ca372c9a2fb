"""Tiny networks and data, and what is built of them: real components at a size that trains in a moment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mutant import families
from mutant.activations.cache import ActivationCache
from mutant.assignment import Assignment, Training
from mutant.blueprint import Blueprint, blueprint
from mutant.component import Arrays, Component, Spec
from mutant.cost import forward_flops
from mutant.dataset import Dataset, Split
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Mutation
from mutant.outcome import Trained
from mutant.path import Candidate, Part, Path, block_slot
from mutant.train import train

SIZE = 16
ROOT = hashlib.sha256(b"root").hexdigest()
CLASSES = 3


def vit_chain(blocks: int, features: int = 16) -> list[tuple[str, int, Spec]]:
    """(slot, depth, spec) of a ViT with patch 8 for images of 16 pixels."""
    grey = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
    block = Spec.of(
        "vit/block", features=features, heads=2, mlp=2 * features, eps=1e-6, layer_scale=False, gelu="exact"
    )
    return [
        ("embedding", 0, Spec.of("vit/embedding", patch=8, features=features, **grey)),
        ("class_token", 0, Spec.of("vit/class_token", features=features)),
        (
            "position_embedding",
            0,
            Spec.of("vit/position_embedding", grid=2, interpolation="bilinear", features=features),
        ),
        *((block_slot(i), i + 1, block) for i in range(blocks)),
        ("norm", 0, Spec.of("vit/norm", features=features, eps=1e-6)),
    ]


def conv_chain(blocks: int) -> list[tuple[str, int, Spec]]:
    """(slot, depth, spec) of an EfficientNet-Lite whose blocks have different widths."""
    grey = {"mean": (127.0,) * 3, "std": (128.0,) * 3}
    widths = [8, *(8 + 4 * i for i in range(blocks))]
    slots = [("embedding", 0, Spec.of("efficientnet/embedding", kernel=3, stride=2, features=8, eps=1e-3, **grey))]
    for i in range(blocks):
        spec = Spec.of(
            "efficientnet/block", features_in=widths[i], features=widths[i + 1], expand=2, kernel=3, stride=1, eps=1e-3
        )
        slots.append((block_slot(i), i + 1, spec))
    return [
        *slots,
        ("top", blocks, Spec.of("efficientnet/top", features_in=widths[-1], features=32)),
        ("norm", blocks, Spec.of("efficientnet/norm", features=32, eps=1e-3)),
    ]


@dataclass
class World:
    """A root with its components, and everything trained on top of it so far."""

    root: Path
    components: dict[str, Component] = field(default_factory=dict[str, Component])
    traces: dict[str, Arrays] = field(default_factory=dict[str, Arrays])
    paths: dict[str, Path] = field(default_factory=dict[str, Path])

    def ancestry(self, path: Path) -> list[Path]:
        line = [path]
        while line[-1].parent is not None:
            line.append(self.paths[line[-1].parent])
        return line

    def assignment(
        self, parent: Path, mutations: Sequence[Mutation], *, task: str = "stripes", seed: int = 1, training: Training
    ) -> Assignment:
        plan: Blueprint = blueprint(self.ancestry(parent), mutations)
        candidate = Candidate(task, parent.id, tuple(mutations), seed)
        return Assignment(candidate, plan, self.components, self.traces, training)

    def train(
        self,
        parent: Path,
        mutations: Sequence[Mutation],
        *,
        task: str = "stripes",
        seed: int = 1,
        data: Dataset | None = None,
        training: Training = Training(48, 2, 16),
        cache: ActivationCache | None = None,
    ) -> Trained:
        """Train a child and keep what it made; fails the test when the child fails."""
        work = self.assignment(parent, mutations, task=task, seed=seed, training=training)
        outcome = train(work, data or stripes(), ActivationCache() if cache is None else cache)
        assert isinstance(outcome, Trained), outcome
        self.components.update(outcome.components)
        self.traces.update(outcome.traces)
        self.paths[outcome.path.id] = outcome.path
        return outcome


def world(blocks: int = 3, chain: Sequence[tuple[str, int, Spec]] | None = None) -> World:
    parts: list[Part] = []
    components: dict[str, Component] = {}
    for index, (slot, depth, spec) in enumerate(chain or vit_chain(blocks)):
        component = Component(spec, families.initial(spec, np.random.default_rng(index)))
        components[component.digest] = component
        parts.append(Part(slot, spec, component.digest, component.n_parameters, depth, trained_by=ROOT))
    start = Hyperparameters(image_size=SIZE, learning_rate=0.05)
    root = Path(ROOT, None, None, tuple(parts), start)
    root = replace(root, flops=forward_flops([part.spec for part in parts], SIZE))
    return World(root, components, {}, {ROOT: root})


def stripes(n_train: int = 48, n_validation: int = 24, *, seed: int = 0, key: str = "stripes") -> Dataset:
    """Noisy images whose class is where a bright band lies."""
    rng = np.random.default_rng(seed)

    def split(name: str, n: int) -> Split:
        labels = (np.arange(n) % CLASSES).astype(np.int32)
        images = rng.integers(0, 120, (n, SIZE, SIZE, 3)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[5 * label : 5 * label + 5] += 120
        return Split(f"{key}/{name}", images, labels)

    return Dataset(split("train", n_train), split("validation", n_validation), CLASSES)
