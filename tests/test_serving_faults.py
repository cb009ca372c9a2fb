"""When the server itself, its database or its keys fail it: what is told, and what is not."""

import logging
import threading
from pathlib import Path as FilePath
from typing import Any

import pytest
from served import PIXELS as IMAGES
from served import PNG, copy_of, eventually, grow_two, infer_body, running

from mutant.serving.access import Gate
from mutant.serving.refusals import Refused
from mutant.serving.settings import ServeSettings
from mutant.serving.snapshot import RETRY_SECONDS, Loader, Snapshot
from mutant.storage import keys
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture
def changing(database: FilePath, tmp_path: FilePath) -> FilePath:
    """A copy of the database that a test may change."""
    return copy_of(database, tmp_path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_taking_back_the_last_key_opens_nothing(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        key = keys.make(store, "only")
    with running(changing, ServeSettings(host="127.0.0.2", refresh=0.05)) as here:
        assert here.client.get("/v2", headers=bearer(key)).status_code == 200
        with Store.open(str(changing)) as store:
            keys.take_back(store, "only")
        eventually(lambda: here.client.get("/v2", headers=bearer(key)).status_code == 401)
        assert not here.service.gate.keys
        for path in ("/v2", "/api/tasks", "/metrics", "/v2/models/low"):
            assert here.client.get(path).status_code == 401
        assert here.client.post("/predict", content=PNG).status_code == 401
        assert here.client.get("/v2/health/live").status_code == 200
        with Store.open(str(changing)) as store:
            key = keys.make(store, "another")
        eventually(lambda: here.client.get("/v2", headers=bearer(key)).status_code == 200)


@pytest.mark.parametrize("settings", [ServeSettings(), ServeSettings(host="127.0.0.2", open_to_all=True)])
def test_without_keys_it_is_open_where_that_was_wanted(database: FilePath, settings: ServeSettings) -> None:
    with running(database, settings) as here:
        assert here.client.get("/v2").status_code == 200


def test_keys_are_looked_at_while_a_task_is_compiled(changing: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(str(changing)) as store:
        key = keys.make(store, "one"), keys.make(store, "two")
    with running(changing, ServeSettings(refresh=0.05)) as here:
        compiling, go = threading.Event(), threading.Event()

        def slow(self: Loader, before: Snapshot) -> Snapshot:
            compiling.set()
            assert go.wait(60)
            return before

        monkeypatch.setattr(Loader, "latest", slow)
        assert compiling.wait(20)
        with Store.open(str(changing)) as store:
            keys.take_back(store, "one")
        eventually(lambda: here.client.get("/v2", headers=bearer(key[0])).status_code == 401, seconds=10)
        assert here.client.get("/v2", headers=bearer(key[1])).status_code == 200
        go.set()


@pytest.fixture
def blind(changing: FilePath):
    """A server whose database has become unreadable, and that database."""
    with Store.open(str(changing)) as store:
        key = keys.make(store, "boss", "admin")
    with running(changing, ServeSettings(refresh=3600, deadline=2)) as here:
        old = changing.read_bytes()
        here.service.store.close()  # its connections have pages at hand; the next ones read the file
        for file in changing.parent.glob("mutant.db-*"):
            file.unlink()
        changing.write_bytes(b"?" * len(old))
        here.client.headers.update(bearer(key))
        yield here, changing


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/tasks"),
        ("GET", "/api/model"),
        ("GET", "/api/samples"),
        ("GET", "/api/runs"),
        ("GET", "/api/runs/1"),
        ("GET", "/api/components/0123"),
        ("GET", "/api/samples/low/0"),
        ("GET", "/v2/models/low"),
        ("GET", "/v2/models/low/versions/0123456789"),
        ("POST", "/tasks/low/predict?version=0123456789"),
        ("DELETE", "/tasks/low"),
        ("POST", "/tasks/low/restore"),
    ],
)
def test_an_unreadable_database_is_503_without_its_name(blind: Any, method: str, path: str) -> None:
    here, file = blind
    found = here.client.request(method, path)
    assert (found.status_code, "database" in found.text) == (503, True), found.text
    for secret in (file.name, str(file.parent), "Traceback", "sqlite"):
        assert secret not in found.text


def test_an_unreadable_database_stops_no_prediction(blind: Any) -> None:
    here, _ = blind
    assert here.client.post("/predict", content=PNG).status_code == 200


def test_what_nobody_thought_of_is_told_as_json(
    database: FilePath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret reason")

    with running(database) as here, caplog.at_level(logging.ERROR, "mutant.serving"):
        monkeypatch.setattr("mutant.serving.people.top", broken)
        found = here.client.post("/predict", content=PNG, headers={"X-Request-ID": "mine"})
        assert (found.status_code, found.json()["error"]["request_id"]) == (500, "mine")
        assert found.headers["x-request-id"] == "mine"
        assert "secret" not in found.text
        eventually(lambda: [vars(r)["request_id"] for r in caplog.records if r.msg == "internal error"] == ["mine"])
        assert here.client.get("/metrics").text.count('mutant_refusals_total{status="500"} 1.0') == 1


def test_administration_tells_unknown_impossible_and_unusable_apart(
    changing: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mutant.serving import administration

    with Store.open(str(changing)) as store:
        key = bearer(keys.make(store, "boss", "admin"))
    with running(changing) as here:
        unknown = here.client.delete("/tasks/lov", headers=key)
        assert (unknown.status_code, "Nearest: 'low'" in unknown.text) == (404, True)
        assert here.client.post("/tasks/low/restore", headers=key).status_code == 409

        def unusable(*_: Any, **__: Any) -> Any:
            raise UserError("The server of 'postgresql://me@secret.example/db' cannot be reached.")

        monkeypatch.setattr(administration, "remove", unusable)
        found = here.client.delete("/tasks/low", headers=key)
        assert (found.status_code, "secret" in found.text, "retry-after" in found.headers) == (503, False, True)


def test_who_am_i_is_not_counted_and_told_at_the_limit(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        key = bearer(keys.make(store, "slow", rate=0.01))
    with running(changing) as here:
        for _ in range(5):
            assert here.client.get("/whoami", headers=key).json() == {"scope": "read", "keys": True}
        assert here.client.get("/v2", headers=key).status_code == 200
        assert here.client.get("/v2", headers=key).status_code == 429
        assert here.client.get("/whoami", headers=key).json() == {"scope": "read", "keys": True}


@pytest.mark.parametrize(("proxies", "passes"), [(None, False), ("127.0.0.1", True)])
def test_a_client_names_no_other_address_unless_a_proxy_is_believed(
    database: FilePath, proxies: str | None, passes: bool
) -> None:
    with running(database, ServeSettings(rate=0.01, proxies=proxies)) as here:
        found = [here.client.get("/v2", headers={"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(4)]
        assert found[0] == 200
        assert (found == [200] * 4) is passes


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.0, -1.0, 1e12])
@pytest.mark.parametrize("name", ["refresh", "rate", "deadline"])
def test_limits_are_numbers_that_can_be_kept_to(name: str, value: float) -> None:
    changed: Any = {name: value}
    with pytest.raises(UserError, match=f"--{name} must be"):
        ServeSettings(**changed)


def test_without_keys_a_closed_gate_lets_nobody_in() -> None:
    with pytest.raises(Refused) as refused:
        Gate(is_open=False).enter({}, "10.0.0.1")
    assert refused.value.status == 401
    assert Gate().enter({}, "127.0.0.1") is None


def damage(file: FilePath, digest: str, data: bytes | None) -> bytes:
    """Overwrite a component's weights with zeros, or with `data`; what was there."""
    import sqlite3

    with sqlite3.connect(file) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        (before,) = connection.execute("SELECT data FROM weights WHERE digest = ?", (digest,)).fetchone()
        after = bytes(len(before)) if data is None else data
        connection.execute("UPDATE weights SET data = ? WHERE digest = ?", (after, digest))
    return before


def test_damaged_weights_are_tried_again_after_a_while(changing: FilePath) -> None:
    from served import best

    from mutant.serving.programs import Programs

    with Store.open(str(changing)) as store:
        digest = best(store, "low").slots["head"].digest
    whole = damage(changing, digest, None)
    now = [1000.0]
    with Store.open(str(changing), read_only=True) as store:
        loader = Loader(store, Programs(), lambda: now[0])
        first = loader.latest(Snapshot())
        assert (list(first.served), list(first.damaged)) == (["high"], ["low"])
        damage(changing, digest, whole)
        assert loader.latest(first) is first
        now[0] += RETRY_SECONDS
        second = loader.latest(first)
        assert (list(second.served), list(second.damaged)) == (["low", "high"], [])
        assert second.served["high"] is first.served["high"]


def test_predictions_are_counted_by_task(database: FilePath) -> None:
    with running(database) as here:
        here.client.post("/predict", content=PNG)
        here.client.post("/tasks/low/predict", content=b"GIF89a")
        here.client.post("/tasks/none/predict", content=PNG)
        here.client.post("/v2/models/high/infer", json=infer_body(IMAGES[:1]))
        lines = here.client.get("/metrics").text.splitlines()
        counts = {line for line in lines if line.startswith("mutant_task_requests_total")}
        assert counts == {
            'mutant_task_requests_total{status="200",task="low"} 1.0',
            'mutant_task_requests_total{status="200",task="high"} 2.0',
            'mutant_task_requests_total{status="422",task="low"} 1.0',
        }
        assert 'mutant_task_request_seconds_count{task="high"} 2.0' in lines


def test_a_removed_task_has_no_restore_by_another_name(changing: FilePath) -> None:
    with Store.open(str(changing)) as store:
        key = bearer(keys.make(store, "boss", "admin"))
        remove(store, "high", force=True)
    with running(changing) as here:
        assert here.client.delete("/tasks/high", headers=key).status_code == 404
        assert here.client.post("/tasks/high/restore", headers=key).status_code == 200
