"""The server over real HTTP: every task's answers, its limits and errors, keys, and a database that changes below."""

import base64
import io
import json
import threading
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from growing import SMALL, begin, go_on, small_tasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from served import Running, eventually, grow_two, infer_body, running

from mutant.network import predict_logits, probabilities
from mutant.predict import predict
from mutant.serving.batching import Queueing
from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.collection import gc
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


PIXELS = np.random.default_rng(5).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
PNG = encoded(PIXELS[0])
TASKS = ("low", "high")


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
    with Store.open(str(database)) as store, store.writing():
        copy = tmp_path / "mutant.db"
        copy.write_bytes(database.read_bytes())
    return copy


def logits_of(database: FilePath, task: str, pixels: np.ndarray) -> np.ndarray:
    with Store.open(str(database), read_only=True) as store:
        path = store.best(task)
        return predict_logits(path, store.components({part.digest for part in path.parts}), pixels)


# Answers


def test_an_upload_is_answered_by_every_task_as_by_mutant_predict(server: Running, database: FilePath) -> None:
    found = server.client.post("/predict", params={"tasks": "all", "top_k": 2}, files={"image": PNG}).json()
    with Store.open(str(database), read_only=True) as store:
        for answer in found["answers"]:
            path = store.best(answer["task"])
            components = store.components({part.digest for part in path.parts})
            (expected,) = predict(path, components, store.task(answer["task"]), [PNG], top_k=2)
            assert answer["version"] == expected.version
            assert [(x["label"], x["probability"]) for x in answer["labels"]] == [
                (label.name, label.probability) for label in expected.labels
            ]
    assert [answer["task"] for answer in found["answers"]] == ["low", "high"]
    assert found["timing"]["total_ms"] > 0


@pytest.mark.parametrize("form", ["multipart", "json", "data url", "raw", "jpeg"])
def test_an_image_can_come_in_any_form(server: Running, form: str) -> None:
    text = base64.b64encode(PNG).decode()
    sent = {
        "multipart": {"files": {"image": PNG}},
        "json": {"json": {"image": text}},
        "data url": {"json": {"image": f"data:image/png;base64,{text}"}},
        "raw": {"content": PNG, "headers": {"content-type": "image/png"}},
        "jpeg": {"content": encoded(PIXELS[0], "JPEG"), "headers": {"content-type": "image/jpeg"}},
    }[form]
    found = server.client.post("/tasks/low/predict", **sent)
    assert found.status_code == 200
    assert [answer["task"] for answer in found.json()["answers"]] == ["low"]


def test_golden_outputs_are_served_to_the_bit(server: Running, database: FilePath) -> None:
    with Store.open(str(database), read_only=True) as store:
        for task in ("low", "high"):
            golden = store.golden(store.best(task).id)
            for some in (golden.images, golden.images[2:3], golden.images[:5]):
                found = server.client.post(f"/v2/models/{task}/infer", json=infer_body(some)).json()
                first = golden.images.shape[0] if len(some) == len(golden.images) else len(some)
                start = 2 if len(some) == 1 else 0
                expected = golden.logits[start : start + first]
                served = np.array(found["outputs"][0]["data"], dtype=np.float32)
                assert served.tobytes() == expected.tobytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["low", "high"]), st.integers(0, 5), st.integers(1, 6)), min_size=2, max_size=8)
)
def test_concurrent_requests_do_not_change_each_others_answers(server: Running, database: FilePath, asked) -> None:
    expected = {task: logits_of(database, task, _prepared(server, PIXELS)) for task in ("low", "high")}
    answers: dict[int, np.ndarray] = {}

    def ask(number: int, task: str, start: int, n: int) -> None:
        body = infer_body(PIXELS[start : start + n])
        found = httpx.post(f"{server.url}/v2/models/{task}/infer", json=body, timeout=60).json()
        answers[number] = np.array(found["outputs"][0]["data"], dtype=np.float32)

    threads = [threading.Thread(target=ask, args=(i, *one)) for i, one in enumerate(asked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (task, start, n) in enumerate(asked):
        assert answers[number].tobytes() == expected[task][start : start + n].tobytes()


def _prepared(server: Running, pixels: np.ndarray) -> np.ndarray:
    from mutant.tasks.preprocess import prepare

    size = server.service.snapshot.task("low").image_size
    return np.stack([prepare(one, size) for one in pixels])


# The protocol


def test_a_published_client_of_the_protocol(server: Running, database: FilePath) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient has no wheel for this platform")
    with http.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("low")
        assert client.get_server_metadata()["name"] == "mutant"
        metadata = client.get_model_metadata("low")
        (version,) = metadata["versions"]
        assert [one["name"] for one in metadata["outputs"]] == ["logits", "probabilities", "label"]
        assert {row["name"]: row["state"] for row in client.get_model_repository_index()} == {
            "low": "READY", "high": "READY",
        }  # fmt: skip
        expected = logits_of(database, "low", _prepared(server, PIXELS))
        for binary in (True, False):
            given = http.InferInput("images", PIXELS.shape, "UINT8")
            given.set_data_from_numpy(PIXELS, binary_data=binary)
            outputs = [http.InferRequestedOutput(n, binary_data=binary) for n in ("logits", "label", "probabilities")]
            found = client.infer(
                "low", [given], outputs=outputs, model_version=version, request_id="seven", timeout=10**7
            )
            assert found.as_numpy("logits").tobytes() == expected.tobytes()
            assert found.as_numpy("probabilities").tobytes() == probabilities(expected).tobytes()
            assert len(found.as_numpy("label")) == len(PIXELS)
            assert (found.get_response()["id"], found.get_response()["model_version"]) == ("seven", version)
        pictures = http.InferInput("images", [2], "BYTES")
        pictures.set_data_from_numpy(np.array([encoded(one) for one in PIXELS[:2]], dtype=object))
        found = client.infer("low", [pictures])
        assert found.as_numpy("logits").tobytes() == expected[:2].tobytes()
        with pytest.raises(Exception, match=r"no task 'lov'\. Nearest: 'low'"):
            client.infer("lov", [given])


def test_a_version_is_the_digest_of_its_path(server: Running) -> None:
    (version,) = server.client.get("/v2/models/low").json()["versions"]
    for prefix in (version, version[:8]):
        found = server.client.post(f"/v2/models/low/versions/{prefix}/infer", json=infer_body(PIXELS[:1])).json()
        assert found["model_version"] == version
    other = server.client.get("/v2/models/low/versions/00000000/ready")
    assert other.status_code == 404
    assert "no version '00000000'" in other.json()["error"]


# Errors


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
        # Both are out of the queue: one was late, the other's client went.
        eventually(lambda: not any(not i.future.cancelled() for i in here.service.batcher._queue))
        here.service.batcher._queue.clear()
        here.service.batcher._rows = 0
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


# Keys


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
        assert ask("/tasks/high/restore", headers=bearer(admin)).status_code == 404
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
        slow, fast = keys.make(store, "slow", rate=1.0), keys.make(store, "fast", rate=1e6)
    with running(changing, ServeSettings(rate=5.0)) as here:
        headers = {"Authorization": f"Bearer {slow}"}
        found = [here.client.get("/v2", headers=headers).status_code for _ in range(5)]
        assert found[0] == 200
        assert 429 in found
        assert here.client.get("/v2", headers=headers).headers.get("retry-after") in ("1", "2", None)
        headers = {"Authorization": f"Bearer {fast}"}
        assert {here.client.get("/v2", headers=headers).status_code for _ in range(20)} == {200}


def test_beyond_this_machine_without_keys_needs_a_word() -> None:
    with pytest.raises(UserError, match=r"no API keys.*--allow-anonymous"):
        ServeSettings(host="0.0.0.0").check(keys=False)
    ServeSettings(host="0.0.0.0").check(keys=True)
    ServeSettings(host="0.0.0.0", open_to_all=True).check(keys=False)


def test_other_sites_may_not_read_answers(server: Running) -> None:
    found = server.client.post("/predict", content=PNG, headers={"Origin": "https://elsewhere.example"})
    assert not any(name.startswith("access-control") for name in found.headers)


# A database that changes below


def test_tasks_come_and_go_without_a_restart(changing: FilePath, tmp_path: FilePath) -> None:
    stop = threading.Event()
    wrong: list = []
    with running(changing, ServeSettings(refresh=0.05)) as here:
        expected = here.client.post("/v2/models/high/infer", json=infer_body(PIXELS[:2])).json()["outputs"]

        def ask_on() -> None:
            while not stop.is_set():
                found = httpx.post(f"{here.url}/v2/models/high/infer", json=infer_body(PIXELS[:2]), timeout=60)
                if found.status_code != 200 or found.json()["outputs"] != expected:
                    wrong.append(found.text)

        asking = threading.Thread(target=ask_on)
        asking.start()
        with Store.open(str(changing)) as store:
            remove(store, "low", force=True)
            eventually(lambda: here.client.post("/tasks/low/predict", content=PNG).status_code == 404)
            undo(store, "low")
            eventually(lambda: here.client.post("/tasks/low/predict", content=PNG).status_code == 200)
            before = here.client.get("/v2/models/low").json()["versions"]
            tasks = small_tasks(tmp_path)
            begin(store, ("low",), SMALL)
            go_on(store, {"low": tasks["low"]})
            best = store.best("low").version
            eventually(
                lambda: here.client.post("/tasks/low/predict", content=PNG).json()["answers"][0]["version"] == best
            )
            old = here.client.post(f"/v2/models/low/versions/{before[0]}/infer", json=infer_body(PIXELS[:1]))
            assert old.json()["model_version"] == before[0]
            assert set(before) <= set(here.client.get("/v2/models/low").json()["versions"])
        stop.set()
        asking.join()
        assert not wrong


def test_a_collected_version_is_gone(changing: FilePath, tmp_path: FilePath) -> None:
    with Store.open(str(changing)) as store:
        loser = next(p for p in store.paths(task="low") if p.version != store.best("low").version)
    with running(changing) as here:
        ask = f"/v2/models/low/versions/{loser.version}/infer"
        assert here.client.post(ask, json=infer_body(PIXELS[:1])).json()["model_version"] == loser.version
    with Store.open(str(changing)) as store:
        assert gc(store).components
    with running(changing) as here:
        found = here.client.post(ask, json=infer_body(PIXELS[:1]))
        assert (found.status_code, "was collected" in found.text) == (410, True)


def test_a_task_with_damaged_weights_does_not_stop_the_others(changing: FilePath) -> None:
    import sqlite3

    with Store.open(str(changing)) as store:
        digest = store.best("low").slots["head"].digest
    with sqlite3.connect(changing) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        found = connection.execute("UPDATE weights SET data = zeroblob(length(data)) WHERE digest = ?", (digest,))
        assert found.rowcount == 1
    with running(changing) as here:
        low, high = (here.client.post(f"/tasks/{task}/predict", content=PNG) for task in ("low", "high"))
        assert (low.status_code, "mutant verify" in low.text, high.status_code) == (503, True, 200)


# Operation


def test_metrics_count_requests_errors_batches_and_what_sharing_saved(database: FilePath) -> None:
    with running(database) as here:
        for _ in range(3):
            here.client.post("/predict", content=PNG)
        here.client.post("/tasks/lov/predict", content=PNG)
        lines = here.client.get("/metrics").text.splitlines()
        values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
        assert values['mutant_requests_total{route="/predict",status="200"}'] == 3
        assert values['mutant_refusals_total{status="404"}'] == 1
        assert values['mutant_predictions_total{task="low"}'] == 3
        assert values["mutant_batch_rows_count"] == 3
        assert values["mutant_tasks"] == 2
        assert values["mutant_database_up"] == 1
        saved, needed = (
            sum(value for name, value in values.items() if name.startswith(f"mutant_{word}_flops_total"))
            for word in ("saved", "needed")
        )
        assert 0 < saved < needed
        assert values["process_resident_memory_bytes"] > 1e6


def test_weights_that_tasks_share_are_in_memory_once(server: Running, database: FilePath) -> None:
    with Store.open(str(database), read_only=True) as store:
        paths = [store.best(task) for task in ("low", "high")]
        distinct = {part.digest for path in paths for part in path.parts}
        total = sum(component.n_bytes for component in store.components(distinct).values())
    served = server.service.snapshot.served
    shared = set(paths[0].slots.values()) & set(paths[1].slots.values())
    assert shared
    assert len({id(loaded) for one in served.values() for loaded in one.chain}) == len(distinct)
    assert total <= server.service.loader.resident.n_bytes


def test_a_database_that_cannot_be_read_changes_no_answer(changing: FilePath) -> None:
    with running(changing, ServeSettings(refresh=0.05)) as here:
        before = here.client.post("/predict", content=PNG).json()["answers"]
        hidden = changing.with_suffix(".away")
        here.service.store._engine.dispose()
        changing.rename(hidden)
        eventually(lambda: "mutant_database_up 0.0" in here.client.get("/metrics").text)
        assert here.client.post("/predict", content=PNG).json()["answers"] == before
        hidden.rename(changing)
        eventually(lambda: "mutant_database_up 1.0" in here.client.get("/metrics").text)


def test_the_log_has_a_line_for_each_request(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from mutant.serving.logs import JsonLines

    logger = logging.getLogger("mutant.serving")
    logger.propagate = True
    with caplog.at_level("INFO", "mutant.serving"):
        server.client.get("/v2", headers={"X-Request-ID": "abc-1"})
        server.client.get("/v2", headers={"X-Request-ID": "no good"})
        eventually(lambda: sum(record.message == "request" for record in caplog.records) >= 2)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.message == "request"]
    assert lines[0]["request_id"] == "abc-1"
    assert len(lines[1]["request_id"]) == 16
    assert lines[0]["status"] == 200
