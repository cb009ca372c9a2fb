"""Images for people: upload a picture, get the most probable classes of one task, of some, or of all."""

import base64
import binascii
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from mutant.network import probabilities
from mutant.predict import top
from mutant.serving.asking import Asker, Question, watched
from mutant.serving.refusals import Refused
from mutant.serving.served import Served

router = APIRouter(tags=["images"])
ALL = "all"

TopK = Annotated[int, Query(ge=1, le=1000, description="How many classes to name.")]
TimeoutMs = Annotated[float | None, Query(ge=1, le=3_600_000, description="Answer within so many milliseconds.")]


class Label(BaseModel):
    """One class with its probability, 0 to 1."""

    label: str
    probability: float


class TaskAnswer(BaseModel):
    """The most probable classes of one task, best first, and the version of the path that answered."""

    task: str
    version: str
    labels: list[Label]


class Timing(BaseModel):
    """Milliseconds in the queue, on the device, and in all: from the request's arrival until its answer is written."""

    queue_ms: float
    compute_ms: float
    total_ms: float


class PredictResponse(BaseModel):
    """The answers of the tasks that were asked."""

    request_id: str
    timing: Timing
    answers: list[TaskAnswer]


class ImageBody(BaseModel):
    """An image as JSON: its encoded bytes (PNG, JPEG, WebP, ...) in base64, with or without a data URL's beginning."""

    model_config = ConfigDict(extra="forbid")
    image: str = Field(min_length=1)


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
            "application/json": {"schema": ImageBody.model_json_schema()},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/predict", openapi_extra=_BODY)
async def predict(
    request: Request,
    tasks: Annotated[str, Query(description="Names of tasks with commas between, or all.")] = ALL,
    top_k: TopK = 3,
    timeout_ms: TimeoutMs = None,
) -> PredictResponse:
    """Ask several tasks for one image; what their paths share is computed once."""
    asker: Asker = request.app.state.asker
    snapshot = asker.service.snapshot
    names = list(snapshot.served) if tasks == ALL else list(dict.fromkeys(filter(None, tasks.split(","))))
    if not names and tasks != ALL:
        raise Refused(422, "'tasks' names no task.", "Name some with commas between, or say all.")
    if not names:
        raise Refused(404, "There is no task that answers.", "Add one: mutant add URI")
    return await _answered(request, [snapshot.task(name) for name in names], top_k, timeout_ms)


@router.post("/tasks/{task}/predict", openapi_extra=_BODY)
async def predict_task(
    request: Request,
    task: str,
    version: Annotated[str | None, Query(description="A version's digest, or its first 8 digits or more.")] = None,
    top_k: TopK = 3,
    timeout_ms: TimeoutMs = None,
) -> PredictResponse:
    """Ask one task, or one version of it, for one image."""
    asker: Asker = request.app.state.asker
    path = await asker.version(task, version)
    return await _answered(request, [path], top_k, timeout_ms)


async def _answered(request: Request, paths: list[Served], top_k: int, timeout_ms: float | None) -> PredictResponse:
    asker: Asker = request.app.state.asker
    request.state.tasks = [path.task.name for path in paths]
    image = await _image(request)
    answer = await asker.ask(Question(paths, [image], asker.seconds(timeout_ms)), watched(request))
    for path in paths:
        asker.service.metrics.predictions.labels(path.task.name).inc()
    answers = [_answer_of(path, answer.logits[path.version], top_k) for path in paths]
    return PredictResponse(
        request_id=request.state.request_id,
        timing=Timing(
            queue_ms=round(1000 * answer.waited, 3),
            compute_ms=round(1000 * answer.computed, 3),
            total_ms=round(1000 * (time.perf_counter() - request.state.began), 3),
        ),
        answers=answers,
    )


def _answer_of(path: Served, logits: Any, top_k: int) -> TaskAnswer:
    labels = top(path.task, probabilities(logits)[0], top_k)
    return TaskAnswer(
        task=path.task.name,
        version=path.version,
        labels=[Label(label=one.name, probability=one.probability) for one in labels],
    )


async def _image(request: Request) -> bytes:
    """The encoded image of a request: a form's file `image`, JSON with base64, or the body itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _uploaded(request)
    body = await request.body()
    if kind == "application/json":
        asker: Asker = request.app.state.asker
        return await asker.parsing(len(body), _of_json, body)
    if kind.startswith("image/") or kind in ("", "application/octet-stream"):
        if not body:
            raise Refused(422, "There is no image in the request.")
        return body
    raise Refused(415, f"A body of type '{kind[:60]}' is not read.", "Send multipart/form-data, JSON or image/*.")


async def _uploaded(request: Request) -> bytes:
    most = request.app.state.asker.service.settings.most_bytes
    try:
        async with request.form(max_files=4, max_fields=8, max_part_size=most) as form:
            files = [part for name, part in form.multi_items() if isinstance(part, UploadFile) and name == "image"]
            if len(files) != 1:
                raise Refused(422, f"Expected one file in the field 'image', got {len(files)}.")
            return await files[0].read()
    except HTTPException as error:
        raise Refused(422, f"The form cannot be read: {error.detail}.") from error


def _of_json(body: bytes) -> bytes:
    try:
        return _base64(ImageBody.model_validate_json(body).image)
    except ValidationError as error:
        message = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise Refused(422, f'Expected {{"image": base64}}: {message[:200]}.') from error


def _base64(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "The image is not valid base64.") from error
