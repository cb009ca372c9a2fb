"""The Open Inference Protocol v2 over HTTP: a task is a model, the digest of its path the model's version.

https://github.com/open-inference/open-inference-protocol, with the binary tensor extension.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from mutant import __version__
from mutant.serving.asking import Asker, watched
from mutant.serving.inference import EXTENSIONS, indexed
from mutant.serving.inference import infer as inferred
from mutant.serving.tensors import HEADER, InferRequest, Tensor, misread, read
from mutant.storage.versions import versions

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
Name = Annotated[str, Path(description="A task.")]
Version = Annotated[str, Path(description="A version's digest, or its first 8 digits or more.")]


class ServerMetadata(BaseModel):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class Health(BaseModel):
    """Whether the server lives."""

    live: bool


class Ready(BaseModel):
    """Whether the server, or a model, answers."""

    ready: bool
    name: str | None = None


class TensorMetadata(BaseModel):
    """A tensor's name, type and shape, -1 being any."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A task as a model; `versions` can be asked for, oldest first."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexRequest(BaseModel):
    """What the repository's index is asked for: all models, or with `ready` only those that answer."""

    ready: bool = False


class ModelIndex(BaseModel):
    """A model in the repository's index."""

    name: str
    version: str
    state: str
    reason: str


@router.get("")
async def server_metadata() -> ServerMetadata:
    """What serves, and which extensions of the protocol it has."""
    return ServerMetadata(name="mutant", version=__version__, extensions=list(EXTENSIONS))


@router.get("/health/live")
async def live() -> Health:
    """Whether the process lives."""
    return Health(live=True)


@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(request: Request, response: Response) -> Ready:
    """Whether every model is loaded and compiled (503 until then)."""
    answers = request.app.state.service.ready
    response.status_code = 200 if answers else 503
    return Ready(ready=answers)


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}")
async def model_metadata(request: Request, name: Name, version: Version | None = None) -> ModelMetadata:
    """A task's versions, inputs and outputs."""
    asker: Asker = request.app.state.asker
    path = await asker.version(name, version)
    known = await asker.reading(versions, asker.service.store, name)
    classes = len(path.task.class_names)
    return ModelMetadata(
        name=name,
        versions=[one.version for one in known if not one.collected],
        platform="mutant",
        inputs=[TensorMetadata(name="images", datatype="UINT8", shape=[-1, -1, -1, 3])],
        outputs=[
            TensorMetadata(name="logits", datatype="FP32", shape=[-1, classes]),
            TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, classes]),
            TensorMetadata(name="label", datatype="BYTES", shape=[-1]),
        ],
    )


@router.get("/models/{name}/ready")
@router.get("/models/{name}/versions/{version}/ready")
async def model_ready(request: Request, name: Name, version: Version | None = None) -> Ready:
    """Whether a task answers, in one version or its best."""
    asker: Asker = request.app.state.asker
    await asker.version(name, version)
    return Ready(ready=True, name=name)


_INDEX: dict[str, Any] = {
    "requestBody": {"content": {"application/json": {"schema": IndexRequest.model_json_schema()}}}
}


@router.post("/repository/index", openapi_extra=_INDEX)
async def index(request: Request) -> list[ModelIndex]:
    """All tasks, or with `ready` those that answer, and the version that does."""
    asker: Asker = request.app.state.asker
    body = await request.body()
    asked = await asker.parsing(len(body), _index_request, body)
    rows = [row for row in indexed(asker.service.snapshot) if row[2] == "READY" or not asked.ready]
    return [ModelIndex(name=name, version=version, state=state, reason=reason) for name, version, state, reason in rows]


def _index_request(body: bytes) -> IndexRequest:
    try:
        return IndexRequest.model_validate_json(body) if body.strip() else IndexRequest()
    except ValidationError as error:
        raise misread(error) from error


_HEADER: dict[str, Any] = {
    "description": "Bytes of the JSON that the body begins with; binary data follow it. Without it all is JSON.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 9_999_999_999},
}
_INFER: dict[str, Any] = {
    "parameters": [{"name": HEADER, "in": "header", "required": False, **_HEADER}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs, as JSON, or as JSON followed by binary data.",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["model_name", "model_version", "outputs"]}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {HEADER: _HEADER},
    }
}


@router.post("/models/{name}/infer", openapi_extra=_INFER, responses=_ANSWER, response_class=Response)
@router.post(
    "/models/{name}/versions/{version}/infer", openapi_extra=_INFER, responses=_ANSWER, response_class=Response
)
async def infer(request: Request, name: Name, version: Version | None = None) -> Response:
    """Classify images: pixels UINT8 [n, h, w, 3], or encoded images BYTES [n] (base64 in JSON)."""
    asker: Asker = request.app.state.asker
    path = await asker.version(name, version)
    request.state.tasks = [path.task.name]
    body, length = await request.body(), request.headers.get(HEADER)
    asked, images = await asker.parsing(len(body), read, body, length, asker.service.settings.most_images)
    tensors = await inferred(asker, path, asked, images, lambda: watched(request))
    told = {} if asked.id is None else {"id": asked.id}
    return _response({"model_name": name, "model_version": path.version, **told}, tensors)


def _response(head: dict[str, Any], outputs: Sequence[tuple[Tensor, bool]]) -> Response:
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for tensor, binary in outputs:
        if binary:
            description, data = tensor.as_binary()
            raw.append(data)
        else:
            description = tensor.as_json()
        described.append(description)
    content = {**head, "outputs": described}
    if not raw:
        return JSONResponse(content)
    text = json.dumps(content, separators=(",", ":")).encode()
    headers = {HEADER: str(len(text))}
    return Response(text + b"".join(raw), headers=headers, media_type="application/octet-stream")
