"""Frozen values that the store takes and gives: the system, runs, segments, candidates and what was measured later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from mutant.hyperparameters import Hyperparameters
from mutant.outcome import Cost, FailureKind
from mutant.path import Candidate

CandidateState = Literal["QUEUED", "RUNNING", "DONE", "FAILED", "STALE"]
"""QUEUED, then RUNNING while a worker has it, then DONE or FAILED; STALE while its controller or worker is lost."""
OPEN = ("QUEUED", "RUNNING", "STALE")
"""The states of candidates without an outcome."""
RunState = Literal["open", "finished", "abandoned"]
SegmentState = Literal["open", "finished"]


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class SystemInfo:
    """What a system was started from. `settings` is plain JSON: the defaults that `mutant init` was given."""

    root: str
    family: str
    licence: str
    source: str
    sha256: str
    image_size: int
    seed: int
    mutant_version: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    created_at: datetime = field(default_factory=now, compare=False)

    def __hash__(self) -> int:
        return hash((self.root, self.sha256, self.seed))


@dataclass(frozen=True, order=True)
class SegmentKey:
    """A segment's place: the run's id, and its index in the run from 0."""

    run: int
    index: int


@dataclass(frozen=True)
class Segment:
    """The generations that a run spends on one task. `visit` counts the task's segments before it, over all runs."""

    run: int
    index: int
    task: str
    visit: int
    state: SegmentState = "open"
    winner: str | None = None

    @property
    def key(self) -> SegmentKey:
        return SegmentKey(self.run, self.index)


@dataclass(frozen=True)
class Run:
    """One call's settings (plain JSON) and its segments in order; every committed outcome belongs to one of them."""

    id: int
    config: Mapping[str, Any]
    segments: tuple[Segment, ...]
    state: RunState = "open"
    started_at: datetime = field(default_factory=now, compare=False)
    ended_at: datetime | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def children(self) -> int | None:
        """How many children each of its segments is to have, where its settings tell."""
        return self.config.get("children")


@dataclass(frozen=True)
class Planned:
    """A child that a generation is about to train: known before, so that a resumed run finds the same one.

    `pool_version` names the pool's snapshot that its parent was drawn from; in a run without generations `known` says
    how many of its segment's outcomes, in order of arrival, are in that snapshot. `predicted_flops` is what its
    training will be counted with; `predicted_seconds` is a guess that depends on the machine and takes no part in
    comparing plans. None: nobody predicted it.
    """

    child: int
    candidate: Candidate
    hyperparameters: Hyperparameters
    probabilities: Mapping[str, float] = field(default_factory=dict[str, float])
    pool_version: str = ""
    predicted_seconds: float | None = field(default=None, compare=False)
    predicted_flops: float | None = None
    known: int | None = None

    @property
    def parent(self) -> str:
        return self.candidate.parent

    def __hash__(self) -> int:
        return hash((self.child, self.candidate.id))


@dataclass(frozen=True)
class CandidateRecord:
    """A planned child and what became of it. `attempt` counts how often its training was begun, `worker` had it last.

    DONE: `path` is its path's id, `quality` the validation accuracy (0 to 1) of what it keeps and `validations` those
    of all its validations in order. FAILED: `failure` and `reason` say why. In a run without generations `arrival` is
    the place of its outcome in the order of its segment's, from 1. `quality` is kept as it was measured; a score is
    computed from it.
    """

    segment: SegmentKey
    generation: int
    planned: Planned
    state: CandidateState = "QUEUED"
    path: str | None = None
    quality: float | None = None
    validations: tuple[float, ...] = ()
    failure: FailureKind | None = None
    reason: str | None = None
    cost: Cost = Cost()
    attempt: int = field(default=0, compare=False)
    worker: str | None = field(default=None, compare=False)
    committed_at: datetime | None = field(default=None, compare=False)
    arrival: int | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def child(self) -> int:
        return self.planned.child

    @property
    def candidate(self) -> Candidate:
        return self.planned.candidate

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self.planned.hyperparameters

    @property
    def parent(self) -> str:
        return self.planned.candidate.parent


@dataclass(frozen=True, eq=False)
class Golden:
    """A path's outputs, kept as the proof that they never change.

    `images` [n, S, S, 3] uint8; `logits` [n, classes] float32, computed in batches of shape `batch_shape` on `backend`
    with the libraries of `versions`.
    """

    images: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]
    backend: str
    versions: Mapping[str, str]
    batch_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"probe images must be uint8 [n, S, S, 3], not {self.images.dtype} {self.images.shape}")
        if self.logits.dtype != np.float32 or self.logits.shape[:1] != self.images.shape[:1]:
            raise ValueError(f"logits must be float32 [n, classes], not {self.logits.dtype} {self.logits.shape}")


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (0 to 1) of a path on one split of a task, on data with this fingerprint."""

    path: str
    task: str
    split: str
    accuracy: float
    examples: int
    fingerprint: str
    at: datetime = field(default_factory=now, compare=False)


@dataclass(frozen=True)
class Baseline:
    """A model trained without the search (`head-only`), to compare with. Accuracies 0 to 1; None where not measured."""

    name: str
    task: str
    validation_accuracy: float
    test_accuracy: float | None
    n_parameters: int
    hyperparameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cost: Cost = Cost()
    at: datetime = field(default_factory=now, compare=False)

    def __hash__(self) -> int:
        return hash((self.name, self.task))


ENERGY = "energy measured"
"""Kind of the event that tells what a machine drew while a `task` was evolved there, in `joules`."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a run or (run None) to the system, such as a change of settings on resume."""

    id: int
    run: int | None
    kind: str
    data: Mapping[str, Any]
    at: datetime = field(compare=False)

    def __hash__(self) -> int:
        return hash(self.id)
