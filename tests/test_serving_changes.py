"""A server whose database changes below it: tasks come, go and get better, weights are collected or damaged."""

import threading
from pathlib import Path as FilePath

import httpx
import pytest
from growing import SMALL, go_on, small_tasks
from served import PIXELS, PNG, best, copy_of, eventually, grow_two, infer_body, running

from mutant.search.growth import begin
from mutant.serving.settings import ServeSettings
from mutant.storage.collection import gc
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture
def changing(database: FilePath, tmp_path: FilePath) -> FilePath:
    """A copy of the database that a test may change."""
    return copy_of(database, tmp_path)


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
            newest = best(store, "low").version
            eventually(
                lambda: here.client.post("/tasks/low/predict", content=PNG).json()["answers"][0]["version"] == newest
            )
            old = here.client.post(f"/v2/models/low/versions/{before[0]}/infer", json=infer_body(PIXELS[:1]))
            assert old.json()["model_version"] == before[0]
            assert set(before) <= set(here.client.get("/v2/models/low").json()["versions"])
        stop.set()
        asking.join()
        assert not wrong


def test_a_collected_version_is_gone(changing: FilePath, tmp_path: FilePath) -> None:
    with Store.open(str(changing)) as store:
        loser = next(p for p in store.paths(task="low") if p.version != best(store, "low").version)
    with running(changing) as here:
        ask = f"/v2/models/low/versions/{loser.version}/infer"
        assert here.client.post(ask, json=infer_body(PIXELS[:1])).json()["model_version"] == loser.version
    with Store.open(str(changing)) as store:
        assert gc(store).components
    with running(changing) as here:
        found = here.client.post(ask, json=infer_body(PIXELS[:1]))
        assert (found.status_code, "was collected" in found.text) == (410, True)


def test_a_version_that_is_collected_below_a_running_server_is_gone(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        loser = next(p for p in store.paths(task="low") if p.version != best(store, "low").version)
    with running(changing, ServeSettings(refresh=0.05)) as here:
        ask = f"/v2/models/low/versions/{loser.version}/infer"
        assert here.client.post(ask, json=infer_body(PIXELS[:1])).json()["model_version"] == loser.version
        with Store.open(str(changing)) as store:
            assert gc(store).components
        eventually(lambda: here.client.post(ask, json=infer_body(PIXELS[:1])).status_code == 410, seconds=10)
        assert here.client.post("/tasks/low/predict", content=PNG).status_code == 200


def test_a_task_with_damaged_weights_does_not_stop_the_others(changing: FilePath) -> None:
    import sqlite3

    with Store.open(str(changing)) as store:
        digest = best(store, "low").slots["head"].digest
    with sqlite3.connect(changing) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        found = connection.execute("UPDATE weights SET data = zeroblob(length(data)) WHERE digest = ?", (digest,))
        assert found.rowcount == 1
    with running(changing) as here:
        low, high = (here.client.post(f"/tasks/{task}/predict", content=PNG) for task in ("low", "high"))
        assert (low.status_code, "mutant verify" in low.text, high.status_code) == (503, True, 200)
