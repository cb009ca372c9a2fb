"""Structured logs: one JSON object per line, with the time, the level, what happened and its facts."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Formats a record with all the facts that were given by `extra`.

    >>> record = logging.makeLogRecord({"msg": "ready", "levelname": "INFO", "created": 0.0, "tasks": 4})
    >>> JsonLines().format(record)
    '{"at": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "ready", "tasks": 4}'
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        # Ray adds facts of its own to every record of a replica; their names begin with an underscore.
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and name[0] != "_"}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(stream: Any, *, level: int = logging.INFO) -> None:
    """Send the logs of the server and of uvicorn's errors to a stream, one JSON object per line."""
    log_by(logging.StreamHandler(stream), level=level)


def log_by(handler: logging.Handler, *, level: int = logging.INFO) -> None:
    """As `log_to`, to wherever a handler puts them."""
    handler.setFormatter(JsonLines())
    for name in ("mutant.serving", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == "mutant.serving" else logging.WARNING)
