"""What is noted of every request, over HTTP and gRPC alike: a line in the log, and what Prometheus is told."""

import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from mutant.serving.metrics import Metrics
from mutant.storage.keys import Key

log = logging.getLogger("mutant.serving")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
GONE = 499
"""The status of a request whose client did not wait; it is never sent."""


@dataclass(frozen=True)
class Note:
    """A request that has ended. `route` is its pattern, `path` what was asked for, `status` that of HTTP.

    `tasks` were asked for a prediction: tasks that there are.
    """

    request_id: str
    method: str
    path: str
    route: str
    status: int
    seconds: float
    key: Key | None
    tasks: Sequence[str] = ()


def note(metrics: Metrics, request: Note) -> None:
    """Log and count a request."""
    status = str(request.status)
    metrics.requests.labels(request.route, status).inc()
    metrics.latency.labels(request.route).observe(request.seconds)
    if request.status >= 400:
        metrics.refusals.labels(status).inc()
    for task in request.tasks:
        metrics.task_requests.labels(task, status).inc()
        metrics.task_latency.labels(task).observe(request.seconds)
    log.info(
        "request",
        extra={
            "request_id": request.request_id,
            "method": request.method,
            "path": request.path,
            "status": request.status,
            "ms": round(1000 * request.seconds, 2),
            "key": None if request.key is None else request.key.name,
        },
    )


def request_id(given: str | None) -> str:
    """A request's id: the one it came with, where that is fit for a log, else a new one."""
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)
