"""What the loop tells while it works: events as values, shown by whoever listens."""

from collections.abc import Callable
from dataclasses import dataclass

from mutant.outcome import Outcome
from mutant.path import Path
from mutant.search.budget import Unit
from mutant.storage.effort import Effort


@dataclass(frozen=True)
class SegmentStarted:
    task: str
    segment: int
    segments: int
    children: int
    done: int


@dataclass(frozen=True)
class ChildBegun:
    """A worker begins to train a child; again when another does after it."""

    task: str
    generation: int
    child: int
    worker: str


@dataclass(frozen=True)
class ChildFinished:
    task: str
    generation: int
    child: int
    outcome: Outcome
    validations: int
    """As many as a child has unless it is stopped early."""
    commit_seconds: float = 0.0
    """What it took to write the outcome to the database."""


@dataclass(frozen=True)
class GenerationFinished:
    task: str
    generation: int
    retained: int
    best: Path | None
    best_score: float


@dataclass(frozen=True)
class BudgetSpent:
    """A segment ends before it had all its children: of `budget` (in its `unit`) the run or call took `spent`."""

    task: str
    unit: Unit
    budget: float
    spent: float


@dataclass(frozen=True)
class SegmentFinished:
    """A segment's end: its winner, and what its children took (None where not one ended)."""

    task: str
    winner: Path | None
    effort: Effort | None = None


@dataclass(frozen=True)
class Notice:
    """Something that the person should know, in words."""

    text: str


Progress = Notice | SegmentStarted | ChildBegun | ChildFinished | GenerationFinished | BudgetSpent | SegmentFinished
Listener = Callable[[Progress], None]


def both(first: Listener, second: Listener) -> Listener:
    """What tells two listeners, in this order."""

    def heard(event: Progress) -> None:
        first(event)
        second(event)

    return heard


def silent(_: Progress) -> None:
    """A listener that shows nothing."""
