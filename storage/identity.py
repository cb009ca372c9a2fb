"""Ids as people give them: any beginning that is unique, and the nearest one when there is none."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import InstrumentedAttribute

from mutant.storage.checks import checked_text
from mutant.storage.faults import decoding
from mutant.tasks.errors import Unknown

_HEX = frozenset("0123456789abcdef")
SHOWN = 12


def full_id(connection: Connection, column: InstrumentedAttribute[str], kind: str, given: str, *, see: str) -> str:
    """The one value of `column` that begins with `given`. Raises Unknown when there is none, or more than one.

    `kind` is the word for what it names and `see` the command that lists such ids.
    """
    prefix = given.strip().lower()
    if not prefix or not set(prefix) <= _HEX:
        raise Unknown(f"There is no {kind} '{given}'.", hint=f"See: {see}")
    query = select(column).distinct().where(column >= prefix, column < f"{prefix}g").order_by(column).limit(4)
    with decoding():
        ids = [checked_text(id_) for id_ in connection.scalars(query)]
    if not ids:
        nearest = _nearest(connection, column, prefix)
        hint = f"See: {see}" if nearest is None else f"Nearest: '{nearest[:SHOWN]}'. See: {see}"
        raise Unknown(f"There is no {kind} '{given}'.", hint=hint)
    if len(ids) > 1 and ids[0] != prefix:
        several = ", ".join(id_[: len(prefix) + 6] for id_ in ids)
        raise Unknown(f"More than one {kind}'s id begins with '{prefix}': {several}.", hint="Give more of it.")
    return ids[0]


def _nearest(connection: Connection, column: InstrumentedAttribute[Any], prefix: str) -> str | None:
    """Of the ids beside `prefix` in order, the one that shares the longest beginning with it, at least three digits."""
    beside: Sequence[str | None] = (
        connection.scalar(select(column).where(column < prefix).order_by(column.desc()).limit(1)),
        connection.scalar(select(column).where(column > prefix).order_by(column).limit(1)),
    )
    shared = {id_: _shared(id_, prefix) for id_ in beside if id_ is not None}
    best = max(shared, key=lambda id_: shared[id_], default=None)
    return best if best is not None and shared[best] >= 3 else None


def _shared(a: str, b: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
