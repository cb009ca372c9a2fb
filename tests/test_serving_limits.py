"""Small requests that ask for much: the server stays small, answers others meanwhile, and says no in time."""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

import httpx
import numpy as np
import pytest
from served import PIXELS, PNG, Running, copy_of, encoded, eventually, grow_two, infer_body, running

from mutant.serving.batching import Queueing
from mutant.serving.settings import ServeSettings
from mutant.storage.store import Store

BIG = encoded(np.zeros((6000, 6000, 3), np.uint8))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(database: FilePath):
    with running(database) as here:
        yield here


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found


def strings(images: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """Encoded images in the binary extension."""
    raw = b"".join(len(one).to_bytes(4, "little") + one for one in images)
    return binary([len(images)], "BYTES", raw)


def binary(shape: list[int], datatype: str, raw: bytes) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "images", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def infer(here: Running, body: tuple[bytes, dict[str, str]]) -> httpx.Response:
    return httpx.post(f"{here.url}/v2/models/low/infer", content=body[0], headers=body[1], timeout=60)


def slowest_while(here: Running, call: Callable[[], Any]) -> tuple[float, Any]:
    """The longest that a health check takes while a request is answered, in seconds, and that answer."""
    thread, found = in_thread(call)
    slowest = 0.0
    while thread.is_alive():
        began = time.monotonic()
        assert here.client.get("/v2/health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    thread.join()
    return slowest, found[0]


def test_only_one_large_image_is_in_memory(database: FilePath) -> None:
    import tracemalloc

    with running(database, ServeSettings(deadline=60)) as here:
        tracemalloc.start()
        try:
            assert infer(here, strings([BIG] * 4)).status_code == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2.5 * 6000 * 6000 * 3  # NumPy's array of one, and Python's copy while it is made


def test_the_time_that_is_told_is_all_that_it_took(server: Running) -> None:
    began = time.monotonic()
    found = server.client.post("/predict", content=BIG)
    took = 1000 * (time.monotonic() - began)
    timing = found.json()["timing"]
    assert timing["queue_ms"] + timing["compute_ms"] + 1 < timing["total_ms"] < took  # decoding takes longer


def test_the_pages_reads_have_a_deadline_and_a_queue_of_their_own(
    database: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr("mutant.serving.asking._MOST_READS", 4)
    monkeypatch.setattr("mutant.serving.pages.tasks_view", lambda store: go.wait(20))
    with running(database, ServeSettings(deadline=2)) as here:
        asked = [in_thread(lambda: httpx.get(f"{here.url}/api/tasks", timeout=60)) for _ in range(8)]
        try:
            assert here.client.get("/v2/models/low").status_code == 200
            for thread, _ in asked:
                thread.join()
            statuses = sorted(found[0].status_code for _, found in asked)
            assert statuses == [429] * 4 + [504] * 4
        finally:
            go.set()
        eventually(lambda: here.client.get("/api/model").status_code == 200)


def test_the_pixels_of_a_request_are_bounded(server: Running) -> None:
    found = infer(server, strings([BIG] * 8))
    assert (found.status_code, "288,000,000 pixels" in found.text) == (413, True), found.text


def test_large_images_keep_to_the_deadline_and_delay_no_small_ones(server: Running) -> None:
    body, headers = strings([BIG] * 5)
    head = json.loads(body[: int(headers["Inference-Header-Content-Length"])])
    head["parameters"] = {"timeout": 100_000}
    text = json.dumps(head).encode()
    slow = (
        text + body[int(headers["Inference-Header-Content-Length"]) :],
        {"Inference-Header-Content-Length": str(len(text))},
    )

    def timed() -> tuple[int, float]:
        began = time.monotonic()
        return infer(server, slow).status_code, time.monotonic() - began

    large = [in_thread(timed) for _ in range(2)]
    time.sleep(0.05)
    began = time.monotonic()
    small = server.client.post("/predict", content=PNG)
    took = time.monotonic() - began
    assert (small.status_code, took < 5.0) == (200, True), took
    for thread, found in large:
        thread.join()
        status, seconds = found[0]
        assert (status, seconds < 6.0) == (504, True), seconds
    eventually(lambda: server.service.batcher.waiting == 0)


def test_images_that_are_decoded_count_as_waiting(database: FilePath) -> None:
    with running(database, ServeSettings(queueing=Queueing(most_waiting=4), deadline=60)) as here:
        first, _ = in_thread(lambda: infer(here, strings([BIG] * 3)))
        eventually(lambda: here.service.batcher.waiting == 3)
        full = infer(here, strings([PNG] * 2))
        assert full.status_code == 429, full.text
        first.join()


def test_decoding_stops_when_the_client_has_gone(database: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    from mutant.serving import decoding

    decoded: list[float] = []
    decode = decoding.decode

    def heard(*given: Any) -> Any:
        decoded.append(time.monotonic())
        return decode(*given)

    monkeypatch.setattr(decoding, "decode", heard)
    with running(database, ServeSettings(deadline=60)) as here:
        body, headers = strings([BIG] * 6)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{here.url}/v2/models/low/infer", content=body, headers=headers, timeout=0.3)
        eventually(lambda: here.service.batcher.waiting == 0, seconds=3)
        time.sleep(1.0)
        assert len(decoded) < 6


@pytest.mark.parametrize(
    ("shape", "datatype", "raw"),
    [([5592205, 1, 1, 3], "UINT8", bytes(3 * 5592205)), ([4_000_000], "BYTES", bytes(16_000_000))],
    ids=["pixels", "strings"],
)
def test_a_million_images_are_refused_at_once(server: Running, shape: list[int], datatype: str, raw: bytes) -> None:
    slowest, found = slowest_while(server, lambda: infer(server, binary(shape, datatype, raw)))
    assert (found.status_code, "images are more than the 64" in found.text) == (413, True), found.text
    assert slowest < 0.5, slowest


def test_more_strings_than_the_shape_says_are_not_read(server: Running) -> None:
    slowest, found = slowest_while(server, lambda: infer(server, binary([1], "BYTES", bytes(16_000_000))))
    assert found.status_code == 422, found.text
    assert slowest < 0.5, slowest


def test_a_body_that_does_not_come_is_not_waited_for(database: FilePath) -> None:
    with running(database, ServeSettings(body_seconds=0.3)) as here:
        host, _, port = here.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408"), answer
            while answer:  # and the connection is closed
                answer = connection.recv(65536)


def test_headers_are_bounded(server: Running) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    for length, status in ((60_000, b"200"), (66_000, b"431")):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head + b"a" * length + b"\r\n\r\n")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_headers_without_an_end_are_not_gathered(server: Running) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=20) as connection, suppress(OSError):
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        while sent < 150 * 2**20:
            connection.sendall(b"a" * 65536)
            sent += 65536
    assert sent < 16 * 2**20


def test_trailers_are_bounded_and_small_chunks_are_not(server: Running) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head + b"".join(b"1\r\n%c\r\n" % byte for byte in bytes(100_000)) + b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head + b"3\r\nabc\r\n0\r\n")
        sent = 0
        with suppress(OSError):
            while sent < 500:
                connection.sendall(b"X-Trailer: " + b"a" * 65536 + b"\r\n")
                sent += 1
                time.sleep(0.001)
    assert sent < 100


def test_a_locked_database_delays_no_old_version_and_no_prediction(database: FilePath, tmp_path: FilePath) -> None:
    from mutant.storage import keys

    copy = copy_of(database, tmp_path)
    with Store.open(str(copy)) as store:
        admin = {"Authorization": f"Bearer {keys.make(store, 'boss', 'admin')}"}
    with running(copy, ServeSettings(deadline=2.0)) as here, Store.open(str(copy)) as store, store.writing():
        threads = [in_thread(lambda: httpx.delete(f"{here.url}/tasks/high", headers=admin, timeout=60)) for _ in "123"]
        time.sleep(0.2)
        began = time.monotonic()
        assert here.client.post("/predict", content=PNG, headers=admin).status_code == 200
        assert here.client.get("/v2/models/low", headers=admin).status_code == 200
        assert time.monotonic() - began < 1.8
        for thread, found in threads:
            thread.join()
            assert (found[0].status_code, str(copy) in found[0].text) == (503, False), found[0].text
        assert "mutant.db" not in found[0].text


def test_pixels_as_json_come_out_as_they_went_in(server: Running) -> None:
    flat, nested = infer_body(PIXELS), infer_body(PIXELS)
    nested["inputs"][0]["data"] = PIXELS.tolist()
    answers = [server.client.post("/v2/models/low/infer", json=body).json()["outputs"] for body in (flat, nested)]
    assert answers[0] == answers[1]


def test_one_long_string_among_a_million_empty_ones_costs_no_more_than_itself(server: Running) -> None:
    body = infer_body(PIXELS)
    body["inputs"][0]["data"] = ["a" * 7_000_000] + [""] * 1_000_000
    found = server.client.post("/v2/models/low/infer", json=body)
    assert (found.status_code, "whole numbers" in found.text) == (422, True), found.text
