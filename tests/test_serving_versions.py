"""Older versions of a task, and paths that do not answer as they did: asked for, refused, and delaying nobody else."""

import logging
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import httpx
import pytest
from served import PIXELS, PNG, best, copy_of, grow_two, infer_body, running

from mutant.path import Path
from mutant.serving.programs import Programs
from mutant.serving.settings import ServeSettings
from mutant.storage import facts, weights
from mutant.storage.removal import remove
from mutant.storage.store import Store


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture
def changing(database: FilePath, tmp_path: FilePath) -> FilePath:
    """A copy of the database that a test may change."""
    return copy_of(database, tmp_path)


def older(store: Store, task: str) -> Path:
    """A path of a task that is not its best."""
    return next(path for path in store.paths(task=task) if path.version != best(store, task).version)


def at(task: str, version: str) -> str:
    return f"/v2/models/{task}/versions/{version}"


def without_triggers(file: FilePath, change: str, *values: Any) -> None:
    """Change what the database itself would refuse to change."""
    with sqlite3.connect(file) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        assert connection.execute(change, values).rowcount == 1


def test_who_asks_for_what_is_loaded_waits_for_no_compilation(
    database: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(str(database), read_only=True) as store:
        low, high = best(store, "low").version, best(store, "high").version
        cached, cold = older(store, "low").version, older(store, "high").version
    compiling, go = threading.Event(), threading.Event()
    prepare = Programs.prepare

    def slow(self: Programs, path: Any) -> None:
        compiling.set()
        assert go.wait(60)
        prepare(self, path)

    with running(database, ServeSettings(refresh=3600, deadline=3)) as here:
        body = infer_body(PIXELS[:1])
        assert here.client.post(f"{at('low', cached)}/infer", json=body).status_code == 200
        monkeypatch.setattr(Programs, "prepare", slow)
        asks = [threading.Thread(target=httpx.get, args=(f"{here.url}{at('high', cold)}/ready",)) for _ in "123"]
        for ask in asks:
            ask.start()
        try:
            assert compiling.wait(20)
            for task, version in (("low", low), ("low", low[:8]), ("low", cached), ("low", cached[:9]), ("high", high)):
                found = here.client.post(f"{at(task, version)}/infer", json=body)
                assert found.status_code == 200, found.text
                assert found.json()["model_version"].startswith(version)
            assert here.client.get("/v2/models/low").json()["versions"] == [low]
        finally:
            go.set()
            for ask in asks:
                ask.join()
        assert here.client.get(f"{at('high', cold)}/ready").status_code == 200


def test_a_damaged_task_still_answers_in_older_versions(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        newest, old = best(store, "low"), older(store, "low")
    change = "UPDATE weights SET data = zeroblob(length(data)) WHERE digest = ?"
    without_triggers(changing, change, newest.slots["head"].digest)
    with running(changing) as here:
        found = here.client.post(f"{at('low', old.version)}/infer", json=infer_body(PIXELS[:1]))
        assert (found.status_code, found.json().get("model_version")) == (200, old.version), found.text
        for url in ("/v2/models/low/infer", f"{at('low', newest.version)}/infer"):
            found = here.client.post(url, json=infer_body(PIXELS[:1]))
            assert (found.status_code, "mutant verify" in found.text) == (503, True), found.text


def test_the_versions_of_a_removed_task_are_removed(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        versions = best(store, "low").version, older(store, "low").version
        remove(store, "low", force=True)
    with running(changing) as here:
        for version in versions:
            assert here.client.get(f"{at('low', version)}/ready").status_code == 404


@pytest.mark.parametrize(("backend", "status"), [(None, 503), ("another", 200)], ids=["here", "elsewhere"])
def test_a_task_without_its_golden_outputs_is_not_served_silently(
    changing: FilePath, backend: str | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(str(changing)) as store:
        path, old = best(store, "low"), older(store, "low")
        golden = store.golden(path.id)
        assert golden is not None
        logits = golden.logits.copy()
        logits[0, 0] += 1e-3
        other = replace(golden, logits=logits)
        blob = facts.golden_blob(other)
        with store.writing() as connection:
            weights.put(connection, [blob])
    change = "UPDATE goldens SET digest = ?, backend = ? WHERE path_key = (SELECT key FROM paths WHERE id = ?)"
    without_triggers(changing, change, blob.digest, backend or golden.backend, path.id)
    with caplog.at_level(logging.ERROR, "mutant.serving"), running(changing) as here:
        found = [here.client.post(f"/tasks/{task}/predict", content=PNG) for task in ("low", "high")]
        assert [one.status_code for one in found] == [status, 200]
        assert ("golden outputs" in found[0].text) == (status == 503)
        assert here.client.post(f"/tasks/low/predict?version={path.version}", content=PNG).status_code == status
        assert here.client.post(f"/tasks/low/predict?version={old.version}", content=PNG).status_code == 200
    told = [vars(record)["task"] for record in caplog.records if record.getMessage() == "task cannot be served"]
    assert told == (["low"] if status == 503 else [])
