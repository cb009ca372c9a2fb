"""Opening the system that a command is about."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutant.search.system import System
    from mutant.storage.store import Store


@contextmanager
def opened(db: str | None, *, read_only: bool = False) -> "Generator[System]":
    """The system in `db` for as long as the block lasts."""
    from mutant.search.system import System

    with System.open(db, read_only=read_only) as system:
        yield system


@contextmanager
def reading(db: str | None) -> "Generator[Store]":
    """The store of `db`, read only: what listings need, without the search and its libraries."""
    from mutant.storage.store import Store

    with Store.open(db, read_only=True) as store:
        yield store
