"""`mutant serve` as its own process: what it imports, how it starts and stops; `mutant keys`."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from cli_calls import call, done
from served import encoded, eventually, grow_two, infer_body, serving

PIXELS = np.zeros((1, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


# Python runs it before the command: who asks for what a server must do without gets an error, and all imports are told.
WATCH_IMPORTS = """
import atexit, json, os, sys

AWAY = ("mutant.search", "ray", "tensorflow", "tensorflow_datasets", "matplotlib", "sklearn")
asked = []

class Away:
    def find_spec(self, name, path=None, target=None):
        if any(name == away or name.startswith(away + ".") for away in AWAY):
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Away())

def tell():
    with open(os.environ["TOLD_IMPORTS"], "w") as file:
        json.dump({"asked": asked, "imported": sorted(sys.modules)}, file)

atexit.register(tell)
"""


def test_a_server_needs_neither_the_search_nor_ray_nor_tfds(database: FilePath, tmp_path: FilePath) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH_IMPORTS)
    told = tmp_path / "imports.json"
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(tmp_path), *([inherited] if inherited else [])])
    png = encoded(PIXELS[0])
    with (
        serving(database, environment={"PYTHONPATH": path, "TOLD_IMPORTS": str(told)}) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        page = client.get("/").text
        files = re.findall(r"[\"'](/?assets/[^\"']+)", page)
        routes = ["/openapi.json", "/metrics", "/whoami", "/v2", "/v2/models/low", "/v2/models/low/ready"]
        routes += ["/api/tasks", "/api/model", "/api/runs", "/api/runs/1", "/api/samples", "/api/samples/low/0"]
        answers = {route: client.get(route) for route in [*(f"/{file.lstrip('/')}" for file in files), *routes]}
        (digest, *_) = re.findall(r"[0-9a-f]{64}", answers["/api/model"].text)
        answers["component"] = client.get(f"/api/components/{digest}")
        answers["predict"] = client.post("/predict", content=png)
        answers["infer"] = client.post("/v2/models/low/infer", json=infer_body(PIXELS))
        answers["index"] = client.post("/v2/repository/index")
        assert files
        assert {name: one.status_code for name, one in answers.items() if one.status_code != 200} == {}
        assert server.stop() == 0
    found = json.loads(told.read_text())
    assert set(found["asked"]) <= {"tensorflow"}  # JAX's compilation cache looks for it, and does without
    assert "mutant.serving.server" in found["imported"]


def test_a_server_starts_answers_and_drains_when_told_to_stop(database: FilePath) -> None:
    with serving(database) as server:
        body = json.dumps(infer_body(np.zeros((60, 8, 8, 3), dtype=np.uint8))).encode()
        answers: list[int] = []
        sent = threading.Semaphore(0)

        def sending() -> Iterator[bytes]:
            yield body
            sent.release()

        def ask() -> None:
            url, length = f"{server.url}/v2/models/low/infer", {"content-length": str(len(body))}
            answers.append(httpx.post(url, content=sending(), headers=length, timeout=60).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: httpx.get(f"{server.url}/metrics").text.count("mutant_batch_rows_count 0.0") == 0)
        assert all(sent.acquire(timeout=30) for _ in threads)
        assert server.stop(signal.SIGTERM) == 0
        for thread in threads:
            thread.join()
        assert set(answers) == {200}
        eventually(lambda: server.lines[-1].get("event") == "stopped")
        events = [line.get("event") for line in server.lines]
        assert "ready" in events
        assert not any("traceback" in line or "text" in line for line in server.lines)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/v2/health/live")


def test_ctrl_c_stops_it_too(database: FilePath) -> None:
    with serving(database) as server:
        assert server.stop(signal.SIGINT) == 0
        assert not any("traceback" in line for line in server.lines)


def test_a_killed_server_leaves_the_database_as_it_was(database: FilePath) -> None:
    with serving(database) as server:
        httpx.post(f"{server.url}/v2/models/low/infer", json=infer_body(PIXELS))
        server.stop(signal.SIGKILL)
    assert call("verify", "--db", database, "--json").json["ok"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "no API keys"),
        (["--allow-anonymous", "--host", "no.such.host.invalid"], "Cannot listen on 'no.such.host.invalid'"),
        (["--refresh", "inf"], "--refresh must be"),
        (["--rate", "inf"], "--rate must be"),
        (["--deadline", "inf"], "--deadline must be"),
        (["--ray-address", "auto"], "--ray-address goes with --replicas"),
        (["--replicas", "1", "--forwarded-allow-ips", "*"], "--forwarded-allow-ips does not go with --replicas"),
        (["--max-body", "lots"], "--max-body must be a size"),
        (["--db", "nowhere.db"], "nowhere.db"),
    ],
)
def test_what_cannot_be_served_is_told(database: FilePath, options: list[str], words: str) -> None:
    found = call("serve", *(["--db", database] if "--db" not in options else []), *options)
    assert found.code == 2
    assert words in found.err
    assert "Traceback" not in found.err


def test_a_port_in_use_is_told(database: FilePath) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = call("serve", "--db", database, "--port", port)
        assert found.code == 2
        assert f"Port {port} of '127.0.0.1' is in use" in found.err


def test_keys_by_the_command_line(database: FilePath) -> None:
    made = call("keys", "add", "deploy", "--scope", "admin", "--rate", 5, "--db", database)
    assert (made.code, made.out.startswith("mutant_")) == (0, True)
    assert call("keys", "add", "deploy", "--db", database).code == 2
    (row,) = call("keys", "list", "--json", "--db", database).json
    assert (row["name"], row["scope"], row["rate"]) == ("deploy", "admin", 5.0)
    assert made.out.strip() not in call("keys", "list", "--db", database).out
    wrong = call("keys", "rm", "depoly", "--db", database)
    assert (wrong.code, "Nearest: 'deploy'" in wrong.err) == (2, True)
    assert call("keys", "add", "other", "--db", database).code == 0
    taken = done("keys", "rm", "other", "--json", "--db", database).json
    assert taken == {"name": "other", "taken_back": True, "last": False}
    assert "this machine alone answers without a key" in done("keys", "rm", "deploy", "--db", database).out
    assert "no keys" in call("keys", "list", "--db", database).out


def test_it_starts_in_seconds(database: FilePath) -> None:
    began = time.monotonic()
    with serving(database) as server:
        assert time.monotonic() - began < 60  # about four on an idle machine; benchmarks/serving_start.py measures it
        rss = FilePath(f"/proc/{server.process.pid}/statm")
        if rss.exists():
            assert int(rss.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 800e6
