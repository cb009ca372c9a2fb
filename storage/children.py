"""The children of segments with the paths that came of them: a query for each segment, and a few for all paths."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_

from mutant.path import Path
from mutant.storage.candidates import load_candidates
from mutant.storage.paths import load_paths
from mutant.storage.records import CandidateRecord, Segment
from mutant.storage.schema import CandidateRow, PathRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Children:
    """One segment's children in order, each with its path (None: it has none, or not yet)."""

    segment: Segment
    found: tuple[tuple[CandidateRecord, Path | None], ...]


def children(store: Store, segments: Sequence[Segment]) -> tuple[Children, ...]:
    """The children of each of `segments`, of one state of the database."""
    born = select(CandidateRow.path_key).where(
        tuple_(CandidateRow.run, CandidateRow.segment).in_([(segment.run, segment.index) for segment in segments]),
        CandidateRow.path_key.is_not(None),
    )
    with store.reading() as connection:
        records = {segment.key: load_candidates(connection, segment.key) for segment in segments}
        paths = {path.id: path for path in load_paths(connection, PathRow.key.in_(born))}
    return tuple(
        Children(segment, tuple((record, paths.get(record.path or "")) for record in records[segment.key]))
        for segment in segments
    )
