"""The limits over gRPC: rate, queue, deadlines, sizes; clients that go, a server that comes and one that goes."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import httpx
import numpy as np
import pytest
from served import PIXELS, copy_of, encoded, eventually, free_port, grow_two, logits_of, running, serving

from mutant.serving import engine
from mutant.serving.batching import Queueing
from mutant.serving.service import Service
from mutant.serving.settings import ServeSettings
from mutant.serving.snapshot import Loader
from mutant.storage import keys
from mutant.storage.store import Store

service_pb2: Any = pytest.importorskip(
    "tritonclient.grpc.service_pb2", reason="tritonclient has no wheel for this platform"
)
service_pb2_grpc: Any = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")
grpc: Any = pytest.importorskip("grpc")

LONG = 60.0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@dataclass
class Client:
    """A gRPC client of a server in this process."""

    service: Service
    stub: Any

    def ask(self, pixels: np.ndarray = PIXELS, seconds: float = LONG, **given: Any) -> tuple[str, str]:
        """The code of an answer to `pixels`, and its words."""
        try:
            self.stub.ModelInfer(request_of(pixels, **given), timeout=seconds)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


def request_of(pixels: np.ndarray, timeout: int | None = None) -> Any:
    request = service_pb2.ModelInferRequest(model_name="low")
    request.inputs.add(name="images", datatype="UINT8", shape=pixels.shape)
    request.outputs.add(name="logits")
    request.raw_input_contents.append(pixels.tobytes())
    if timeout is not None:
        request.parameters["timeout"].int64_param = timeout
    return request


@contextmanager
def asked(database: FilePath, *, ready: bool = True, **settings: Any) -> Iterator[Client]:
    """A client of a server with these settings, whose own deadline never comes."""
    port = free_port()
    with (
        running(database, ServeSettings(grpc_port=port, **{"deadline": LONG, **settings}), ready=ready) as here,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Client(here.service, service_pb2_grpc.GRPCInferenceServiceStub(channel))


class Device:
    """A device that computes nothing before `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.is_held = threading.Event(), threading.Event()
        self._run = engine.run
        monkeypatch.setattr(engine, "run", self._held)

    def _held(self, *given: Any) -> Any:
        self.is_held.set()
        assert self.go.wait(LONG)
        return self._run(*given)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    held = Device(monkeypatch)
    yield held
    held.go.set()


def statuses(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Those of the inferences in the log so far."""
    return [vars(record)["status"] for record in caplog.records if vars(record).get("path") == "ModelInfer"]


def test_requests_above_the_rate_wait(database: FilePath, tmp_path: FilePath) -> None:
    copy = copy_of(database, tmp_path)
    with Store.open(str(copy)) as store:
        key = keys.make(store, "slow", rate=0.01)
    with asked(copy) as client:
        metadata = (("authorization", f"Bearer {key}"),)
        client.stub.ModelInfer(request_of(PIXELS), metadata=metadata, timeout=LONG)
        with pytest.raises(grpc.RpcError) as refused:
            client.stub.ModelInfer(request_of(PIXELS), metadata=metadata, timeout=LONG)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "More than 0.01 requests per second" in refused.value.details()
        assert client.stub.ServerLive(service_pb2.ServerLiveRequest(), metadata=metadata, timeout=LONG).live


def test_a_full_queue_is_told(database: FilePath, device: Device) -> None:
    with asked(database, queueing=Queueing(most_waiting=6)) as client:
        first = client.stub.ModelInfer.future(request_of(PIXELS), timeout=LONG)
        assert device.is_held.wait(LONG)
        second = client.stub.ModelInfer.future(request_of(PIXELS), timeout=LONG)
        eventually(lambda: client.service.batcher.waiting == 6)
        code, words = client.ask(PIXELS[:1])
        assert (code, "6 images are waiting already" in words) == ("RESOURCE_EXHAUSTED", True), words
        device.go.set()
        assert [len(one.result().raw_output_contents) for one in (first, second)] == [1, 1]


def test_the_parameter_timeout_is_a_deadline(database: FilePath, device: Device) -> None:
    with asked(database) as client:
        code, words = client.ask(timeout=200_000)
        assert (code, words.startswith("No answer within the deadline of 200 ms")) == ("DEADLINE_EXCEEDED", True), words
        device.go.set()
        assert client.ask(timeout=60_000_000) == ("OK", "")


def test_the_calls_own_deadline_counts_on_the_server(
    database: FilePath, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked(database) as client:
        given: list[float] = []
        submit = client.service.batcher.submit

        def heard(job: Any, seconds: float) -> Any:
            given.append(seconds)
            return submit(job, seconds)

        monkeypatch.setattr(client.service.batcher, "submit", heard)
        holding = client.stub.ModelInfer.future(request_of(PIXELS), timeout=LONG)
        assert device.is_held.wait(LONG)
        assert client.ask(seconds=2.0)[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: client.service.batcher.waiting == 0)  # though the device is held: nobody waits for it
        first, second = given
        assert 0 < second < 3.0 < first < LONG + 1
        device.go.set()
        assert holding.result().model_name == "low"


def test_a_message_above_the_limit_is_not_read(database: FilePath) -> None:
    with asked(database, most_bytes=2_000) as client:
        code, words = client.ask(np.zeros((1, 32, 32, 3), np.uint8))
        assert (code, "larger than max" in words) == ("RESOURCE_EXHAUSTED", True), words
        assert client.ask(PIXELS[:1]) == ("OK", "")


@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_more_images_than_the_limit_are_refused(database: FilePath, datatype: str) -> None:
    with asked(database, most_images=4) as client:
        request = request_of(PIXELS[:5])
        if datatype == "BYTES":
            tensor = request.inputs[0]
            tensor.datatype, tensor.shape[:] = "BYTES", [5]
            request.raw_input_contents[:] = [b"\1\0\0\0x" * 5]
        with pytest.raises(grpc.RpcError) as refused:
            client.stub.ModelInfer(request, timeout=LONG)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "5 images are more than the 4 of a request."
        assert client.ask(PIXELS[:4]) == ("OK", "")


def test_a_client_that_cancels_leaves_the_queue(
    database: FilePath, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with asked(database) as client, caplog.at_level(logging.INFO, "mutant.serving"):
        holding = client.stub.ModelInfer.future(request_of(PIXELS), timeout=LONG)
        assert device.is_held.wait(LONG)
        waiting = client.stub.ModelInfer.future(request_of(PIXELS[:2]), timeout=LONG)
        eventually(lambda: client.service.batcher.waiting == 2)
        assert waiting.cancel()
        eventually(lambda: client.service.batcher.waiting == 0)
        eventually(lambda: statuses(caplog) == [499])
        device.go.set()
        assert holding.result().model_name == "low"


def test_it_is_unavailable_before_it_is_ready(database: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()
    latest = Loader.latest

    def waited(self: Loader, *given: Any) -> Any:
        assert loaded.wait(LONG)
        return latest(self, *given)

    monkeypatch.setattr(Loader, "latest", waited)
    with asked(database, ready=False) as client:
        try:
            assert client.stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=LONG, wait_for_ready=True).live
            assert not client.stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=LONG).ready
            code, words = client.ask()
            assert (code, words.startswith("The models are being loaded.")) == ("UNAVAILABLE", True), words
        finally:
            loaded.set()
        eventually(lambda: client.stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=LONG).ready)
        assert client.ask() == ("OK", "")


@pytest.mark.slow
def test_requests_in_flight_are_answered_when_it_is_told_to_stop(database: FilePath) -> None:
    port = free_port()
    picture = np.full((2000, 2000, 3), 200, np.uint8)  # decoded one at a time, which takes long
    request = request_of(PIXELS)
    request.inputs[0].datatype, request.inputs[0].shape[:] = "BYTES", [6]
    png = encoded(picture)
    request.raw_input_contents[:] = [(len(png).to_bytes(4, "little") + png) * 6]
    with (
        serving(database, "--grpc-port", str(port), "--deadline", str(LONG)) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(request, timeout=LONG) for _ in range(4)]
        eventually(lambda: "mutant_queue_rows 24.0" in httpx.get(f"{server.url}/metrics").text)
        assert server.stop() == 0
        expected = logits_of(database, "low", picture[None]).tobytes() * 6
        assert [call.result().raw_output_contents[0] == expected for call in calls] == [True] * 4
        assert not any("traceback" in line or "text" in line for line in server.lines)
        with pytest.raises(grpc.RpcError) as gone:
            stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5)
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/v2/health/live")
