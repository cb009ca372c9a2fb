"""Candidates as rows: what was planned and what became of it; a resumed run goes on at the first one still open."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update
from sqlalchemy.orm import aliased

from mutant.hyperparameters import Hyperparameters
from mutant.mutation import from_dict, to_dict
from mutant.outcome import Cost, Failed, Outcome, Trained
from mutant.path import Candidate
from mutant.storage import paths
from mutant.storage.births import NewPath, write_path
from mutant.storage.checks import checked
from mutant.storage.costs import cost_of
from mutant.storage.faults import decoding
from mutant.storage.records import OPEN, CandidateRecord, Planned, SegmentKey, now
from mutant.storage.refusals import Conflict, Late
from mutant.storage.runs import check_open
from mutant.storage.schema import CandidateRow, PathRow, SegmentRow, TaskRow
from mutant.storage.timings import ChildPlace, write_account


def plan(connection: Connection, segment: SegmentKey, generation: int, planned: Sequence[Planned]) -> None:
    """Write a generation's children as QUEUED, or check that they are the ones written before."""
    check_open(connection, segment)
    known = {record.child: record.planned for record in load_candidates(connection, segment, generation)}
    if known:
        if known != {child.child: child for child in planned}:
            raise Conflict(
                f"Generation {generation} of segment {segment.index} in run {segment.run} had other children before.",
                hint="Resume with the settings and the version of mutant that the run began with.",
            )
        return
    if len({child.child for child in planned}) != len(planned):
        raise Conflict(f"Two children of generation {generation} have one place.")
    trained = paths.path_keys(connection, (child.candidate.id for child in planned))
    if trained:
        raise Conflict(f"Candidate {min(trained)[:12]} was trained before, at another place.")
    parents = paths.path_keys(connection, (child.parent for child in planned))
    rows = [_queued(segment, generation, child, parents) for child in planned]
    if rows:
        connection.execute(insert(CandidateRow), rows)


def draw(
    connection: Connection, segment: SegmentKey, generation: int, planned: Planned, token: int, worker: str
) -> None:
    """Write a child that was drawn for `worker`, which begins to train it under the controller's `token`."""
    check_open(connection, segment)
    found = paths.path_keys(connection, (planned.candidate.id, planned.parent))
    if planned.candidate.id in found:
        raise Conflict(f"Candidate {planned.candidate.id[:12]} was trained before, at another place.")
    begun = {"state": "RUNNING", "token": token, "attempt": 1, "worker": worker, "began_at": now()}
    connection.execute(insert(CandidateRow).values(_queued(segment, generation, planned, found) | begun))


def _queued(segment: SegmentKey, generation: int, planned: Planned, parents: Mapping[str, int]) -> dict[str, Any]:
    candidate = planned.candidate
    if candidate.parent not in parents:
        raise paths.unknown_path(candidate.parent)
    return {
        "run": segment.run,
        "segment": segment.index,
        "generation": generation,
        "child": planned.child,
        "id": candidate.id,
        "parent_key": parents[candidate.parent],
        "seed": candidate.seed,
        "mutations": [to_dict(mutation) for mutation in candidate.mutations],
        "hyperparameters": planned.hyperparameters.to_dict(),
        "probabilities": dict(planned.probabilities),
        "pool_version": planned.pool_version,
        "known": planned.known,
        "predicted_seconds": planned.predicted_seconds,
        "predicted_flops": planned.predicted_flops,
        "state": "QUEUED",
        "validations": [],
        **asdict(Cost()),
        "planned_at": now(),
    }


@decoding()
def load_candidates(
    connection: Connection, segment: SegmentKey, generation: int | None = None, child: int | None = None
) -> tuple[CandidateRecord, ...]:
    """The segment's candidates by (generation, child)."""
    parent, path = aliased(PathRow), aliased(PathRow)
    query = (
        select(
            CandidateRow.__table__, TaskRow.name.label("task"), parent.id.label("parent"),
            path.id.label("path"), path.quality,
        )
        .join(SegmentRow, (SegmentRow.run == CandidateRow.run) & (SegmentRow.segment == CandidateRow.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .join(parent, parent.key == CandidateRow.parent_key)
        .outerjoin(path, path.key == CandidateRow.path_key)
        .where(CandidateRow.run == segment.run, CandidateRow.segment == segment.index)
        .order_by(CandidateRow.generation, CandidateRow.child)
    )  # fmt: skip
    if generation is not None:
        query = query.where(CandidateRow.generation == generation)
    if child is not None:
        query = query.where(CandidateRow.child == child)
    return tuple(_record(segment, row) for row in connection.execute(query))


def _record(segment: SegmentKey, row: Any) -> CandidateRecord:
    mutations = tuple(checked(from_dict(data)) for data in row.mutations)
    candidate = checked(Candidate(row.task, row.parent, mutations, row.seed))
    if candidate.id != row.id:
        raise ValueError(f"candidate {row.id[:12]} does not follow from its parent, mutations and seed")
    return checked(
        CandidateRecord(
            segment=segment,
            generation=row.generation,
            planned=checked(
                Planned(
                    row.child,
                    candidate,
                    checked(Hyperparameters.from_dict(row.hyperparameters)),
                    row.probabilities,
                    row.pool_version,
                    row.predicted_seconds,
                    row.predicted_flops,
                    row.known,
                )
            ),
            state=row.state,
            path=row.path,
            quality=row.quality,
            validations=tuple(row.validations),
            failure=row.failure,
            reason=row.reason,
            cost=cost_of(row),
            attempt=row.attempt,
            worker=row.worker,
            committed_at=row.committed_at,
            arrival=row.arrival,
        )
    )


def lease(connection: Connection, segment: SegmentKey, generation: int, child: int, token: int, worker: str) -> int:
    """A worker begins to train a candidate under the controller's `token`; the number of the attempt, from 1."""
    check_open(connection, segment)
    row = CandidateRow
    place = _place(segment, generation, child) & row.state.in_(OPEN)
    values = {"state": "RUNNING", "token": token, "attempt": row.attempt + 1, "worker": worker, "began_at": now()}
    attempt = connection.scalar(update(row).where(place).values(values).returning(row.attempt))
    if attempt is None:
        raise Late(f"Child {child} of generation {generation} in segment {segment.index} has an outcome already.")
    return attempt


def lose(connection: Connection, segment: SegmentKey, generation: int, child: int, attempt: int) -> None:
    """Nobody trains a candidate any more that was RUNNING at this attempt: it is STALE until the next begins."""
    row = CandidateRow
    theirs = _place(segment, generation, child) & (row.state == "RUNNING") & (row.attempt == attempt)
    connection.execute(update(row).where(theirs).values(state="STALE"))


def _place(segment: SegmentKey, generation: int, child: int) -> ColumnElement[bool]:
    place = (CandidateRow.run == segment.run) & (CandidateRow.segment == segment.index)
    return place & (CandidateRow.generation == generation) & (CandidateRow.child == child)


def commit(
    connection: Connection, segment: SegmentKey, generation: int, child: int, outcome: Outcome, new: NewPath | None,
    attempt: int | None = None, arrival: int | None = None,
) -> None:  # fmt: skip
    """Write a candidate's outcome, or check that it is the one written before. `new` is the trained path, prepared, and
    `arrival` its place in the order of the segment's outcomes, where that is kept.

    Raises Late when the outcome is that of an `attempt` after which another was begun.
    """
    place, row = _place(segment, generation, child), CandidateRow
    found = connection.execute(select(row.id, row.seed, row.state, row.attempt).where(place)).one_or_none()
    if found is None:
        raise Conflict(f"Child {child} of generation {generation} in segment {segment.index} was not planned.")
    _check_outcome(found.id, found.seed, outcome)
    if attempt is not None and (found.attempt != attempt or found.state != "RUNNING"):
        raise Late(
            f"Child {child} of generation {generation}: the outcome of attempt {attempt} comes too late, "
            f"it is {found.state} at attempt {found.attempt}."
        )
    if found.state not in OPEN:
        _check_same(connection, load_candidates(connection, segment, generation, child)[0], outcome)
        return
    check_open(connection, segment)
    values: dict[str, Any] = {**asdict(outcome.cost), "committed_at": now(), "arrival": arrival}
    if isinstance(outcome, Failed):
        values |= {"state": "FAILED", "failure": outcome.kind, "reason": outcome.reason.replace("\0", "\\0")}
    else:
        assert new is not None
        values |= {"state": "DONE", "path_key": write_path(connection, new), "validations": list(outcome.validations)}
    connection.execute(update(CandidateRow).where(place).values(values))
    if outcome.account is not None:
        write_account(connection, ChildPlace(segment, generation, child), outcome.account)


def _check_outcome(candidate: str, seed: int, outcome: Outcome) -> None:
    """Raise Conflict unless the outcome is that of the candidate of this id, which follows from what its path was made
    from and the seed."""
    if isinstance(outcome, Failed):
        fits = outcome.candidate == candidate
    else:
        path = outcome.path
        again = Candidate(path.task or "", path.parent or "", path.mutations, seed)
        fits = path.id == again.id == candidate
    if not fits:
        raise Conflict(f"The outcome is not that of candidate {candidate[:12]}, but of another.")


def _check_same(connection: Connection, record: CandidateRecord, outcome: Outcome) -> None:
    if isinstance(outcome, Trained):
        version = connection.scalar(select(PathRow.version).where(PathRow.id == record.path))
        same = (version, record.quality, record.validations) == (
            outcome.path.version,
            outcome.path.quality,
            outcome.validations,
        )
    else:
        same = record.failure == outcome.kind
    if not same:
        raise Conflict(
            f"Candidate {record.candidate.id[:12]} is {record.state} with another outcome, which stays as it is.",
            hint="Its training is not reproducible here: was the back end or a library changed?",
        )


@decoding()
def training_seconds(connection: Connection) -> dict[str, float]:
    """Seconds that the candidates of every task took, over all its segments."""
    query = (
        select(TaskRow.name, func.sum(CandidateRow.seconds))
        .join(SegmentRow, (SegmentRow.run == CandidateRow.run) & (SegmentRow.segment == CandidateRow.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .group_by(TaskRow.name)
    )
    return {task: float(seconds) for task, seconds in connection.execute(query)}
