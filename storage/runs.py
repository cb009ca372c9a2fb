"""Runs and segments as rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, true, update

from mutant.storage.checks import checked, checked_key
from mutant.storage.faults import decoding
from mutant.storage.records import OPEN, Run, RunState, Segment, SegmentKey, now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import CandidateRow, PathRow, RunRow, SegmentRow, TaskRow
from mutant.tasks.errors import Unknown


@decoding()
def load_runs(connection: Connection, where: ColumnElement[bool] | None = None) -> tuple[Run, ...]:
    """Runs that fulfil a condition on `RunRow`, with their segments, oldest first."""
    condition = true() if where is None else where
    segments: defaultdict[int, list[Segment]] = defaultdict(list)
    for segment in load_segments(connection, SegmentRow.run.in_(select(RunRow.id).where(condition))):
        segments[segment.run].append(segment)
    rows = connection.execute(select(RunRow.__table__).where(condition).order_by(RunRow.id))
    return tuple(
        _checked(Run(row.id, row.config, tuple(segments[row.id]), row.state, row.started_at, row.ended_at))
        for row in rows
    )


def load_run(connection: Connection, run: int) -> Run:
    """The run with this number. Raises Unknown when there is none."""
    found = load_runs(connection, RunRow.id == run)
    if not found:
        raise Unknown(f"There is no run {run}.", hint="See: mutant status")
    return found[0]


def _checked(run: Run) -> Run:
    """The run itself. Raises ValueError when a field, or the one setting that listings need, cannot be what it is."""
    children = checked(run).config.get("children", 0)
    if type(children) is not int or children < 0:
        raise ValueError(f"a run's children cannot be {str(children)[:40]!r}")
    return run


@decoding()
def load_segments(connection: Connection, where: ColumnElement[bool] | None = None) -> tuple[Segment, ...]:
    query = (
        select(
            SegmentRow.run, SegmentRow.segment, TaskRow.name, SegmentRow.visit, SegmentRow.state, PathRow.id
        )
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .outerjoin(PathRow, PathRow.key == SegmentRow.winner_key)
        .where(true() if where is None else where)
        .order_by(SegmentRow.run, SegmentRow.segment)
    )  # fmt: skip
    return tuple(checked(Segment(*row)) for row in connection.execute(query))


def winners(connection: Connection, where: ColumnElement[bool] | None = None) -> dict[str, int]:
    """Key of the best path of every active task that has one, in the order in which the tasks came."""
    query = (
        select(TaskRow.name, SegmentRow.winner_key)
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(SegmentRow.state == "finished", SegmentRow.winner_key.is_not(None), TaskRow.removed_at.is_(None))
        .where(true() if where is None else where)
        .order_by(TaskRow.position, SegmentRow.run, SegmentRow.segment)
    )
    with decoding():
        return {task: checked_key(key) for task, key in connection.execute(query) if key is not None}


def begin(connection: Connection, config: Mapping[str, Any], task_keys: Sequence[int]) -> int:
    """Write an open run with a segment per task; the run's id."""
    going = connection.scalar(select(RunRow.id).where(RunRow.state == "open"))
    if going is not None:
        raise Conflict(f"Run {going} is not finished.", hint="Finish it first: mutant resume")
    # Not a sequence's number: one that was rolled back leaves a gap, and a run's number is part of its meaning.
    run = (connection.scalar(select(func.max(RunRow.id))) or 0) + 1
    connection.execute(insert(RunRow).values(id=run, config=dict(config), state="open", started_at=now()))
    counts = select(SegmentRow.task_key, func.count().label("visits")).group_by(SegmentRow.task_key)
    visits = {row.task_key: row.visits for row in connection.execute(counts)}
    for index, key in enumerate(task_keys):
        visit = visits.get(key, 0)
        visits[key] = visit + 1
        row = insert(SegmentRow).values(run=run, segment=index, task_key=key, visit=visit, state="open")
        connection.execute(row)
    return run


def change(connection: Connection, run: int, config: Mapping[str, Any]) -> None:
    """Give an open run other settings."""
    open_run = (RunRow.id == run) & (RunRow.state == "open")
    if connection.execute(update(RunRow).where(open_run).values(config=dict(config))).rowcount == 0:
        raise Conflict(f"Run {run} is not open, and its settings stay as they are.")


def end(connection: Connection, run: int, state: RunState) -> None:
    """Close a run. A finished one must have finished all of its segments."""
    row = connection.execute(select(RunRow.state).where(RunRow.id == run)).one_or_none()
    if row is None:
        raise Conflict(f"There is no run {run}.", hint="See: mutant status")
    if row.state == state:
        return
    if row.state != "open":
        raise Conflict(f"Run {run} is {row.state} and cannot become {state}.")
    unfinished = select(SegmentRow.segment).where(SegmentRow.run == run, SegmentRow.state == "open")
    if state == "finished" and connection.execute(unfinished).first() is not None:
        raise Conflict(f"Run {run} has segments that are not finished.", hint="Go on with: mutant resume")
    connection.execute(update(RunRow).where(RunRow.id == run).values(state=state, ended_at=now()))


def finish_segment(connection: Connection, segment: SegmentKey, winner: str | None) -> None:
    """Close a segment with its winner (None: no path came of it). Every candidate must have an outcome."""
    row = load_segments(connection, (SegmentRow.run == segment.run) & (SegmentRow.segment == segment.index))
    if row and row[0].state == "finished":
        if row[0].winner != winner:
            raise Conflict(f"Segment {segment.index} of run {segment.run} is finished with another winner.")
        return
    check_open(connection, segment)
    waiting = select(CandidateRow.child).where(
        CandidateRow.run == segment.run,
        CandidateRow.segment == segment.index,
        CandidateRow.state.in_(OPEN),
    )
    if connection.execute(waiting).first() is not None:
        raise Conflict(f"Segment {segment.index} of run {segment.run} has candidates without an outcome.")
    key = None
    if winner is not None:
        key = connection.scalar(
            select(PathRow.key)
            .join(TaskRow, TaskRow.key == PathRow.task_key)
            .where(PathRow.id == winner, TaskRow.name == row[0].task)
        )
        if key is None:
            raise Conflict(f"Task '{row[0].task}' has no path '{winner}'.")
    place = (SegmentRow.run == segment.run) & (SegmentRow.segment == segment.index)
    connection.execute(update(SegmentRow).where(place).values(state="finished", winner_key=key))


def check_open(connection: Connection, segment: SegmentKey) -> None:
    """Raises Conflict unless the segment exists and may still be written to."""
    query = (
        select(SegmentRow.state, RunRow.state.label("run_state"))
        .join(RunRow, RunRow.id == SegmentRow.run)
        .where(SegmentRow.run == segment.run, SegmentRow.segment == segment.index)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Conflict(f"There is no segment {segment.index} in run {segment.run}.")
    if (row.state, row.run_state) != ("open", "open"):
        raise Conflict(f"Segment {segment.index} of run {segment.run} is not open any more.")
