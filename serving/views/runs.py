"""The runs: their segments, generations and children, with quality against size and compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from mutant.mutation import describe
from mutant.path import Path
from mutant.pool import Pool, accounted_parameters
from mutant.serving.views.colours import Badge, badges
from mutant.storage.children import Children, children
from mutant.storage.records import CandidateRecord, CandidateState, Run, RunState, Segment, SegmentState
from mutant.storage.store import Store
from mutant.storage.tally import Tally
from mutant.tasks.errors import Unknown


@dataclass(frozen=True)
class SegmentSummary:
    """A segment in short: how many of its children are in each state, and the best quality so far (0 to 1)."""

    index: int
    task: str
    number: int
    colour: str
    visit: int
    state: SegmentState
    winner: str | None
    best: float | None
    seconds: float
    states: dict[str, int]


@dataclass(frozen=True)
class RunSummary:
    """A run in short. `children`: how many each segment is to have, where its settings tell."""

    run: int
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    children: int | None
    segments: list[SegmentSummary]


@dataclass(frozen=True)
class RunsView:
    """All runs, the latest first; `open` is the one that goes on or waits to be resumed."""

    open: int | None
    runs: list[RunSummary]


@dataclass(frozen=True)
class ChildView:
    """A candidate and what became of it.

    Trained: quality (0 to 1), parameters accounted against the pool as it is now, its own, all, and the FLOPs of one
    image. Failed: why. `parent_task` None: the root. `seconds` of training, and what had been predicted.
    """

    child: int
    id: str
    state: CandidateState
    quality: float | None
    accounted_parameters: float | None
    own_parameters: int | None
    parameters: int | None
    flops: float | None
    won: bool
    failure: str | None
    reason: str | None
    seconds: float
    predicted_seconds: float | None
    parent: str
    mutations: list[str]


@dataclass(frozen=True)
class GenerationView:
    """The children that were drawn against one pool."""

    generation: int
    children: list[ChildView]


@dataclass(frozen=True)
class SegmentView:
    """The generations that a run spends on one visit of a task."""

    index: int
    task: str
    number: int
    colour: str
    visit: int
    state: SegmentState
    generations: list[GenerationView]


@dataclass(frozen=True)
class RunView:
    """One run with every child of it, or of the one segment that was asked for."""

    run: int
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    children: int | None
    segments: list[SegmentView]


def runs_view(store: Store) -> RunsView:
    """All runs, counted by the database."""
    marks, tallies, found = badges(store), store.tallies(), store.runs()
    views = [
        RunSummary(
            run=run.id,
            state=run.state,
            started_at=run.started_at,
            ended_at=run.ended_at,
            children=run.children,
            segments=[_summary(s, marks[s.task], tallies.get(s.key, Tally())) for s in run.segments],
        )
        for run in reversed(found)
    ]
    return RunsView(next((run.id for run in found if run.state == "open"), None), views)


def _summary(segment: Segment, badge: Badge, tally: Tally) -> SegmentSummary:
    return SegmentSummary(
        index=segment.index,
        task=segment.task,
        number=badge.number,
        colour=badge.colour,
        visit=segment.visit,
        state=segment.state,
        winner=segment.winner,
        best=tally.best,
        seconds=tally.cost.seconds,
        states=dict(tally.states),
    )


def run_view(store: Store, run: Run, segments: Sequence[Segment]) -> RunView:
    """A run with all the children of these of its segments."""
    pool, marks = store.pool(), badges(store)
    return RunView(
        run=run.id,
        state=run.state,
        started_at=run.started_at,
        ended_at=run.ended_at,
        children=run.children,
        segments=[_segment(each, pool, marks[each.segment.task]) for each in children(store, segments)],
    )


def find_run(store: Store, run_id: int) -> Run:
    """The run with this number. Raises Unknown, with the nearest, when there is none."""
    known = store.runs()
    nearest = min(known, key=lambda run: abs(run.id - run_id), default=None)
    if nearest is None:
        raise Unknown(f"There is no run {run_id}: this system has none yet.", hint="Begin one: mutant add URI")
    if nearest.id != run_id:
        raise Unknown(f"There is no run {run_id}.", hint=f"Nearest: {nearest.id}. See: mutant status")
    return nearest


def find_segments(run: Run, index: int | None) -> Sequence[Segment]:
    """The run's segment with this index, or all for None. Raises Unknown when there is none."""
    if index is None:
        return run.segments
    if index >= len(run.segments):
        last = len(run.segments) - 1
        raise Unknown(f"Run {run.id} has no segment {index}.", hint=f"Nearest: {last}." if last >= 0 else None)
    return run.segments[index : index + 1]


def _segment(each: Children, pool: Pool, badge: Badge) -> SegmentView:
    segment = each.segment
    generations = [
        GenerationView(generation, [_child(record, path, segment, pool) for record, path in found])
        for generation, found in groupby(each.found, key=lambda pair: pair[0].generation)
    ]
    return SegmentView(
        segment.index, segment.task, badge.number, badge.colour, segment.visit, segment.state, generations
    )


def _child(record: CandidateRecord, path: Path | None, segment: Segment, pool: Pool) -> ChildView:
    return ChildView(
        child=record.child,
        id=record.candidate.id,
        state=record.state,
        quality=record.quality,
        accounted_parameters=accounted_parameters(path.parts, segment.task, pool) if path else None,
        own_parameters=sum(part.n_parameters for part in path.trained_here()) if path else None,
        parameters=path.n_parameters if path else None,
        flops=path.flops if path else None,
        won=path is not None and segment.winner == path.id,
        failure=record.failure,
        reason=record.reason,
        seconds=record.cost.seconds,
        predicted_seconds=record.planned.predicted_seconds,
        parent=record.parent,
        mutations=[describe(mutation) for mutation in record.candidate.mutations],
    )
