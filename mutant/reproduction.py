"""Making a child: which mutations a parent's child gets (arXiv 2205.10937 section 3, 2205.12755, 2209.07326)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mutant.blueprint import slots_after, top_features
from mutant.hyperparameters import HyperparameterValue, neighbour
from mutant.mutation import (
    Clone,
    DropTopBlock,
    InsertAdapter,
    Mutation,
    NewHead,
    RemoveAdapter,
    RestoreTopBlock,
    SetHyperparameter,
    SetProbability,
)
from mutant.path import HEAD, Path, adapter_slot, block_slot
from mutant.rules import EVERY_ACTION, MutationRules


@dataclass
class _Draws:
    """The coin of every action, and the learned probabilities that moved while it was thrown."""

    rng: np.random.Generator
    rules: MutationRules
    learned: dict[str, float]
    moved: list[SetProbability] = field(default_factory=list[SetProbability])

    def wants(self, action: str) -> bool:
        """With probability µ the action's own µ moves one step (µ2Net+); then the action is drawn with it."""
        if self.rules.probability == "per action":
            self.evolve(action)
        return self.rng.random() < self.rules.probability_of(action, self.learned)

    def evolve(self, key: str) -> None:
        value = self.rules.probability_of(key, self.learned)
        if self.rng.random() < value:
            moved = neighbour(self.rules.probabilities, value, up=self.up())
            if moved != value:
                assert isinstance(moved, float)
                self.learned[key] = moved
                self.moved.append(SetProbability(key, moved))

    def up(self) -> bool:
        return bool(self.rng.random() < 0.5)


def mutate(
    ancestry: Sequence[Path],
    *,
    task: str,
    classes: int,
    rules: MutationRules,
    rng: np.random.Generator,
    data: Mapping[str, HyperparameterValue],
) -> tuple[Mutation, ...]:
    """Mutations of one child of `ancestry[0]` for `task`; `ancestry` runs from the parent to the root.

    `data` holds the data hyperparameters of the generation (`draw_data_hyperparameters`).
    """
    parent = ancestry[0]
    draws = _Draws(rng, rules, dict(parent.probabilities))
    if rules.probability == "per path":
        draws.evolve(EVERY_ACTION)
    mutations: list[Mutation] = [
        SetHyperparameter(name, value) for name, value in data.items() if getattr(parent.hyperparameters, name) != value
    ]
    mutations += _hyperparameters(draws, parent, rules.model_hyperparameters)
    mutations += _depth(draws, parent, ancestry[-1])
    mutations += _adapters(draws, ancestry, mutations)
    mutations += _clones(draws, ancestry, mutations)
    mutations.append(_head(ancestry, mutations, task, classes))
    return (*mutations, *draws.moved)


def unmutated(ancestry: Sequence[Path], *, task: str, classes: int, rules: MutationRules) -> tuple[Mutation, ...]:
    """A child that only gets its head (and what the rules always clone): muNet's first children of a segment."""
    always: list[Mutation] = [Clone(slot) for slot in slots_after(ancestry, ()) if slot in rules.always_cloned]
    return (*always, _head(ancestry, (), task, classes))


def draw_data_hyperparameters(
    parent: Path, rules: MutationRules, rng: np.random.Generator
) -> dict[str, HyperparameterValue]:
    """The `ds_*` values that all children of a generation share: the parent's, each moved with its probability."""
    draws = _Draws(rng, rules, dict(parent.probabilities))
    moved = {m.name: m.value for m in _hyperparameters(draws, parent, rules.data_hyperparameters)}
    return {name: moved.get(name, getattr(parent.hyperparameters, name)) for name in rules.data_hyperparameters}


def _hyperparameters(draws: _Draws, parent: Path, names: Sequence[str]) -> list[SetHyperparameter]:
    mutations: list[SetHyperparameter] = []
    for name in names:
        if draws.wants(name):
            current = getattr(parent.hyperparameters, name)
            value = neighbour(draws.rules.values(name), current, up=draws.up())
            if value != current:
                mutations.append(SetHyperparameter(name, value))
    return mutations


def _depth(draws: _Draws, parent: Path, root: Path) -> list[Mutation]:
    if not draws.wants("number of blocks"):
        return []
    if draws.up():
        return [RestoreTopBlock(parent.depth)] if parent.depth < root.depth else []
    return [DropTopBlock(parent.depth - 1)] if parent.depth > 0 else []


def _adapters(draws: _Draws, ancestry: Sequence[Path], so_far: Sequence[Mutation]) -> list[Mutation]:
    parent = ancestry[0]
    moved = (m.value for m in so_far if isinstance(m, SetHyperparameter) and m.name == "adapter_width")
    width = next(moved, parent.hyperparameters.adapter_width)
    assert isinstance(width, int)
    slots = slots_after(ancestry, so_far)
    depth = sum(slot.startswith("block_") for slot in slots)
    mutations: list[Mutation] = []
    for block in range(depth):
        slot = adapter_slot(block)
        if not draws.rules.reaches(block_slot(block), depth):
            continue
        if slot in slots:
            if draws.wants(f"remove {slot}"):
                mutations.append(RemoveAdapter(block))
        elif draws.wants(f"insert {slot}"):
            mutations.append(InsertAdapter(block, width))
    return mutations


def _clones(draws: _Draws, ancestry: Sequence[Path], so_far: Sequence[Mutation]) -> list[Mutation]:
    slots = slots_after(ancestry, so_far)
    depth = sum(slot.startswith("block_") for slot in slots)
    mutations: list[Mutation] = []
    for slot in slots:
        always = slot in draws.rules.always_cloned
        if always or (draws.rules.reaches(slot, depth) and draws.wants(f"clone {slot}")):
            mutations.append(Clone(slot))
    return mutations


def _head(ancestry: Sequence[Path], so_far: Sequence[Mutation], task: str, classes: int) -> Mutation:
    parent = ancestry[0]
    head = parent.slots.get(HEAD)
    if head is None or parent.task != task or head.spec["classes"] != classes:
        return NewHead(classes)
    return Clone(HEAD) if head.spec["features_in"] == top_features(ancestry, so_far) else NewHead(classes)
