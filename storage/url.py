"""Where the database is: `--db URL`, a plain path or `MUTANT_DB`, as a SQLAlchemy URL."""

import os
import pathlib

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mutant.tasks.errors import UserError

DEFAULT = "mutant.db"
VARIABLE = "MUTANT_DB"
_EXAMPLES = "Use a file such as 'mutant.db' or 'sqlite:///mutant.db', or 'postgresql://user@host/name'."


def database_url(text: str | None = None) -> URL:
    """The database that `text`, else `MUTANT_DB`, else `mutant.db` names. A file's path becomes absolute.

    Raises UserError for what cannot be a database.

    >>> database_url("sqlite:////data/mutant.db").database
    '/data/mutant.db'
    >>> database_url("postgres://ann@db.example/mutant").drivername
    'postgresql+psycopg'
    """
    given = text if text is not None else os.environ.get(VARIABLE) or DEFAULT
    if not given.strip() or "\0" in given:
        raise UserError(f"The database's name {given!r} is empty or not a name.", hint=_EXAMPLES)
    scheme, separator, rest = given.partition("://")
    if not separator:
        return _file_url(given)
    match scheme.lower().partition("+")[0]:
        case "sqlite":
            return _file_url(_sqlite_path(given, rest))
        case "postgresql" | "postgres":
            return _server_url(given, rest)
        case "file":
            return _file_url(rest)
        case _:
            raise UserError(f"The database URL '{given}' has the unknown scheme '{scheme}'.", hint=_EXAMPLES)


def label(url: URL) -> str:
    """The database's name for messages: its path as seen from here, or the URL without its password."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        parts = (url.get_backend_name(), url.username, None, url.host, url.port, url.database)
        return URL.create(*parts, url.difference_update_query(["password"]).query).render_as_string()
    path = pathlib.Path(url.database)
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)


def database_file(url: URL) -> pathlib.Path:
    """The file of a SQLite database; raises UserError for another back end."""
    if url.get_backend_name() != "sqlite" or not url.database:
        raise UserError(f"'{label(url)}' is not a SQLite file.", hint=_EXAMPLES)
    return pathlib.Path(url.database)


def _sqlite_path(given: str, rest: str) -> str:
    if not rest.startswith("/"):
        raise UserError(f"The database URL '{given}' needs three slashes.", hint=f"Nearest: 'sqlite:///{rest}'.")
    if "?" in rest:
        raise UserError(f"The database URL '{given}' has options, and none are known.", hint=_EXAMPLES)
    return rest[1:]


def _file_url(name: str) -> URL:
    if name.strip() in ("", ":memory:"):
        raise UserError("A system must outlive the process, so its database cannot be in memory.", hint=_EXAMPLES)
    path = pathlib.Path(name)
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise UserError(f"The home directory in '{name}' is unknown.", hint=_EXAMPLES) from error
    path = pathlib.Path.cwd() / path
    try:
        directory = path.is_dir()
    except OSError as error:
        raise UserError(f"'{name}' cannot be a file's name: {error.strerror}.", hint=_EXAMPLES) from error
    if directory or name.endswith("/"):
        raise UserError(f"The database '{name}' is a directory.", hint=f"Nearest: '{pathlib.Path(name) / DEFAULT}'.")
    return URL.create("sqlite", database=str(path))


def _server_url(given: str, rest: str) -> URL:
    try:
        url = make_url(f"postgresql+psycopg://{rest}")
    except (ArgumentError, ValueError) as error:
        raise UserError(f"The database URL '{given}' cannot be read.", hint=_EXAMPLES) from error
    if not url.database:
        raise UserError(f"The database URL '{given}' names no database.", hint=_EXAMPLES)
    return url
