"""The protocol over gRPC, asked by its published client: the same bits and the same refusals as over HTTP."""

import logging
import socket
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from cli_calls import call
from served import PIXELS, copy_of, encoded, eventually, free_port, grow_two, logits_of, running

from mutant.serving import refusals
from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store

grpcclient = pytest.importorskip("tritonclient.grpc", reason="tritonclient has no wheel for this platform")


service_pb2: Any = pytest.importorskip("tritonclient.grpc.service_pb2")
service_pb2_grpc: Any = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


def given(pixels: np.ndarray):
    tensor = grpcclient.InferInput("images", pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels)
    return tensor


def test_the_published_client_over_grpc(database: FilePath) -> None:
    port = free_port()
    with (
        running(database, ServeSettings(grpc_port=port)),
        grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("low")
        metadata = client.get_model_metadata("low")
        assert [one.name for one in metadata.outputs] == ["logits", "probabilities", "label"]
        expected = logits_of(database, "low", PIXELS)
        outputs = [grpcclient.InferRequestedOutput("logits")]
        found = client.infer(
            "low", [given(PIXELS)], outputs=outputs, model_version=metadata.versions[0], request_id="x"
        )
        assert found.as_numpy("logits").tobytes() == expected.tobytes()
        assert (found.get_response().id, found.get_response().model_version) == ("x", metadata.versions[0])
        pictures = grpcclient.InferInput("images", [2], "BYTES")
        pictures.set_data_from_numpy(np.array([encoded(one) for one in PIXELS[:2]], dtype=object))
        assert client.infer("low", [pictures]).as_numpy("logits").tobytes() == expected[:2].tobytes()
        for name, tensor, words in [
            ("lov", given(PIXELS), "NOT_FOUND.*Nearest: 'low'"),
            ("low", given(PIXELS[:, :, :, :2]), "INVALID_ARGUMENT.*shape"),
        ]:
            with pytest.raises(grpcclient.InferenceServerException, match=words):
                client.infer(name, [tensor])


def test_keys_count_over_grpc_too(database: FilePath, tmp_path: FilePath) -> None:
    copy = copy_of(database, tmp_path)
    with Store.open(str(copy)) as store:
        key = keys.make(store, "reader")
    port = free_port()
    with running(copy, ServeSettings(grpc_port=port)), grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        with pytest.raises(grpcclient.InferenceServerException, match="UNAUTHENTICATED"):
            client.infer("low", [given(PIXELS)])
        assert client.infer("low", [given(PIXELS)], headers={"authorization": f"Bearer {key}"}).as_numpy("logits").size


@pytest.fixture(scope="module")
def grpc_server(database: FilePath):
    port = free_port()
    with running(database, ServeSettings(grpc_port=port)) as here:
        yield here, f"127.0.0.1:{port}"


def raw(address: str, change) -> tuple[Any, Any]:
    """What a request gives that no encoder would write: the code and the words."""
    import grpc

    request = service_pb2.ModelInferRequest(model_name="low")
    request.inputs.add(name="images", datatype="UINT8", shape=[1, 1, 1, 3])
    request.inputs[0].contents.uint_contents.extend([1, 2, 3])
    change(request)
    with grpc.insecure_channel(address) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda r: None, "OK", ""),
        (lambda r: r.inputs[0].shape.extend([1] * 5), "INVALID_ARGUMENT", "shape"),
        (lambda r: r.inputs[0].shape.__setitem__(1, -5), "INVALID_ARGUMENT", "shape"),
        (lambda r: r.inputs[0].shape.__setitem__(0, 2**62), "INVALID_ARGUMENT", "shape"),
        (lambda r: r.parameters["timeout"].Clear(), "INVALID_ARGUMENT", "'timeout' has no value"),
        (lambda r: r.parameters["timeout"].__setattr__("string_param", "x"), "INVALID_ARGUMENT", "microseconds"),
        (lambda r: r.inputs[0].contents.uint_contents.append(4), "INVALID_ARGUMENT", "values"),
        (lambda r: r.inputs[0].contents.uint_contents.__setitem__(0, 300), "INVALID_ARGUMENT", "0 to 255"),
        (lambda r: r.inputs.add(name="more"), "INVALID_ARGUMENT", "one input"),
        (lambda r: r.raw_input_contents.append(b"12"), "INVALID_ARGUMENT", "values"),
        (lambda r: r.outputs.add(name="nothing"), "INVALID_ARGUMENT", "no output"),
    ],
)
def test_odd_messages_are_refused(grpc_server, change, code: str, words: str) -> None:
    found = raw(grpc_server[1], change)
    assert (found[0], words in found[1]) == (code, True), found
    assert "Traceback" not in found[1]
    assert "Error" not in found[1]


def test_what_nobody_thought_of_is_told_without_its_reason(
    grpc_server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_):
        raise RuntimeError("secret reason")

    monkeypatch.setattr("mutant.serving.remote._read", broken)
    with caplog.at_level(logging.ERROR, "mutant.serving"):
        assert raw(grpc_server[1], lambda r: None) == ("INTERNAL", str(refusals.broken()))
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


def test_calls_are_logged_counted_and_have_an_id(grpc_server, caplog: pytest.LogCaptureFixture) -> None:
    import grpc

    here, address = grpc_server
    with grpc.insecure_channel(address) as channel, caplog.at_level(logging.INFO, "mutant.serving"):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.RepositoryIndexRequest()
        found, answered = stub.RepositoryIndex.with_call(request, metadata=(("x-request-id", "mine"),), timeout=30)
        assert ("x-request-id", "mine") in [tuple(one) for one in answered.initial_metadata()]
        assert [(one.name, one.state) for one in found.models] == [("low", "READY"), ("high", "READY")]
        eventually(lambda: any(vars(r).get("request_id") == "mine" for r in caplog.records))
    (line,) = [vars(r) for r in caplog.records if vars(r).get("request_id") == "mine"]
    assert (line["method"], line["path"], line["status"]) == ("gRPC", "RepositoryIndex", 200)
    counted = 'mutant_requests_total{route="gRPC RepositoryIndex",status="200"} 1.0'
    assert counted in here.client.get("/metrics").text


def test_an_address_in_use_is_told_before_the_server_says_that_it_serves(
    database: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutant.serving.server.log_to", lambda stream: None)  # this process keeps its own logging
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = call("serve", "--db", database, "--port", 0, "--grpc-port", port)
    assert (found.code, f"Cannot listen for gRPC on '127.0.0.1', port {port}" in found.err) == (2, True), found.err
    assert "Serving" not in found.err
    assert "Traceback" not in found.err
