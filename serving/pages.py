"""The routes of the page: its files, and what it shows as JSON. They only read."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import TypeAdapter

from mutant.serving.assets import HEADERS, INDEX, Asset, assets
from mutant.serving.views.component import ComponentView, component_view
from mutant.serving.views.model import ModelView, model_view
from mutant.serving.views.runs import RunsView, RunView, find_run, find_segments, run_view, runs_view
from mutant.serving.views.samples import SamplesView, sample_png, sampled, samples_view
from mutant.serving.views.tasks import TasksView, tasks_view
from mutant.storage.pulse import pulse
from mutant.storage.store import Store
from mutant.tasks.errors import unknown

T = TypeVar("T")
router = APIRouter(tags=["page"])

Seen = Annotated[str | None, Header(alias="If-None-Match", description="The ETag of an earlier answer.")]
Digest = Annotated[
    str, Path(pattern="^[0-9a-f]{1,64}$", description="A component's digest, or a beginning that is unique.")
]
RunId = Annotated[int, Path(ge=1, le=2**31 - 1, description="A run's number.")]
SegmentIndex = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Only this segment of it, from 0.")]
Index = Annotated[int, Path(ge=0, le=2**31 - 1, description="An image's place, from 0.")]
Responses = dict[int | str, dict[str, Any]]

UNCHANGED: Responses = {304: {"description": "Nothing has changed since If-None-Match."}}
PICTURE: Responses = {200: {"description": "A PNG.", "content": {"image/png": {}}}}


def _tag(text: str) -> str:
    return f'"{text}"'


def _unchanged(seen: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag (RFC 9110, section 13.1.2).

    >>> _unchanged('W/"a", "b"', '"b"'), _unchanged("*", '"b"'), _unchanged('"a"', '"b"'), _unchanged(None, '"b"')
    (True, True, False, False)
    """
    names = [name.strip().removeprefix("W/") for name in (seen or "").split(",")]
    return tag in names or names == ["*"]


def _not_modified(headers: dict[str, str]) -> Response:
    return Response(status_code=304, headers=headers)


async def _read(request: Request, call: Callable[[Store], T]) -> T:
    """What `call` reads of the database, in a thread of the page's; raises Refused (429, 504)."""
    return await request.app.state.asker.viewing(call, request.app.state.service.store)


@cache
def _adapter(view: type) -> TypeAdapter[Any]:
    return TypeAdapter(view)


def _as_json(view: object, headers: dict[str, str] | None = None) -> Response:
    """A view as it is sent: written where it was read, because one of a long run is large."""
    return Response(_adapter(type(view)).dump_json(view), media_type="application/json", headers=headers)


def _live(tag: str, seen: str | None, make: Callable[[], object]) -> Response:
    """What `make` gives, or that it is still what the client has; the page holds it, and no cache of the browser's."""
    headers = {"ETag": _tag(tag), "Cache-Control": "private, no-store"}
    return _not_modified(headers) if _unchanged(seen, headers["ETag"]) else _as_json(make(), headers)


def _file(asset: Asset, seen: str | None) -> Response:
    headers = {**HEADERS, "ETag": _tag(asset.tag)}
    if _unchanged(seen, headers["ETag"]):
        return _not_modified(headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.get("/", response_class=Response, responses={200: {"content": {"text/html": {}}}, **UNCHANGED})
def page(seen: Seen = None) -> Response:
    """The page."""
    return _file(assets()[INDEX], seen)


@router.get(
    "/assets/{name}",
    response_class=Response,
    responses={200: {"content": {"text/css": {}, "text/javascript": {}, "image/svg+xml": {}}}, **UNCHANGED},
)
def asset(name: Annotated[str, Path(max_length=64)], seen: Seen = None) -> Response:
    """A file of the page."""
    found = assets().get(name)
    if found is None:
        raise unknown("file", name, assets())
    return _file(found, seen)


@router.get("/api/tasks", response_model=TasksView, responses=UNCHANGED)
async def tasks(request: Request, seen: Seen = None) -> Response:
    """The system and its tasks: classes, accuracies, parameters, energy."""
    return await _read(request, lambda store: _live(pulse(store).all, seen, lambda: tasks_view(store)))


@router.get("/api/model", response_model=ModelView, responses=UNCHANGED)
async def model(request: Request, seen: Seen = None) -> Response:
    """The picture of the model: components on rows by depth, and each task's path through them."""
    return await _read(request, lambda store: _live(pulse(store).learnt, seen, lambda: model_view(store)))


@router.get("/api/components/{digest}", response_model=ComponentView)
async def component(request: Request, digest: Digest) -> Response:
    """Who made a component and from what, and which tasks need it."""
    return await _read(request, lambda store: _as_json(component_view(store, digest)))


@router.get("/api/runs", response_model=RunsView, responses=UNCHANGED)
async def runs(request: Request, seen: Seen = None) -> Response:
    """All runs with their segments, counted."""
    return await _read(request, lambda store: _live(pulse(store).all, seen, lambda: runs_view(store)))


@router.get("/api/runs/{run}", response_model=RunView, responses=UNCHANGED)
async def run(request: Request, run: RunId, segment: SegmentIndex = None, seen: Seen = None) -> Response:
    """One run, generation by generation, with every child: quality, size, compute, or why it failed."""

    def read(store: Store) -> Response:
        found = find_run(store, run)
        segments = find_segments(found, segment)
        return _live(pulse(store).all, seen, lambda: run_view(store, found, segments))

    return await _read(request, read)


@router.get("/api/samples", response_model=SamplesView, responses=UNCHANGED)
async def samples(request: Request, seen: Seen = None) -> Response:
    """How many sample images each task has."""
    return await _read(request, lambda store: _live(pulse(store).learnt, seen, lambda: samples_view(store)))


@router.get("/api/samples/{task}/{index}", response_class=Response, responses={**PICTURE, **UNCHANGED})
async def sample(
    request: Request, task: Annotated[str, Path(min_length=1, max_length=255)], index: Index, seen: Seen = None
) -> Response:
    """A sample image of a task: one of those that its golden outputs were computed on."""

    def read(store: Store) -> Response:
        path = sampled(store.pool(), task)
        headers = {"ETag": _tag(f"{path.id[:32]}-{index}"), "Cache-Control": "private, no-cache"}
        if _unchanged(seen, headers["ETag"]):
            return _not_modified(headers)
        return Response(sample_png(store, path, index), media_type="image/png", headers=headers)

    return await _read(request, read)
