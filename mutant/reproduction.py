"""Making a child: which mutations a parent's child gets (arXiv 2205.10937 section 3, 2205.12755, 2209.07326)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mutant.blueprint import nearest_head, slots_after, top_features
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
from mutant.path import HEAD, NORM, Path, adapter_slot, block_slot, is_block, slot_index
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


@dataclass(frozen=True)
class DataDraw:
    """The `ds_*` values that all children of a generation share, and the probabilities that moved on the way."""

    values: Mapping[str, HyperparameterValue]
    learned: tuple[SetProbability, ...] = ()


def mutate(
    ancestry: Sequence[Path],
    *,
    task: str,
    classes: int,
    rules: MutationRules,
    rng: np.random.Generator,
    data: DataDraw,
) -> tuple[Mutation, ...]:
    """Mutations of one child of `ancestry[0]` for `task`; `ancestry` runs from the parent to the root.

    `data` is what the generation drew for its data hyperparameters (`draw_data_hyperparameters`).
    """
    parent = ancestry[0]
    draws = _Draws(rng, rules, dict(parent.probabilities))
    if rules.probability == "per path":
        draws.evolve(EVERY_ACTION)
    mutations: list[Mutation] = [
        SetHyperparameter(name, value)
        for name, value in data.values.items()
        if getattr(parent.hyperparameters, name) != value
    ]
    mutations += _hyperparameters(draws, parent, rules.model_hyperparameters)
    mutations += _depth(draws, parent, ancestry[-1])
    mutations += _adapters(draws, ancestry, mutations)
    mutations += _clones(draws, ancestry, mutations)
    mutations.append(_head(ancestry, mutations, task, classes))
    return (*mutations, *data.learned, *draws.moved)


def unmutated(
    ancestry: Sequence[Path], *, task: str, classes: int, rules: MutationRules, dropped: int = 0
) -> tuple[Mutation, ...]:
    """A child that only gets its head (and what the rules always clone): muNet's first children of a segment.

    `dropped` of its top blocks are taken out.
    """
    top = ancestry[0].depth - 1
    drops: list[Mutation] = [DropTopBlock(top - number) for number in range(dropped)]
    always: list[Mutation] = [Clone(slot) for slot in slots_after(ancestry, drops) if slot in rules.always_cloned]
    return (*drops, *always, _head(ancestry, drops, task, classes))


def deepened(
    ancestry: Sequence[Path], *, task: str, classes: int, rules: MutationRules, blocks: int
) -> tuple[Mutation, ...]:
    """A child that trains its parent's top `blocks` blocks on, with all that stands among and above them and its head.

    `rules` do not bound how deep that is.
    """
    slots = slots_after(ancestry, ())
    lowest = sum(is_block(slot) for slot in slots) - blocks
    clones: list[Mutation] = [Clone(s) for s in slots if s in rules.always_cloned or _above(s, lowest)]
    return (*clones, _head(ancestry, (), task, classes))


def draw_data_hyperparameters(parent: Path, rules: MutationRules, rng: np.random.Generator) -> DataDraw:
    """The parent's data hyperparameters, each moved with its probability."""
    draws = _Draws(rng, rules, dict(parent.probabilities))
    moved = {m.name: m.value for m in _hyperparameters(draws, parent, rules.data_hyperparameters)}
    names = rules.data_hyperparameters
    values = {name: moved.get(name, getattr(parent.hyperparameters, name)) for name in names}
    return DataDraw(values, tuple(draws.moved))


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
    top = parent.depth - 1
    return [DropTopBlock(top)] if top >= 0 and draws.rules.reaches(block_slot(top), root.depth) else []


def _adapters(draws: _Draws, ancestry: Sequence[Path], so_far: Sequence[Mutation]) -> list[Mutation]:
    parent = ancestry[0]
    width = _after(parent, so_far, "adapter_width")
    slots = slots_after(ancestry, so_far)
    depth = sum(slot.startswith("block_") for slot in slots)
    trained = _after(parent, so_far, "trained_blocks")
    mutations: list[Mutation] = []
    for block in range(depth):
        slot = adapter_slot(block)
        if not draws.rules.reaches(block_slot(block), ancestry[-1].depth):
            continue
        if draws.rules.clones == "top blocks" and block >= depth - trained and slot not in slots:
            continue  # the block itself is trained
        if slot in slots:
            if draws.wants(f"remove {slot}"):
                mutations.append(RemoveAdapter(block))
        elif draws.wants(f"insert {slot}"):
            mutations.append(InsertAdapter(block, width))
    return mutations


def _clones(draws: _Draws, ancestry: Sequence[Path], so_far: Sequence[Mutation]) -> list[Mutation]:
    rules, depth, slots = draws.rules, ancestry[-1].depth, slots_after(ancestry, so_far)
    if rules.clones == "top blocks":
        trained = _after(ancestry[0], so_far, "trained_blocks")
        lowest = sum(is_block(slot) for slot in slots) - trained
        return [Clone(s) for s in slots if s in rules.always_cloned or (rules.reaches(s, depth) and _above(s, lowest))]
    wanted = (s in rules.always_cloned or (rules.reaches(s, depth) and draws.wants(f"clone {s}")) for s in slots)
    return [Clone(slot) for slot, want in zip(slots, wanted, strict=True) if want]


def _above(slot: str, lowest: int) -> bool:
    """Whether a slot stands at block `lowest` or above; what stands below all blocks does when all are."""
    index = slot_index(slot)
    if slot in ("top", NORM):
        return True
    return index >= lowest if index is not None else lowest <= 0


def _after(parent: Path, so_far: Sequence[Mutation], name: str) -> int:
    """A whole-numbered hyperparameter of the child."""
    moved = (m.value for m in so_far if isinstance(m, SetHyperparameter) and m.name == name)
    value = next(moved, getattr(parent.hyperparameters, name))
    assert isinstance(value, int)
    return value


def _head(ancestry: Sequence[Path], so_far: Sequence[Mutation], task: str, classes: int) -> Mutation:
    """A copy of the task's own head when one fits what the child's top emits, else a new one."""
    if ancestry[0].task != task:
        return NewHead(classes)
    head = nearest_head(ancestry, top_features(ancestry, so_far))
    return Clone(HEAD) if head is not None and head.spec["classes"] == classes else NewHead(classes)
