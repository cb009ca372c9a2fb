"""The Open Inference Protocol v2 over gRPC, in the same process and event loop as HTTP.

The stubs come from the package `tritonclient` (extra `grpc`); what they carry is what `protocol.py` carries.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from mutant import __version__
from mutant.serving.asking import Asker
from mutant.serving.inference import EXTENSIONS, OUTPUTS, infer
from mutant.serving.refusals import Refused
from mutant.serving.tensors import InferRequest, RequestInput, RequestOutput
from mutant.storage.versions import versions
from mutant.tasks.errors import UserError, missing_extra

_CODES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "FAILED_PRECONDITION", 410: "NOT_FOUND",
    413: "INVALID_ARGUMENT", 415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}


async def start(asker: Asker, host: str, port: int) -> Any:
    """A running gRPC server; `await server.stop(seconds)` drains it.

    Raises UserError when the extra is not installed or the address cannot be bound.
    """
    try:
        grpc: Any = import_module("grpc")
        messages: Any = import_module("tritonclient.grpc.service_pb2")
        stubs: Any = import_module("tritonclient.grpc.service_pb2_grpc")
    except ImportError as error:
        raise missing_extra(error.name or "tritonclient", "grpc") from error
    limit = asker.service.settings.most_bytes
    options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    stubs.add_GRPCInferenceServiceServicer_to_server(_servicer(stubs, grpc, messages, asker), server)
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise UserError(
            f"Cannot listen for gRPC on '{host}', port {port}.", hint="Name another --grpc-port."
        ) from error
    await server.start()
    return server


def _servicer(stubs: Any, grpc: Any, messages: Any, asker: Asker) -> Any:
    methods = {name: _answering(grpc, asker, method) for name, method in _methods(messages, asker).items()}
    return type("Servicer", (stubs.GRPCInferenceServiceServicer,), methods)()


def _answering(grpc: Any, asker: Asker, method: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """A method of the service: admitted by the gate, its refusals as gRPC's codes."""

    async def answer(_: Any, request: Any, context: Any) -> Any:
        try:
            headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            if not request.DESCRIPTOR.name.startswith("Server"):
                asker.service.gate.enter(headers, context.peer().rpartition(":")[0])
            return await method(request, context)
        except Refused as refused:
            asker.service.metrics.refusals.labels(str(refused.status)).inc()
            await context.abort(getattr(grpc.StatusCode, _CODES.get(refused.status, "INTERNAL")), str(refused))
            return None

    return answer


def _methods(messages: Any, asker: Asker) -> dict[str, Callable[[Any, Any], Awaitable[Any]]]:
    service = asker.service

    async def live(request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def ready(request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=service.ready)

    async def model_ready(request: Any, context: Any) -> Any:
        await asker.version(request.name, request.version or None)
        return messages.ModelReadyResponse(ready=True)

    async def server_metadata(request: Any, context: Any) -> Any:
        return messages.ServerMetadataResponse(name="mutant", version=__version__, extensions=EXTENSIONS)

    async def model_metadata(request: Any, context: Any) -> Any:
        path = await asker.version(request.name, request.version or None)
        known = await asker.in_thread(versions, service.store, request.name)
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

    async def model_infer(request: Any, context: Any) -> Any:
        path = await asker.version(request.model_name, request.model_version or None)
        seconds = context.time_remaining()
        asked, binary = _request(request)
        if seconds is not None:
            asked.parameters.setdefault("timeout", max(1.0, 1e6 * seconds))
        found = await infer(asker, path, asked, binary, asyncio.get_running_loop().create_future())
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
    }


def _request(request: Any) -> tuple[InferRequest, bytes]:
    """A message as the JSON request that means the same, and its binary data."""
    binary = b"".join(request.raw_input_contents)
    inputs: list[RequestInput] = []
    for tensor in request.inputs:
        given: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if request.raw_input_contents:
            given["parameters"] = {"binary_data_size": len(binary)}
        elif tensor.datatype == "BYTES":
            binary = b"".join(len(one).to_bytes(4, "little") + one for one in tensor.contents.bytes_contents)
            given["parameters"] = {"binary_data_size": len(binary)}
        else:
            given["data"] = list(getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "uint_contents")))
        inputs.append(RequestInput(**given))
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()
    }
    outputs = [RequestOutput(name=output.name) for output in request.outputs]
    return InferRequest(id=request.id or None, parameters=parameters, inputs=inputs, outputs=outputs), binary
