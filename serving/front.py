"""What every request passes first: its id, the limits of its body, the gate, its line in the log and in the metrics."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from mutant.serving.notes import GONE, Note, note, request_id
from mutant.serving.refusals import Refused, broken, slow
from mutant.serving.remote import Remote
from mutant.serving.service import Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("mutant.serving")
_CLOSE = {"Connection": "close"}
_LENGTH = re.compile(r"[0-9]{1,19}")
PUBLIC = re.compile(r"/(assets/[^/]*|v2/health/(live|ready)|whoami|openapi\.json|favicon\.ico)?")
"""Paths that need no key and are not counted."""


class Front:
    """ASGI middleware around the whole app."""

    def __init__(self, app: App, service: Service, grpc: Remote | None = None) -> None:
        self._app, self._service, self.grpc = app, service, grpc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        id_ = request_id(headers.get("x-request-id"))
        scope["state"] = {"request_id": id_, "began": began, "key": None, "tasks": ()}
        sent = _Sent(send, id_)
        try:
            await self._admitted(scope, headers, receive, sent)
        except Refused as refused:  # while the body was read, or before
            if not sent.status:
                await refusal(scope, refused)(scope, receive, sent)
        except Exception:
            log.exception("internal error", extra={"request_id": id_})
            if not sent.status:
                await refusal(scope, broken())(scope, receive, sent)
        finally:
            self._note(scope, sent.status or GONE, time.perf_counter() - began)

    async def _admitted(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._service.gate.check_hosts(headers.getlist("host"))
        if not PUBLIC.fullmatch(scope["path"]):
            address = (scope.get("client") or ("", 0))[0]
            scope["state"]["key"] = self._service.gate.enter(headers, address)
        settings = self._service.settings
        length = headers.get("content-length", "")
        if _LENGTH.fullmatch(length) and int(length) > settings.most_bytes:
            raise _too_large(settings.most_bytes)
        await self._app(scope, _bounded(receive, settings.most_bytes, settings.body_seconds), send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        state = scope["state"]
        ended = Note(
            state["request_id"], scope["method"], scope["path"], route, status, seconds, state["key"], state["tasks"]
        )
        note(self._service.metrics, ended)


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


def _bounded(receive: Receive, most: int, seconds: float) -> Receive:
    """A `receive` that raises Refused when a body has more than `most` bytes (413) or is not there in time (408)."""
    seen, whole = 0, False
    ends = asyncio.get_running_loop().time() + seconds

    async def bounded() -> Message:
        nonlocal seen, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError as error:
            raise slow(seconds) from error
        whole = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(most)
        return message

    return bounded


def _too_large(most: int) -> Refused:
    return Refused(
        413, f"A request's body has at most {most:,} bytes.", "Send smaller images, or fewer at once.", _CLOSE
    )


def refusal(scope: Scope, refused: Refused) -> JSONResponse:
    """A refusal as a response: the Open Inference Protocol's form under /v2, else one with the hint by itself."""
    id_ = scope["state"]["request_id"]
    content: dict[str, Any] = (
        {"error": str(refused)}
        if scope["path"].startswith("/v2")
        else {"error": {"message": refused.message, "hint": refused.hint, "request_id": id_}}
    )
    return JSONResponse(content, refused.status, dict(refused.headers))
