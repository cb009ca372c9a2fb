"""Faults of a PostgreSQL server as errors for people: by SQLSTATE, or by libpq's words where a connection failed."""

from mutant.storage.refusals import Conflict, damaged
from mutant.tasks.errors import UserError

_UP = "Is the server up, and the URL's host and port right?"


def explained_by_server(error: BaseException, name: str) -> UserError:
    """The error for people; `name` is the database's."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        return _without_state(words, name)
    match state[:2], state:
        case "23", _:
            return Conflict(f"'{name}' refused what was to be written, because it contradicts what is there ({words}).")
        case _, "53100":
            return _full(name)
        case _, "53300":
            return UserError(f"The server of '{name}' has too many connections ({words}).", hint="Wait, or end some.")
        case _, "55P03":
            return UserError(
                f"Another process keeps '{name}' locked.", hint="Wait for it, or stop it; see: mutant status"
            )
        case _, "25006":
            return UserError(f"'{name}' cannot be written: the server or the role is read-only.", hint="Name another.")
        case _, "42501":
            return UserError(
                f"The role may not do this in '{name}' ({words}).", hint="It must own the database: ALTER DATABASE"
            )
        case (("08" | "57"), _):
            return _lost(words, name)
        case "XX", ("XX001" | "XX002"):
            return damaged(name, words)
        case "22", _:
            return UserError(f"A value does not fit into '{name}' ({words}).")
        case "42", _:
            return damaged(name, words)
        case _:
            return UserError(f"The server of '{name}' refused ({words}; SQLSTATE {state}).")


def _without_state(words: str, name: str) -> UserError:
    """Before there is a connection, or after it broke, only libpq's text tells what happened."""
    match words.lower():
        case text if "no space left" in text:  # the server writes a file of its own for some new connections
            return _full(name)
        case text if "password" in text or "authentication" in text:
            return UserError(
                f"The server of '{name}' refused the role or its password ({_reason(words)}).",
                hint="Give it in the URL, in PGPASSWORD or in ~/.pgpass.",
            )
        case text if "role" in text and "does not exist" in text:
            return UserError(
                f"'{name}' names an unknown role ({_reason(words)}).", hint="Make it with: createuser ROLE"
            )
        case text if "database" in text and "does not exist" in text:
            return UserError(f"There is no database '{name}'.", hint="Make an empty one with: createdb NAME")
        case text if "invalid connection option" in text or "invalid integer value" in text:
            return UserError(f"The database URL '{name}' has an option that is not known ({words}).")
        case text if "nul (0x00)" in text:
            return UserError(f"A text for '{name}' contains a NUL character, which it cannot keep.")
        case text if "connection failed" in text or "connection is bad" in text or "resolve" in text:
            return UserError(f"The server of '{name}' cannot be reached ({_reason(words)}).", hint=_UP)
        case text if "timeout" in text:
            return UserError(f"The server of '{name}' does not answer ({_reason(words)}).", hint=_UP)
        case _:
            return _lost(words, name)


def _full(name: str) -> UserError:
    return UserError(
        f"There is no space left for '{name}'; nothing was half written.",
        hint="Free some space on the server's disk; then: mutant resume",
    )


def _lost(words: str, name: str) -> UserError:
    return UserError(
        f"The connection to '{name}' broke ({words}); nothing was half written.", hint="Go on with: mutant resume"
    )


def _reason(words: str) -> str:
    """What libpq says last: the reason, after where it tried."""
    return words.rpartition("failed: ")[2].removeprefix("FATAL:").strip()
