"""The one door through the triggers that keep what is finished from changing; the garbage collector's own."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, delete, insert

from mutant.storage.schema import PermitRow


@contextmanager
def collecting(connection: Connection) -> Generator[None]:
    """Inside the block, and for this writing transaction alone, finished rows may change.

    The permit is a row that no transaction can commit, so that a crash, or a block left out of turn, closes the door.
    """
    connection.execute(insert(PermitRow).values(key=1, returned_key=0))
    yield
    connection.execute(delete(PermitRow))
