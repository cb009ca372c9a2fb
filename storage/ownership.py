"""Whose a blob store is: a copy of a database names the same store as the original, and must not sweep it.

The store bears a mark with the name of the database that works with it, set by the first that does. Nothing is deleted
for a database of another name. Without a named store nothing is shared: then the store has the database's own name.
"""

import hashlib

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from mutant.storage.blobs.protocol import Blobs
from mutant.storage.catalog import load_placement
from mutant.storage.refusals import Conflict
from mutant.storage.url import database_file

MARK = hashlib.sha256(b"mutant: the database that these weights belong to").hexdigest()
"""The mark's name among the blobs."""


def claim(connection: Connection, url: URL, blobs: Blobs, *, adopt: bool = False) -> None:
    """Mark a store as this database's. Raises Conflict when it is another's, unless it is to be adopted."""
    mine = _name(connection, url)
    if mine is None:
        return
    data = blobs.get(MARK)
    if data is None or (adopt and data != mine.encode()):
        blobs.put(MARK, mine.encode())
    elif data != mine.encode():
        raise Conflict(
            f"No blob in '{blobs.where}' was deleted: they belong to {data.decode(errors='replace')[:200]}, and this "
            f"database, {mine}, seems to be a copy of it.",
            hint="Was it moved here, or is the other one gone? mutant gc --adopt. "
            "To have a copy with weights of its own: mutant export --system DIR",
        )


def _name(connection: Connection, url: URL) -> str | None:
    """The database's name, which a copy does not share; None where a copy has another store.

    A file below which the store lies can be moved with it, so its name within the directory counts; another's is its
    path with its inode. A server's database is known by the server's identifier and its own.
    """
    place = load_placement(connection).blobs
    if place is None:
        return None
    if url.get_backend_name() == "sqlite":
        file = database_file(url)
        return file.name if "://" not in place else f"{file.resolve()} (inode {file.stat().st_ino})"
    query = "SELECT current_database(), oid, system_identifier FROM pg_database, pg_control_system()"
    name, oid, server = connection.execute(text(f"{query} WHERE datname = current_database()")).one()
    return f"{name} (database {oid} of server {server})"
