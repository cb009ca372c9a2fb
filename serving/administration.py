"""What only an admin's key may do: remove a task, bring it back, look at the database at once."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from mutant.serving.access import require
from mutant.serving.asking import Asker
from mutant.serving.refusals import Refused, as_refused
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

router = APIRouter(tags=["administration"])


class Who(BaseModel):
    """What the request's key may do (null: it has none), and whether this system has keys at all."""

    scope: Literal["read", "admin"] | None
    keys: bool


class Done(BaseModel):
    """The tasks that answer now."""

    tasks: list[str]


@router.get("/whoami")
async def whoami(request: Request) -> Who:
    """What the request's key may do. Asking is not counted against a rate."""
    gate = request.app.state.service.gate
    try:
        key = gate.key(request.headers)
    except Refused:
        key = None
    return Who(scope=None if key is None else key.scope, keys=bool(gate.keys))


@router.delete("/tasks/{task}")
async def remove_task(request: Request, task: str, force: bool = False) -> Done:
    """Take a task out of what answers (admin): its lineage stays, and its weights until the next collection.

    409 while a run is unfinished and, without `force`, when other tasks build on it; they would go on unchanged.
    """
    return await _changed(request, lambda store: remove(store, task, force=force))


@router.post("/tasks/{task}/restore")
async def restore_task(request: Request, task: str) -> Done:
    """Bring a removed task back (admin), as it was."""
    return await _changed(request, lambda store: undo(store, task))


@router.post("/refresh")
async def refresh(request: Request) -> Done:
    """Look at the database at once (admin), not only at the next turn."""
    return await _changed(request, lambda store: None)


async def _changed(request: Request, change: Callable[[Store], object]) -> Done:
    require(request.state.key, "admin")
    asker: Asker = request.app.state.asker
    return await asker.changing(_change, asker, change)


def _change(asker: Asker, change: Callable[[Store], object]) -> Done:
    service = asker.service
    try:
        url = service.store.url.render_as_string(hide_password=False)
        with Store.open(url, busy_seconds=service.settings.deadline) as store:
            change(store)
    except UserError as error:
        raise as_refused(error) from error
    service.look()
    return Done(tasks=list(service.snapshot.served))
