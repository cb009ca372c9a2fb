"""Loose blobs: in the store though no row names them; a crash between a blob and its row leaves such."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from mutant.storage import weights
from mutant.storage.blobs.protocol import loose
from mutant.storage.ownership import MARK, claim
from mutant.storage.schema import WeightsRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Loose:
    """How many blobs are loose, and their bytes."""

    blobs: int = 0
    bytes: int = 0


def survey(connection: Connection) -> Loose:
    """What `sweep` would delete."""
    found = _loose(connection)
    return Loose(len(found), sum(found.values()))


def sweep(store: Store, *, adopt: bool = False) -> Loose:
    """Delete the loose blobs of a system; what was deleted.

    Under the write lock, under which `weights.put` makes sure of the blobs that it names: none is deleted that a row is
    about to name. Two systems in one place have each a part of their own; for a copy of a database, which has the same
    part, Conflict is raised, unless it is to `adopt` the blobs.
    """
    with store.reading() as connection:
        blobs = weights.depot_of(connection).blobs
        if blobs is None:
            return Loose()
        claim(connection, store.url, blobs, adopt=adopt)
        if not _loose(connection):
            return Loose()
    with store.writing() as connection:
        found = _loose(connection)
        blobs.delete(found)
    return Loose(len(found), sum(found.values()))


def _loose(connection: Connection) -> dict[str, int]:
    blobs = weights.depot_of(connection).blobs
    if blobs is None:
        return {}
    named = connection.scalars(select(WeightsRow.digest).where(WeightsRow.data.is_(None)))
    return loose(blobs, {MARK, *named})
