"""What the server refuses, and how it says so: bad input, limits, deadlines, keys."""

import threading
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from served import PIXELS, PNG, Running, copy_of, encoded, eventually, grow_two, infer_body, running

from mutant.serving.access import Gate
from mutant.serving.batching import Queueing
from mutant.serving.refusals import Refused
from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(database: FilePath):
    with running(database) as here:
        yield here


@pytest.fixture
def changing(database: FilePath, tmp_path: FilePath) -> FilePath:
    """A copy of the database that a test may change."""
    return copy_of(database, tmp_path)


@pytest.mark.parametrize(
    ("path", "sent", "status", "words"),
    [
        ("/tasks/lov/predict", {"content": PNG}, 404, "Nearest: 'low'"),
        ("/predict?tasks=low,hihg", {"content": PNG}, 404, "Nearest: 'high'"),
        ("/predict", {"content": b""}, 422, "no image"),
        ("/predict", {"content": b"GIF89a"}, 422, "cannot be used"),
        ("/predict", {"content": PNG[:40]}, 422, "cannot be used"),
        ("/predict", {"json": {"image": "!"}}, 422, "base64"),
        ("/predict", {"json": {"picture": "x"}}, 422, "Expected"),
        ("/predict", {"files": {"picture": PNG}}, 422, "field 'image'"),
        ("/predict", {"content": PNG, "headers": {"content-type": "text/html"}}, 415, "text/html"),
        ("/predict?top_k=0", {"content": PNG}, 422, "top_k"),
        ("/predict?timeout_ms=nan", {"content": PNG}, 422, "timeout_ms"),
        ("/predict?timeout_ms=1e-06", {"content": PNG}, 422, "timeout_ms"),
        ("/nothing", {}, 404, "Not Found"),
        ("/v2/models/low/infer", {"content": b"{"}, 422, "JSON"),
        ("/v2/models/low/infer", {"json": {"inputs": []}}, 422, "one input 'images'"),
        ("/v2/models/low/infer", {"json": infer_body(PIXELS, ["logit"])}, 422, "no output 'logit'"),
    ],
)
def test_bad_input_is_told(server: Running, path: str, sent: dict, status: int, words: str) -> None:
    found = server.client.post(path, **sent)
    assert (found.status_code, words in found.text) == (status, True), found.text
    assert "Traceback" not in found.text
    assert "site-packages" not in found.text
    assert found.headers["x-request-id"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [6, 8, 8]}, "shape"),
        ({"shape": [7, 8, 8, 3]}, "1,344 values"),
        ({"datatype": "FP32"}, "UINT8"),
        ({"data": [0.5] * 1152}, "whole numbers"),
        ({"data": [256] * 1152}, "0 to 255"),
        ({"data": [[1], [2, 3]]}, "even list"),
        ({"data": None}, "data or binary_data_size"),
        ({"parameters": {"binary_data_size": 5}}, "data or binary_data_size"),
        ({"datatype": "BYTES", "shape": [1], "data": [7]}, "strings"),
    ],
)
def test_a_tensor_that_is_none_is_told(server: Running, change: dict, words: str) -> None:
    body = infer_body(PIXELS)
    body["inputs"][0] |= change
    found = server.client.post("/v2/models/low/infer", json=body)
    assert (found.status_code, words in found.json()["error"]) == (422, True), found.text


def test_limits_of_bytes_pixels_and_images(database: FilePath) -> None:
    limits = ServeSettings(most_bytes=20_000, most_pixels=1000, most_images=4)
    with running(database, limits) as here:
        assert here.client.post("/predict", content=b"x" * 20_001).status_code == 413
        chunks = here.client.post("/predict", content=(b"x" * 1000 for _ in range(30)))
        assert (chunks.status_code, "20,000 bytes" in chunks.text) == (413, True)
        large = here.client.post("/predict", content=encoded(np.zeros((40, 40, 3), np.uint8)))
        assert (large.status_code, "1,600 are" in large.text or "limit of 1,000" in large.text) == (413, True)
        many = here.client.post("/v2/models/low/infer", json=infer_body(PIXELS[:5]))
        assert (many.status_code, "5 images" in many.text) == (413, True)
        assert here.client.post("/predict", content=PNG).status_code == 200


class Held:
    """Keeps the device busy until it is let go."""

    def __init__(self, here: Running) -> None:
        self.free, self.busy = threading.Event(), threading.Event()
        self._run = here.service.batcher._run
        here.service.batcher._run = self

    def __call__(self, jobs):
        self.busy.set()
        assert self.free.wait(30)
        return self._run(jobs)


def in_thread(call) -> tuple[threading.Thread, list]:
    found: list = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found


def test_deadline_full_queue_and_a_client_that_goes(database: FilePath) -> None:
    with running(database, ServeSettings(queueing=Queueing(most_waiting=2), deadline=20)) as here:
        held = Held(here)
        first, answer = in_thread(lambda: httpx.post(f"{here.url}/predict", content=PNG, timeout=60))
        assert held.busy.wait(20)
        late = here.client.post("/predict?timeout_ms=50", content=PNG)
        assert (late.status_code, "50 ms" in late.text) == (504, True)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{here.url}/predict", content=PNG, timeout=0.2)
        # Both have left the queue, though the device is busy: one was late, the other's client went.
        eventually(lambda: here.service.batcher.waiting == 0)
        two, _ = in_thread(
            lambda: httpx.post(f"{here.url}/v2/models/low/infer", json=infer_body(PIXELS[:2]), timeout=60)
        )
        eventually(lambda: here.service.batcher.waiting == 2)
        full = here.client.post("/predict", content=PNG)
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        held.free.set()
        first.join()
        two.join()
        assert answer[0].status_code == 200


def test_before_it_is_ready_it_lives_and_answers_503(database: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    from mutant.serving.snapshot import Loader

    waiting, go = threading.Event(), threading.Event()
    latest = Loader.latest

    def slow(self, before):
        waiting.set()
        assert go.wait(30)
        return latest(self, before)

    monkeypatch.setattr(Loader, "latest", slow)
    monkeypatch.setattr("served.eventually", lambda true: true() or waiting.wait(20))
    with running(database) as here:
        assert here.client.get("/v2/health/live").status_code == 200
        ready, asked = here.client.get("/v2/health/ready"), here.client.post("/predict", content=PNG)
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "name": None})
        assert (asked.status_code, asked.headers["retry-after"]) == (503, "2")
        go.set()
        eventually(lambda: here.client.get("/v2/health/ready").status_code == 200)


def test_keys_open_what_their_scope_says(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        read, admin = keys.make(store, "reader"), keys.make(store, "boss", "admin")
        assert read not in str(keys.load(store))
    with running(changing) as here:
        ask, bearer = here.client.post, lambda key: {"Authorization": f"Bearer {key}"}
        assert here.client.get("/v2/health/live").status_code == 200
        for headers in ({}, bearer("nonsense"), bearer(read[:-1] + "x"), bearer(f"mutant_{'0' * 12}_{'a' * 43}")):
            found = ask("/predict", content=PNG, headers=headers)
            assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert here.client.get("/metrics").status_code == 401
        assert ask("/predict", content=PNG, headers=bearer(read)).status_code == 200
        assert ask("/predict", content=PNG, headers={"X-API-Key": read}).status_code == 200
        assert here.client.get("/whoami").json() == {"scope": None, "keys": True}
        assert here.client.get("/whoami", headers=bearer(admin)).json() == {"scope": "admin", "keys": True}
        assert here.client.delete("/tasks/high", headers=bearer(read)).status_code == 403
        removed = here.client.delete("/tasks/high", headers=bearer(admin))
        assert (removed.status_code, removed.json()) == (200, {"tasks": ["low"]})
        assert ask("/tasks/high/predict", content=PNG, headers=bearer(read)).status_code == 404
        assert ask("/tasks/high/restore", headers=bearer(admin)).json() == {"tasks": ["low", "high"]}
        assert ask("/tasks/high/restore", headers=bearer(admin)).status_code == 409
        unknown = ask("/tasks/hihg/restore", headers=bearer(admin))
        assert (unknown.status_code, "Nearest: 'high'" in unknown.text) == (404, True)
        assert ask("/refresh", headers=bearer(admin)).status_code == 200
        with Store.open(str(changing)) as store:
            keys.take_back(store, "reader")
        eventually(lambda: ask("/predict", content=PNG, headers=bearer(read)).status_code == 401)


def test_without_keys_nobody_is_an_admin(server: Running) -> None:
    found = server.client.delete("/tasks/low")
    assert (found.status_code, "scope admin" in found.text) == (403, True)
    assert server.client.get("/whoami").json() == {"scope": None, "keys": False}


def test_requests_above_the_rate_wait(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        slow, fast = keys.make(store, "slow", rate=0.01), keys.make(store, "fast", rate=1e6)
    with running(changing, ServeSettings(rate=5.0)) as here:
        headers = {"Authorization": f"Bearer {slow}"}
        assert here.client.get("/v2", headers=headers).status_code == 200
        for _ in range(3):
            refused = here.client.get("/v2", headers=headers)
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 100
        headers = {"Authorization": f"Bearer {fast}"}
        assert {here.client.get("/v2", headers=headers).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0, 2.5, 7.0])
def test_who_waits_as_long_as_told_is_let_in_and_not_a_second_before(rate: float) -> None:
    now = [100.0]
    gate = Gate(rate, lambda: now[0])

    def told() -> int:
        """The seconds to wait, 0 for who is let in."""
        try:
            gate.enter({}, "here")
        except Refused as refused:
            assert refused.status == 429
            return int(refused.headers["Retry-After"])
        return 0

    for _ in range(3):
        wait = next(seconds for seconds in iter(told, None) if seconds)
        now[0] += max(0.0, wait - 1.001)
        assert told() > 0
        now[0] += 1.002  # a thousandth more than it takes: sums of fractions are not exact
        assert told() == 0


def test_beyond_this_machine_without_keys_needs_a_word() -> None:
    with pytest.raises(UserError, match=r"no API keys.*--allow-anonymous"):
        ServeSettings(host="0.0.0.0").check(keys=False)
    ServeSettings(host="0.0.0.0").check(keys=True)
    ServeSettings(host="0.0.0.0", open_to_all=True).check(keys=False)


def test_other_sites_may_not_read_answers(server: Running) -> None:
    found = server.client.post("/predict", content=PNG, headers={"Origin": "https://elsewhere.example"})
    assert not any(name.startswith("access-control") for name in found.headers)
