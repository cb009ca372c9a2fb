"""Paths: one model each, an ordered list of components with hyperparameters, task and parent."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mutant.component import Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Mutation, to_dict

HEAD = "head"
NORM = "norm"


def block_slot(index: int) -> str:
    """
    >>> block_slot(3)
    'block_03'
    """
    return f"block_{index:02d}"


def adapter_slot(index: int) -> str:
    return f"adapter_{index:02d}"


def slot_index(slot: str) -> int | None:
    """The block that a block's or adapter's slot belongs to, else None."""
    kind, _, number = slot.rpartition("_")
    return int(number) if kind in ("block", "adapter") and number.isdigit() else None


def is_block(slot: str) -> bool:
    return slot.startswith("block_")


def is_adapter(slot: str) -> bool:
    return slot.startswith("adapter_")


@dataclass(frozen=True)
class Part:
    """One component in its place on a path.

    `depth` is the number of encoder blocks that a path must have for this slot to be in it (0: always).
    `trace` is the digest of the optimizer's momentum for this component, when it was kept.
    `trained_by` is the path whose training made the component and `task` that path's task (None: pretrained).
    """

    slot: str
    spec: Spec
    digest: str
    n_parameters: int
    depth: int = 0
    trained_by: str = ""
    task: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class Path:
    """One trained model; the root has no task and no parent. Values only: arrays are found by digest."""

    id: str
    task: str | None
    parent: str | None
    parts: tuple[Part, ...]
    hyperparameters: Hyperparameters
    mutations: tuple[Mutation, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict[str, float])
    quality: float = 0.0
    flops: float = 0.0

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def slots(self) -> Mapping[str, Part]:
        return {part.slot: part for part in self.parts}

    @property
    def depth(self) -> int:
        """Number of encoder blocks."""
        return sum(is_block(part.slot) for part in self.parts)

    @property
    def n_parameters(self) -> int:
        return sum(part.n_parameters for part in self.parts)

    @cached_property
    def version(self) -> str:
        """Digest of what the path computes: its components in order and the image size. Equal versions answer alike."""
        content = [[part.slot, part.digest] for part in self.parts]
        text = json.dumps([content, self.hyperparameters.image_size], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def trained_here(self) -> tuple[Part, ...]:
        """The parts that this path's own training made."""
        return tuple(part for part in self.parts if part.trained_by == self.id)


@dataclass(frozen=True)
class Candidate:
    """An untrained child: a parent, what is changed, and the seed of all its randomness.

    The id depends on nothing else, so the same position of a run always names the same candidate.
    """

    task: str
    parent: str
    mutations: tuple[Mutation, ...]
    seed: int

    @cached_property
    def id(self) -> str:
        data: list[Any] = [self.task, self.parent, [to_dict(m) for m in self.mutations], self.seed]
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
