"""Blueprints: a parent and its mutations turned into the list of parts that a child is built and trained from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from mutant.component import Spec
from mutant.hyperparameters import Hyperparameters
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
from mutant.path import HEAD, Part, Path, adapter_slot, is_block, slot_index


@dataclass(frozen=True)
class PlannedPart:
    """One slot of a child: shared (frozen source), cloned (trainable copy of the source) or fresh (no source)."""

    slot: str
    spec: Spec
    depth: int
    source: Part | None
    trainable: bool


@dataclass(frozen=True)
class Blueprint:
    """All that defines a child before training: its parts in order, hyperparameters and learned probabilities.

    `trunk` is the root's parts, among which a child's blocks are.
    """

    parts: tuple[PlannedPart, ...]
    hyperparameters: Hyperparameters
    probabilities: Mapping[str, float]
    trunk: tuple[Part, ...]

    @property
    def chain(self) -> tuple[Spec, ...]:
        return tuple(part.spec for part in self.parts)

    @property
    def frozen_prefix(self) -> int:
        """Number of parts below the first trainable one."""
        return next((i for i, part in enumerate(self.parts) if part.trainable), len(self.parts))


def adapter_spec(block: Spec, width: int) -> Spec:
    """The adapter that fits after `block`: LayerNorm, Dense(width), GELU, Dense(features), added to its input."""
    return Spec.of("adapter", features=block["features"], width=width)


def head_spec(features_in: int, classes: int) -> Spec:
    return Spec.of("head", features_in=features_in, features=classes, classes=classes)


def blueprint(ancestry: Sequence[Path], mutations: Sequence[Mutation]) -> Blueprint:
    """What a child of `ancestry[0]` looks like after `mutations`.

    `ancestry` runs from the parent to the root: a restored block starts from its nearest ancestor's component of the
    same name and shape (method of arXiv 2205.12755). Inserted adapters and new heads are always fresh.
    """
    parent = ancestry[0]
    slots = _body(ancestry, mutations)
    slots.append(_head(slots, ancestry, mutations))
    cloned = {m.slot for m in mutations if isinstance(m, Clone)}
    unknown = cloned - {part.slot for part in slots}
    if unknown:
        raise ValueError(f"no component in slot {', '.join(sorted(unknown))} to clone")
    parts = tuple(
        PlannedPart(p.slot, p.spec, p.depth, p.source, p.source is None or p.slot in cloned or p.trainable)
        for p in slots
    )
    trunk = tuple(part for part in ancestry[-1].parts if part.slot != HEAD)
    return Blueprint(parts, _hyperparameters(parent, mutations), _probabilities(parent, mutations), trunk)


def _body(ancestry: Sequence[Path], mutations: Sequence[Mutation]) -> list[PlannedPart]:
    """The child's slots below its head."""
    parent = ancestry[0]
    return _with_adapters(_trunk(ancestry, _depth(parent, mutations)), parent, mutations)


def _depth(parent: Path, mutations: Sequence[Mutation]) -> int:
    dropped = sum(isinstance(m, DropTopBlock) for m in mutations)
    return parent.depth - dropped + sum(isinstance(m, RestoreTopBlock) for m in mutations)


def _shared(part: Part) -> PlannedPart:
    return PlannedPart(part.slot, part.spec, part.depth, part, trainable=False)


def _trunk(ancestry: Sequence[Path], depth: int) -> list[PlannedPart]:
    root = ancestry[-1]
    slots: list[PlannedPart] = []
    for part in root.parts:
        if part.depth <= depth and part.slot != HEAD:
            nearest = (path.slots[part.slot] for path in ancestry if part.slot in path.slots)
            fitting = next((p for p in nearest if p.spec == part.spec), None)
            if fitting is None:  # the root itself has two parts in one slot
                raise ValueError(f"no path has the root's own component in slot '{part.slot}'")
            slots.append(_shared(fitting))
    return slots


def _with_adapters(slots: list[PlannedPart], parent: Path, mutations: Sequence[Mutation]) -> list[PlannedPart]:
    removed = {m.block for m in mutations if isinstance(m, RemoveAdapter)}
    inserted = {m.block: m.width for m in mutations if isinstance(m, InsertAdapter)}
    result: list[PlannedPart] = []
    for part in slots:
        result.append(part)
        index = slot_index(part.slot)
        if index is None or not is_block(part.slot):
            continue
        slot = adapter_slot(index)
        if index in inserted:
            result.append(PlannedPart(slot, adapter_spec(part.spec, inserted[index]), index + 1, None, trainable=True))
        elif index not in removed and slot in parent.slots:
            result.append(_shared(parent.slots[slot]))
    return result


def _head(slots: list[PlannedPart], ancestry: Sequence[Path], mutations: Sequence[Mutation]) -> PlannedPart:
    features = slots[-1].spec["features"]
    new = next((m for m in mutations if isinstance(m, NewHead)), None)
    if new is not None:
        return PlannedPart(HEAD, head_spec(features, new.classes), 0, None, trainable=True)
    head = nearest_head(ancestry, features)
    if head is None:
        raise ValueError(f"no ancestor of the task has a head for {features} features")
    return _shared(head)


def nearest_head(ancestry: Sequence[Path], features: int) -> Part | None:
    """The nearest head for `features` inputs in the unbroken line of the parent's own task; never another task's."""
    own = takewhile(lambda path: path.task == ancestry[0].task, ancestry)
    heads = (path.slots[HEAD] for path in own if HEAD in path.slots)
    return next((head for head in heads if head.spec["features_in"] == features), None)


@dataclass(frozen=True)
class Inheritance:
    """Every part that a descendant of a path can ever take from it or from its ancestors.

    These are its `own`, for each slot of the root the nearest ancestor's of the root's shape (`body`: a restored block
    starts from it), and the nearest head of each shape in the unbroken line of the path's task. A descendant comes
    before them in its own ancestry, so that this set, once kept, stays enough.
    """

    wanted: Mapping[str, Spec]
    task: str | None
    own: tuple[Part, ...] = ()
    body: Mapping[str, Part] = field(default_factory=dict[str, Part])
    heads: Mapping[Spec, Part] = field(default_factory=dict[Spec, Part])

    def __hash__(self) -> int:
        return hash((self.task, self.own))

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(dict.fromkeys((*self.own, *self.body.values(), *self.heads.values())))

    @staticmethod
    def of_root(root: Path) -> "Inheritance":
        return Inheritance({part.slot: part.spec for part in root.parts if part.slot != HEAD}, root.task).of(root)

    def of(self, child: Path) -> "Inheritance":
        """What a `child` of this path leaves: by one step for each path, however long its line is."""
        body = {part.slot: part for part in child.parts if self.wanted.get(part.slot) == part.spec}
        heads = {child.slots[HEAD].spec: child.slots[HEAD]} if HEAD in child.slots else {}
        if child.task == self.task:
            heads = {**self.heads, **heads}
        return Inheritance(self.wanted, child.task, child.parts, {**self.body, **body}, heads)


def inheritable(ancestry: Sequence[Path]) -> tuple[Part, ...]:
    """What a descendant of `ancestry[0]` can ever take; `ancestry` runs from it to the root."""
    held = Inheritance.of_root(ancestry[-1])
    for path in ancestry[-2::-1]:
        held = held.of(path)
    return held.parts


def _hyperparameters(parent: Path, mutations: Sequence[Mutation]) -> Hyperparameters:
    hyperparameters = parent.hyperparameters
    for mutation in mutations:
        if isinstance(mutation, SetHyperparameter):
            hyperparameters = hyperparameters.with_value(mutation.name, mutation.value)
    return hyperparameters


def _probabilities(parent: Path, mutations: Sequence[Mutation]) -> Mapping[str, float]:
    learned = {m.action: m.value for m in mutations if isinstance(m, SetProbability)}
    return {**parent.probabilities, **learned}


def top_features(ancestry: Sequence[Path], mutations: Sequence[Mutation]) -> int:
    """Width of what the head of the child receives."""
    return _body(ancestry, mutations)[-1].spec["features"]


def slots_after(ancestry: Sequence[Path], mutations: Sequence[Mutation]) -> tuple[str, ...]:
    """Slots of the child below its head that come from an ancestor, in order: what a clone can name."""
    return tuple(part.slot for part in _body(ancestry, mutations) if part.source is not None)
