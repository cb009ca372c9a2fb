"""The children of one run with the paths that came of them, by a fixed number of queries for each of its segments."""

from dataclasses import dataclass

from sqlalchemy import select

from mutant.path import Path
from mutant.storage.candidates import load_candidates
from mutant.storage.paths import load_paths
from mutant.storage.records import CandidateRecord, Run, Segment
from mutant.storage.schema import CandidateRow, PathRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Children:
    """One segment's children in order, each with its path (None: it has none, or not yet)."""

    segment: Segment
    found: tuple[tuple[CandidateRecord, Path | None], ...]


def children(store: Store, run: Run) -> tuple[Children, ...]:
    """The children of each segment of `run`, of one state of the database."""
    born = select(CandidateRow.path_key).where(CandidateRow.run == run.id, CandidateRow.path_key.is_not(None))
    with store.reading() as connection:
        records = {segment.key: load_candidates(connection, segment.key) for segment in run.segments}
        paths = {path.id: path for path in load_paths(connection, PathRow.key.in_(born))}
    return tuple(
        Children(segment, tuple((record, paths.get(record.path or "")) for record in records[segment.key]))
        for segment in run.segments
    )
