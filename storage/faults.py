"""Database faults as errors for people: a full disk, a lock, a read-only or damaged file."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager

from safetensors import SafetensorError
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from mutant.storage.refusals import Conflict, Damaged, Full, damaged
from mutant.storage.server_faults import explained_by_server
from mutant.storage.url import label
from mutant.tasks.errors import UserError

DECODING = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    SafetensorError,
)
"""What reading a row of a damaged database into values can raise."""


class Undecodable(Exception):
    """A row that cannot be made into what it was written from; whoever opened the database says which one it is."""


@contextmanager
def translated(url: URL) -> Generator[None]:
    """Turn the faults of a database inside the block into UserErrors that name the cause and what to do."""
    try:
        yield
    except StatementError as error:
        if not isinstance(error, DBAPIError) or error.orig is None:
            raise (error.orig or error) from None
        raise _of(url)(error.orig, label(url)) from error
    except OverflowError as error:
        if "SQLite" not in str(error):
            raise
        raise UserError(f"A number is too large for '{label(url)}' ({error}).") from error
    except (SQLAlchemyError, sqlite3.Error, UnicodeDecodeError) as error:
        raise _of(url)(error, label(url)) from error


@contextmanager
def decoding() -> Generator[None]:
    """Around the making of values out of rows, or on a function that does nothing else: what a damaged row raises there
    is Undecodable. The same errors anywhere else are mistakes of the program, and stay what they are."""
    try:
        yield
    except DECODING as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from error
    except StatementError as error:
        if isinstance(error, DBAPIError) or not isinstance(error.orig, DECODING):
            raise
        # A value that its own column does not take, where rows are copied from one database to another.
        raise Undecodable(f"{type(error.orig).__name__}: {error.orig}") from error


@contextmanager
def naming_damage(url: URL) -> Generator[None]:
    """Turn Undecodable into a UserError that names the database."""
    try:
        yield
    except Undecodable as error:
        raise damaged(label(url), str(error)) from error


def _of(url: URL) -> Callable[[BaseException, str], UserError]:
    return _explained if url.get_backend_name() == "sqlite" else explained_by_server


def _explained(error: BaseException, name: str) -> UserError:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return Full(
                f"There is no space left for '{name}'; nothing was half written.",
                hint="Free some space on its disk; then: mutant resume",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return UserError(
                f"Another process keeps '{name}' locked.", hint="Wait for it, or stop it; see: mutant status"
            )
        case sqlite3.SQLITE_READONLY:
            return UserError(
                f"'{name}' cannot be written: the file or its directory is read-only.",
                hint="Change its permissions, or copy it to a directory that you can write.",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return UserError(
                f"The database '{name}' cannot be opened.",
                hint="Its directory must exist and be yours to read and write.",
            )
        case sqlite3.SQLITE_IOERR:
            return UserError(
                f"Reading or writing '{name}' failed ({error}).", hint="Check its disk and its free space."
            )
        case sqlite3.SQLITE_TOOBIG:
            return UserError(f"A value is too big for '{name}' ({error}).", hint="One component can have 1 GB at most.")
        case sqlite3.SQLITE_CONSTRAINT:
            return Conflict(f"'{name}' refused what was to be written, because it contradicts what is there ({error}).")
        case sqlite3.SQLITE_NOTADB:
            return Damaged(f"'{name}' is not a database.", hint="Name another with --db, or make one with: mutant init")
        case _:
            return damaged(name, str(error))
