"""The page without the engine behind it, for systems that are made by hand."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from mutant.serving import pages
from mutant.serving.asking import Asker
from mutant.serving.refusals import Refused, as_refused
from mutant.serving.settings import ServeSettings
from mutant.storage.refusals import Conflict
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

READ, ADMIN = "read-key", "admin-key"
KEYS = {READ: "read", ADMIN: "admin"}


def page_app(store: Store, keys: Mapping[str, str] = {}) -> FastAPI:
    """The page's routes and those of administration that it calls; `keys` are API keys with their scopes."""
    app = FastAPI(redirect_slashes=False)
    service: Any = SimpleNamespace(store=store, settings=ServeSettings())
    app.state.service, app.state.asker = service, Asker(service)
    app.include_router(pages.router)

    def refusal(status: int, message: str, hint: str | None = None) -> JSONResponse:
        return JSONResponse({"error": {"message": message, "hint": hint, "request_id": "test"}}, status)

    def scope(request: Request) -> str | None:
        return keys.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return refusal(error.status, error.message, error.hint)

    @app.exception_handler(UserError)
    def unknown(request: Request, error: UserError) -> JSONResponse:
        return refused(request, as_refused(error))

    @app.middleware("http")
    async def gate(request: Request, following: Any) -> Response:
        closed = request.url.path.startswith(("/api", "/predict", "/tasks"))
        if keys and closed and scope(request) is None:
            return refusal(401, "An API key is needed.", "Ask whoever runs this server.")
        return await following(request)

    @app.get("/whoami")
    def whoami(request: Request) -> dict[str, Any]:
        return {"scope": scope(request), "keys": bool(keys)}

    @app.delete("/tasks/{task}")
    def take_out(task: str, force: bool = False) -> Any:
        try:
            with Store.open(str(store.url.database)) as writing:
                remove(writing, task, force=force)
        except Conflict as error:
            return refusal(409, error.message, error.hint)

    @app.post("/tasks/{task}/restore")
    def bring_back(task: str) -> None:
        with Store.open(str(store.url.database)) as writing:
            undo(writing, task)

    return app


@contextmanager
def serving_page(database: FilePath | str, keys: Mapping[str, str] = {}) -> Iterator[str]:
    """The address of a server of the page of `database`."""
    with Store.open(str(database), read_only=True) as store, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        app = page_app(store, keys)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            app.state.asker.close()
