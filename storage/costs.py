"""A cost in the columns of a row: they have the names of its fields."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from mutant.outcome import Cost
from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.schema import CandidateRow

COLUMNS = [getattr(CandidateRow, field.name) for field in fields(Cost)]


def cost_of(row: Any) -> Cost:
    """The cost that a row of candidates or baselines holds."""
    return checked(Cost(*(getattr(row, field.name) for field in fields(Cost))))


def costs_of_run(connection: Connection, run: int) -> Iterator[tuple[int, bool, Cost]]:
    """(segment, whether it was trained, cost) of every candidate of a run that has an outcome, by its place."""
    row = CandidateRow
    query = (
        select(row.segment, row.state, *COLUMNS)
        .where(row.run == run, row.state.in_(("DONE", "FAILED")))
        .order_by(row.segment, row.generation, row.child)
    )
    with decoding():
        for found in connection.execute(query):
            yield found.segment, found.state == "DONE", cost_of(found)
