"""The suffixes whose training step the benchmarks measure: weights, activations at the cut, labels, all drawn here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutant.assignment import Assignment, Training
from mutant.blueprint import Blueprint, PlannedPart
from mutant.component import Arrays, Component, Spec, is_buffer
from mutant.cost import chain_flops
from mutant.families import family_module, initial
from mutant.families.chain import Slot
from mutant.hyperparameters import Hyperparameters
from mutant.path import HEAD, Candidate, Part
from mutant.roots import find

CLASSES, BATCH, EXAMPLES = 26, 32, 512


@dataclass(frozen=True)
class Suffix:
    """The parts of a path above a frozen prefix, in order; `trainable` names the slots that a step changes."""

    name: str
    slots: tuple[str, ...]
    specs: tuple[Spec, ...]
    arrays: tuple[Arrays, ...]
    trainable: frozenset[str]
    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, np.dtype[np.int32]]
    assignment: Assignment
    """The same as a child that a worker is given."""

    @property
    def flops(self) -> tuple[float, ...]:
        """Forward FLOPs of each part for one row, by XLA's count."""
        return chain_flops(self.specs, self.x.shape[1:], "float32")

    def trained(self, position: int) -> Arrays:
        """The arrays of one part that are trained; empty for a frozen one."""
        if self.slots[position] not in self.trainable:
            return {}
        return {name: array for name, array in self.arrays[position].items() if not is_buffer(name)}

    def fixed(self, position: int) -> Arrays:
        trained = self.trained(position)
        return {name: array for name, array in self.arrays[position].items() if name not in trained}


def suffix(root: str, image_size: int, first: str, *trainable: str, tokens: bool) -> Suffix:
    """The chain of `root` from the slot `first` to a head of 26 classes; everything is trained if nothing is named."""
    rng = np.random.default_rng(0)
    info = find(root)
    chain = family_module(info.architecture.kind).chain(info.architecture, image_size)
    start = [slot.name for slot in chain].index(first)
    width = chain[-1].spec["features"]
    slots = (*(slot.name for slot in chain[start:]), "head")
    specs = (*(slot.spec for slot in chain[start:]), Spec.of("head", features_in=width, classes=CLASSES))
    arrays = tuple({n: _lively(n, a, rng) for n, a in initial(spec, rng).items()} for spec in specs)
    shape = _input_shape(chain, start, image_size, tokens=tokens)
    return Suffix(
        f"{root}@{image_size} {first}+{' (' + ' '.join(trainable) + ')' if trainable else ''}",
        slots,
        specs,
        arrays,
        frozenset(trainable or slots),
        rng.standard_normal((EXAMPLES, *shape)).astype(np.float32),
        rng.integers(0, CLASSES, EXAMPLES).astype(np.int32),
        _assignment(chain, dict(zip(slots, specs, strict=True)), arrays, frozenset(trainable or slots), image_size),
    )


def _assignment(
    chain: Sequence[Slot], suffix: Mapping[str, Spec], arrays: Sequence[Arrays], trainable: frozenset[str], size: int
) -> Assignment:
    trunk = tuple(Part(slot.name, slot.spec, slot.name, 0, slot.depth) for slot in chain)
    head = Part(HEAD, suffix[HEAD], HEAD, 0)
    parts = tuple(PlannedPart(p.slot, p.spec, p.depth, p, p.slot in trainable) for p in (*trunk, head))
    plan = Blueprint(parts, Hyperparameters(image_size=size), {}, trunk)
    components = {slot: Component(spec, held) for (slot, spec), held in zip(suffix.items(), arrays, strict=True)}
    return Assignment(Candidate("", "", (), 0), plan, components, {}, Training())


def _lively(name: str, array: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Initial values with what starts at 0 or 1 moved a little, so that no gradient is 0 by construction."""
    if name.endswith("var"):
        return array
    return (array + 0.02 * rng.standard_normal(array.shape)).astype(np.float32)


def _input_shape(chain: Any, start: int, image_size: int, *, tokens: bool) -> tuple[int, ...]:
    if tokens:
        return 1 + (image_size // chain[0].spec["patch"]) ** 2, chain[start].spec["features"]
    side = image_size
    for slot in chain[:start]:
        config = dict(slot.spec.config)
        side = -(-side // config.get("stride", 1))
    config = dict(chain[start].spec.config)
    return side, side, config.get("features_in", config["features"])


def suffixes() -> tuple[Suffix, ...]:
    """EfficientNet-Lite0 as the default preset changes it, and vision transformers with their top blocks trained."""
    lite = "efficientnet-lite0"
    nets = (
        suffix(lite, 64, "block_12", "block_12", "block_13", "block_14", "block_15", "norm", "head", tokens=False),
        suffix(lite, 64, "block_13", "block_13", "norm", "head", tokens=False),
        suffix(lite, 64, "block_15", "block_15", "norm", "head", tokens=False),
    )
    small = (suffix("vit-s14", 56, f"block_{12 - k:02d}", tokens=True) for k in (1, 3, 6, 12))
    tiny = (suffix("vit-ti16", 128, f"block_{12 - k:02d}", tokens=True) for k in (1, 3, 6, 12))
    return (*nets, *small, *tiny)
