"""The Open Inference Protocol v2 over gRPC, in the same process and event loop as HTTP.

The stubs come from the package `tritonclient` (extra `grpc`); what they carry is what `protocol.py` carries.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from mutant import __version__
from mutant.serving.access import peer_address
from mutant.serving.asking import Asker
from mutant.serving.inference import EXTENSIONS, OUTPUTS, indexed, infer
from mutant.serving.notes import GONE, Note, log, note, request_id
from mutant.serving.refusals import Refused, as_refused, broken, too_many
from mutant.serving.tensors import Array, InferRequest, RequestInput, RequestOutput, images, misread
from mutant.storage.keys import Key
from mutant.storage.versions import versions
from mutant.tasks.errors import UserError, missing_extra

Method = Callable[[Any, "_Call"], Awaitable[Any]]
_CODES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "FAILED_PRECONDITION", 410: "NOT_FOUND",
    413: "INVALID_ARGUMENT", 415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_PUBLIC = frozenset({"ServerLive", "ServerReady", "ServerMetadata"})
_MOST_INPUTS = 4
_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}


class Remote:
    """A gRPC server on an address of its own."""

    def __init__(self, asker: Asker, host: str, port: int) -> None:
        self._asker, self._host, self._port = asker, host, port
        self._server: Any = None

    async def start(self) -> None:
        """Bind the address and answer; once it answers nothing more happens.

        Raises UserError when the extra is not installed or the address cannot be bound.
        """
        if self._server is not None:
            return
        try:
            grpc: Any = import_module("grpc")
            messages: Any = import_module("tritonclient.grpc.service_pb2")
            stubs: Any = import_module("tritonclient.grpc.service_pb2_grpc")
        except ImportError as error:
            raise missing_extra(error.name or "tritonclient", "grpc") from error
        limit = self._asker.service.settings.most_bytes
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)])
        stubs.add_GRPCInferenceServiceServicer_to_server(_servicer(stubs, grpc, messages, self._asker), server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            message = f"Cannot listen for gRPC on '{self._host}', port {self._port}."
            raise UserError(message, hint="Name another --grpc-port.") from error
        await server.start()
        self._server = server

    async def stop(self, seconds: float) -> None:
        """Answer what was asked before, for so many seconds."""
        if self._server is not None:
            await self._server.stop(seconds)


def _servicer(stubs: Any, grpc: Any, messages: Any, asker: Asker) -> Any:
    methods = {name: _answering(grpc, asker, name, method) for name, method in _methods(messages, asker).items()}
    return type("Servicer", (stubs.GRPCInferenceServiceServicer,), methods)()


def _answering(grpc: Any, asker: Asker, name: str, method: Method) -> Any:
    """A method of the service: admitted by the gate, its refusals as gRPC's codes, noted as over HTTP."""

    async def answer(_: Any, request: Any, context: Any) -> Any:
        began = time.perf_counter()
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        call = _Call(context, request_id(headers.get("x-request-id")))
        status = GONE
        try:
            await context.send_initial_metadata((("x-request-id", call.request_id),))
            if name not in _PUBLIC:
                call.key = asker.service.gate.enter(headers, peer_address(context.peer()))
            answered = await method(request, call)
            status = 200
            return answered
        except Exception as error:
            told = _told(error, call.request_id)
            status = told.status
            await context.abort(getattr(grpc.StatusCode, _CODES.get(told.status, "INTERNAL")), str(told))
        finally:
            seconds = time.perf_counter() - began
            route = f"gRPC {name}"
            note(
                asker.service.metrics,
                Note(call.request_id, "gRPC", name, route, status, seconds, call.key, call.tasks),
            )

    return answer


@dataclass
class _Call:
    """A call that is being answered; `tasks` are those that it asks for a prediction."""

    context: Any
    request_id: str
    key: Key | None = None
    tasks: Sequence[str] = ()


def _told(error: Exception, id_: str) -> Refused:
    """What a client hears of an error; the log hears the rest."""
    match error:
        case Refused():
            return error
        case ValidationError():
            return misread(error)
        case UserError():
            told = as_refused(error)
            if told.status >= 500:
                log.error("database cannot be used", extra={"request_id": id_, "reason": str(error)})
            return told
        case _:
            log.error("internal error", extra={"request_id": id_}, exc_info=error)
            return broken()


def _methods(messages: Any, asker: Asker) -> dict[str, Method]:
    service = asker.service

    async def live(request: Any, call: _Call) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def ready(request: Any, call: _Call) -> Any:
        return messages.ServerReadyResponse(ready=service.ready)

    async def model_ready(request: Any, call: _Call) -> Any:
        await asker.version(request.name, request.version or None)
        return messages.ModelReadyResponse(ready=True)

    async def server_metadata(request: Any, call: _Call) -> Any:
        return messages.ServerMetadataResponse(name="mutant", version=__version__, extensions=EXTENSIONS)

    async def model_metadata(request: Any, call: _Call) -> Any:
        path = await asker.version(request.name, request.version or None)
        known = await asker.reading(versions, service.store, request.name)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        shapes = {"label": ("BYTES", [-1])}
        return messages.ModelMetadataResponse(
            name=request.name,
            versions=[one.version for one in known if not one.collected],
            platform="mutant",
            inputs=[tensor(name="images", datatype="UINT8", shape=[-1, -1, -1, 3])],
            outputs=[
                tensor(name=name, datatype=kind, shape=shape)
                for name in OUTPUTS
                for kind, shape in [shapes.get(name, ("FP32", [-1, len(path.task.class_names)]))]
            ],
        )

    async def index(request: Any, call: _Call) -> Any:
        rows = [row for row in indexed(service.snapshot) if row[2] == "READY" or not request.ready]
        entry = messages.RepositoryIndexResponse.ModelIndex
        return messages.RepositoryIndexResponse(
            models=[entry(name=name, version=version, state=state, reason=why) for name, version, state, why in rows]
        )

    async def model_infer(request: Any, call: _Call) -> Any:
        path = await asker.version(request.model_name, request.model_version or None)
        call.tasks = [path.task.name]
        seconds = call.context.time_remaining()
        asked, given = await asker.parsing(request.ByteSize(), _read, request, service.settings.most_images)
        if seconds is not None:
            asked.parameters.setdefault("timeout", max(1.0, 1e6 * seconds))
        found = await infer(asker, path, asked, given, asyncio.get_running_loop().create_future)
        response = messages.ModelInferResponse(model_name=request.model_name, model_version=path.version, id=request.id)
        for tensor, _ in found:
            described, raw = tensor.as_binary()
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=described["shape"])
            response.raw_output_contents.append(raw)
        return response

    return {
        "ServerLive": live,
        "ServerReady": ready,
        "ModelReady": model_ready,
        "ServerMetadata": server_metadata,
        "ModelMetadata": model_metadata,
        "ModelInfer": model_infer,
        "RepositoryIndex": index,
    }


def _read(request: Any, most: int) -> tuple[InferRequest, list[bytes | Array]]:
    """A message as the JSON request that means the same, and its images. Raises Refused and ValidationError."""
    binary = b"".join(request.raw_input_contents)
    inputs: list[RequestInput] = []
    for tensor in request.inputs[:_MOST_INPUTS]:
        given: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if request.raw_input_contents:
            given["parameters"] = {"binary_data_size": len(binary)}
        elif tensor.datatype == "BYTES":
            encoded = tensor.contents.bytes_contents
            if len(encoded) > most:
                raise too_many(len(encoded), most)
            binary = b"".join(len(one).to_bytes(4, "little") + one for one in encoded)
            given["parameters"] = {"binary_data_size": len(binary)}
        else:
            given["data"] = list(getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "uint_contents")))
        inputs.append(RequestInput(**given))
    parameters = {name: _parameter(name, value) for name, value in request.parameters.items()}
    outputs = [RequestOutput(name=output.name) for output in request.outputs]
    asked = InferRequest(id=request.id or None, parameters=parameters, inputs=inputs, outputs=outputs)
    return asked, images(inputs, binary, most)


def _parameter(name: str, value: Any) -> Any:
    kind = value.WhichOneof("parameter_choice")
    if kind is None:
        raise Refused(422, f"Parameter '{name[:40]}' has no value.")
    return getattr(value, kind)
