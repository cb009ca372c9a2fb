"""What every request passes first: its id, the limits of its body, the gate, its line in the log and in the metrics."""

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from mutant.serving.refusals import Refused
from mutant.serving.service import Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("mutant.serving")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PUBLIC = re.compile(r"/(assets/[^/]*|v2/health/(live|ready)|whoami|openapi\.json|favicon\.ico)?")
GONE = 499
"""The status in the log of a request whose client did not wait; it is never sent."""


class Front:
    """ASGI middleware around the whole app."""

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id") or ""
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope["state"] = {"request_id": request_id, "key": None}
        sent = _Sent(send, request_id)
        try:
            await self._admitted(scope, headers, receive, sent)
        except Refused as refused:  # while the body was read, or before
            if not sent.status:
                await refusal(scope, refused)(scope, receive, sent)
        except Exception:
            log.exception("internal error", extra={"request_id": request_id})
            if not sent.status:
                await refusal(scope, Refused(500, "Something went wrong in the server."))(scope, receive, sent)
        finally:
            self._note(scope, sent.status or GONE, time.perf_counter() - began)

    async def _admitted(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if not _PUBLIC.fullmatch(scope["path"]):
            address = (scope.get("client") or ("", 0))[0]
            scope["state"]["key"] = self._service.gate.enter(headers, address)
        most = self._service.settings.most_bytes
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)
        await self._app(scope, _counted(receive, most), send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        metrics = self._service.metrics
        metrics.requests.labels(route, str(status)).inc()
        metrics.latency.labels(route).observe(seconds)
        if status >= 400:
            metrics.refusals.labels(str(status)).inc()
        key = scope["state"]["key"]
        log.info(
            "request",
            extra={
                "request_id": scope["state"]["request_id"],
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * seconds, 2),
                "key": None if key is None else key.name,
            },
        )


class _Sent:
    """A `send` that adds the request's id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id.encode()
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [(b"x-request-id", self._id), (b"x-content-type-options", b"nosniff"), *message["headers"]]
            message = {**message, "headers": headers}
        await self._send(message)


def _counted(receive: Receive, most: int) -> Receive:
    """A `receive` that raises Refused (413) when more than `most` bytes of a body came."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> Refused:
    return Refused(413, f"A request's body has at most {most:,} bytes.", "Send smaller images, or fewer at once.")


def refusal(scope: Scope, refused: Refused) -> JSONResponse:
    """A refusal as a response: the Open Inference Protocol's form under /v2, else one with the hint by itself."""
    request_id = scope["state"]["request_id"]
    content: dict[str, Any] = (
        {"error": str(refused)}
        if scope["path"].startswith("/v2")
        else {"error": {"message": refused.message, "hint": refused.hint, "request_id": request_id}}
    )
    return JSONResponse(content, refused.status, dict(refused.headers))
