"""What segments took, summed by the database over their candidates."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import func, select

from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.records import SegmentKey
from mutant.storage.schema import CandidateRow, SegmentRow, TaskRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Effort:
    """One segment's children that ended, trained or failed: their workers' seconds, examples, counted model FLOPs.

    Of the seconds `device_seconds` were spent in device programs, `wait_seconds` while the device waited for data, and
    `compile_seconds` on `compilations` programs that no cache held.
    """

    run: int
    segment: int
    task: str
    visit: int
    children: int
    seconds: float
    examples: int
    flops: float
    device_seconds: float = 0.0
    wait_seconds: float = 0.0
    compile_seconds: float = 0.0
    compilations: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        """Both together, under the name of the first."""
        names = [field.name for field in fields(self)]
        summed = names[names.index("children") :]
        sums = {name: getattr(self, name) + getattr(other, name) for name in summed}
        return Effort(self.run, self.segment, self.task, self.visit, **sums)


def efforts(store: Store, segment: SegmentKey | None = None) -> tuple[Effort, ...]:
    """Of every segment in which a child ended, in the order of the runs; or of one `segment` alone."""
    row = CandidateRow
    summed = (
        row.seconds, row.examples, row.flops,
        row.device_seconds, row.wait_seconds, row.compile_seconds, row.compilations,
    )  # fmt: skip
    query = (
        select(row.run, row.segment, TaskRow.name, SegmentRow.visit, func.count(), *map(func.sum, summed))
        .join(SegmentRow, (SegmentRow.run == row.run) & (SegmentRow.segment == row.segment))
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(row.state.in_(("DONE", "FAILED")))
        .group_by(row.run, row.segment, TaskRow.name, SegmentRow.visit)
        .order_by(row.run, row.segment)
    )
    if segment is not None:
        query = query.where(row.run == segment.run, row.segment == segment.index)
    with store.reading() as connection, decoding():
        return tuple(_effort(row) for row in connection.execute(query))


def _effort(row: Any) -> Effort:
    run, index, task, visit, children, seconds, examples, flops, device, waited, compiling, programs = row
    took = (seconds, int(examples), flops, device, waited, compiling, int(programs))
    return checked(Effort(run, index, task, visit, children, *took))
