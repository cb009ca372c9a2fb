"""The server over real HTTP: every task's answers in every form, the protocol, and what it tells of itself."""

import asyncio
import base64
import json
import threading
from dataclasses import replace
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import PIXELS, PNG, Running, best, copy_of, encoded, eventually, grow_two, infer_body, logits_of, running

from mutant.network import probabilities
from mutant.predict import predict
from mutant.serving.app import build
from mutant.serving.settings import ServeSettings
from mutant.storage.store import Store


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


def test_an_upload_is_answered_by_every_task_as_by_mutant_predict(server: Running, database: FilePath) -> None:
    found = server.client.post("/predict", params={"tasks": "all", "top_k": 2}, files={"image": PNG}).json()
    with Store.open(str(database), read_only=True) as store:
        for answer in found["answers"]:
            path = best(store, answer["task"])
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
            golden = store.golden(best(store, task).id)
            assert golden is not None
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
    expected = {task: logits_of(database, task, PIXELS) for task in ("low", "high")}
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
        expected = logits_of(database, "low", PIXELS)
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


@pytest.mark.parametrize("tasks", ["", ",", ",,"])
def test_no_names_at_all_are_told_as_such(server: Running, tasks: str) -> None:
    found = server.client.post("/predict", params={"tasks": tasks}, content=PNG)
    assert (found.status_code, "names no task" in found.text) == (422, True), found.text


def test_the_index_can_be_asked_for_what_answers(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        store.add_task(replace(store.task("low"), name="young"))
    with running(changing) as here:
        for body, names in ((b"", 3), (b"{}", 3), (b'{"ready": false}', 3), (b'{"ready": true}', 2)):
            found = here.client.post("/v2/repository/index", content=body)
            assert [row["name"] for row in found.json()] == ["low", "high", "young"][:names]
        for body in (b"{", b'{"ready": 7}', b"[]", b"[" * 5000):
            assert here.client.post("/v2/repository/index", content=body).status_code == 422


def test_a_refused_request_leaves_nobody_waiting_for_its_client(server: Running) -> None:
    body = json.dumps(infer_body(PIXELS[:1], ("nothing",))).encode()
    app = build(server.service)
    sent: list[dict] = []

    async def ask() -> int:
        messages = [{"type": "http.request", "body": body}]

        async def receive() -> dict:
            if not messages:
                await asyncio.Event().wait()  # this client never goes
            return messages.pop()

        async def send(message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v2/models/low/infer", "raw_path": b"", "query_string": b"",
                 "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "http_version": "1.1"}  # fmt: skip
        await app(scope, receive, send)
        return len(asyncio.all_tasks())

    assert asyncio.run(ask()) == 1
    assert sent[0]["status"] == 422


def test_a_version_is_the_digest_of_its_path(server: Running) -> None:
    (version,) = server.client.get("/v2/models/low").json()["versions"]
    for prefix in (version, version[:8]):
        found = server.client.post(f"/v2/models/low/versions/{prefix}/infer", json=infer_body(PIXELS[:1])).json()
        assert found["model_version"] == version
    other = server.client.get("/v2/models/low/versions/00000000/ready")
    assert other.status_code == 404
    assert "no version '00000000'" in other.json()["error"]


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
        paths = [best(store, task) for task in ("low", "high")]
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
        changing.rename(hidden)  # first: a look between the two would keep a connection to the file that is away
        here.service.store._engine.dispose()
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
