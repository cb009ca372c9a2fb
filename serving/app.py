"""The app: routes of people, of the protocol, of administration and of the page, behind the front."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mutant import __version__
from mutant.serving import administration, pages, people, protocol
from mutant.serving.asking import Asker, ClientGone
from mutant.serving.description import describe
from mutant.serving.front import Front, refusal
from mutant.serving.metrics import CONTENT_TYPE
from mutant.serving.refusals import Refused, as_refused, broken
from mutant.serving.remote import Remote
from mutant.serving.service import Service
from mutant.tasks.errors import UserError

log = logging.getLogger("mutant.serving")
_GRPC_SECONDS = 30


class Problem(BaseModel):
    """What went wrong, what to do about it, and the request's id in the log."""

    message: str
    hint: str | None
    request_id: str


class ErrorBody(BaseModel):
    """A refusal; under /v2 `error` is a text."""

    error: Problem | str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "Not HTTP as it should be.",
        401: "No API key, or none that is known.",
        403: "The key may not do this.",
        404: "There is none of that name.",
        408: "The body did not come in time.",
        409: "It cannot be done now.",
        410: "It was collected.",
        413: "More bytes, pixels or images than the limit.",
        415: "A type of body that is not read.",
        422: "Bad input.",
        429: "Too many requests, or a full queue.",
        500: "A fault of the server; its log has it, under the request's id.",
        503: "Not ready, or going down.",
        504: "No answer within the deadline.",
    }.items()
}


def build(service: Service) -> Front:
    """The whole app of a service, which it starts and closes."""

    asker = Asker(service)
    port = service.settings.grpc_port
    grpc = None if port is None else Remote(asker, service.settings.host, port)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        service.start()
        if grpc is not None:
            await grpc.start()
        yield
        if grpc is not None:
            await grpc.stop(_GRPC_SECONDS)
        await asyncio.to_thread(service.close)
        asker.close()

    app = FastAPI(
        title="mutant",
        version=__version__,
        description="Every task of one multitask model, from one trunk.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=_REFUSALS,
    )
    app.state.service, app.state.asker = service, asker
    for room in (people, protocol, administration, pages):
        app.include_router(room.router)
    app.add_api_route("/metrics", _metrics, methods=["GET"], response_class=Response, tags=["operation"])
    describe(app)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(Exception, _broken)
    app.add_exception_handler(ClientGone, _gone)
    return Front(app, service, grpc)


async def _metrics(request: Request) -> Response:
    """Prometheus's metrics."""
    return Response(request.app.state.service.metrics.text(), media_type=CONTENT_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    return refusal(request.scope, _as_refusal(error, request.state.request_id))


def _as_refusal(error: Exception, request_id: str) -> Refused:
    match error:
        case Refused():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            return Refused(422, f"{'.'.join(str(place) for place in first['loc'])}: {first['msg']}.")
        case HTTPException():
            return Refused(error.status_code, str(error.detail), None, dict(error.headers or {}))
        case UserError():
            told = as_refused(error)
            if told.status >= 500:
                log.error("database cannot be used", extra={"request_id": request_id, "reason": str(error)})
            return told
        case _:
            raise error


async def _broken(request: Request, error: Exception) -> Response:
    """What nobody thought of. The front logs it: it is raised again behind this answer."""
    return refusal(request.scope, broken())


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody hears it; the front notes that the client had gone."""
    return Response(status_code=499)
