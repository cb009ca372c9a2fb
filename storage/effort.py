"""What segments took, summed by the database over their candidates."""

from dataclasses import dataclass

from sqlalchemy import func, select

from mutant.storage.checks import checked
from mutant.storage.schema import CandidateRow, SegmentRow, TaskRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Effort:
    """One segment's children that ended, trained or failed: their workers' seconds, examples, counted model FLOPs."""

    run: int
    segment: int
    task: str
    visit: int
    children: int
    seconds: float
    examples: int
    flops: float


def efforts(store: Store) -> tuple[Effort, ...]:
    """Of every segment in which a child ended, in the order of the runs."""
    row = CandidateRow
    sums = (func.sum(row.seconds), func.sum(row.examples), func.sum(row.flops))
    query = (
        select(row.run, row.segment, TaskRow.name, SegmentRow.visit, func.count(), *sums)
        .join(SegmentRow, (SegmentRow.run == row.run) & (SegmentRow.segment == row.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(row.state.in_(("DONE", "FAILED")))
        .group_by(row.run, row.segment, TaskRow.name, SegmentRow.visit)
        .order_by(row.run, row.segment)
    )
    with store.reading() as connection:
        found = connection.execute(query).all()
    return tuple(
        checked(Effort(run, segment, task, visit, children, seconds, int(examples), flops))
        for run, segment, task, visit, children, seconds, examples, flops in found
    )
