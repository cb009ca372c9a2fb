"""Replicas on a cluster that was joined: other people's applications, its accelerators, its logs; two machines, one of
which is killed. The raylets are this host's, and believe what they are told of their machine."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

import httpx
import pytest
import ray
from growing import grown, small_tasks
from postgres_server import Server
from ray import serve
from replicas import START_SECONDS, asked, below, processes, replicas_below, replicated, texts
from served import PIXELS, QUICK, TASKS, eventually, grow_two, logits_of, serving
from several import Cluster, cluster


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_that_was_joined_keeps_what_is_others(tmp_path: FilePath) -> None:
    database, theirs, ours = grow_two(tmp_path), free_port(), free_port()
    with cluster() as own:
        own.add(cores=8, num_gpus=2)
        ray.init(own.address, log_to_driver=False, logging_level=logging.ERROR)
        serve.start(http_options={"host": "0.0.0.0", "port": theirs})
        _answering("hello")
        there = f"http://127.0.0.1:{theirs}"
        options = ("--replicas", 2, "--ray-address", own.address)
        command = [sys.executable, "-m", "mutant.cli.main", "serve", "--db", database, *options]
        refused = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert "'0.0.0.0' can be reached from other machines" in refused.stderr
        assert refused.returncode == 2
        with replicated(database, *options, "--allow-anonymous", port=ours, ready_at=there) as server:
            assert f"Serve already runs on this cluster and listens on 0.0.0.0, port {theirs}" in texts(server)
            assert f"Serving http://0.0.0.0:{theirs} by 2 replicas" in texts(server)
            assert ray.available_resources().get("GPU", 0) == 0, "one replica to a device"
            expected = logits_of(database, "low", PIXELS[:2]).tobytes()
            assert {asked(there, request_id=f"question-{number}") for number in range(10)} == {expected}
            files = [*FilePath(own.place).glob("session_2*/logs/mutant-serve-*.log")]
            assert len(files) == 2
            eventually(lambda: {f"question-{number}" for number in range(10)} <= _ids(files))
            assert server.stop() == 0
        assert set(serve.status().applications) == {"hello"}
        assert httpx.get(f"{there}/hello").text == "hello"
        assert httpx.get(f"{there}/v2/health/ready").status_code == 404


@pytest.mark.lengthy
@pytest.mark.timeout(900)
def test_two_machines_and_one_is_killed(postgres: Server, tmp_path: FilePath) -> None:
    database = postgres.new_database()
    with grown(database, small_tasks(tmp_path), QUICK):
        pass
    with serving(database) as plain:
        expected = {task: asked(plain.url, task) for task in TASKS}
    assert None not in expected.values()
    with cluster() as own:
        machines = [own.add(cores=1) for _ in range(2)]
        with replicated(database, "--replicas", 2, "--ray-address", own.address, port=free_port()) as server:
            assert [len(_replicas_on(own, machine)) for machine in machines] == [1, 1]
            answers = Answers(server.url, expected)
            with answers:
                answers.wait_for(40)
                _lose(own, machines[0])
                answers.wait_for(40)
            assert answers.wrong == 0
            own.add(cores=1)
            eventually(lambda: len(_replicas_on(own, own.nodes[-1].node_id)) == 1, seconds=START_SECONDS)
            eventually(lambda: asked(server.url, "high") == expected["high"], seconds=60)
            assert server.stop() == 0
    postgres.drop(database)


class Answers:
    """Clients that ask for as long as the block lasts, each question until it is answered."""

    def __init__(self, url: str, expected: dict[str, bytes | None]) -> None:
        self._url, self._expected = url, expected
        self.right = self.wrong = self.again = 0
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> "Answers":
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        for client in self._clients:
            client.join()

    def wait_for(self, more: int) -> None:
        """Until so many more have been answered."""
        before = self.right + self.wrong
        eventually(lambda: self.right + self.wrong >= before + more, seconds=120)

    def _ask(self) -> None:
        while not self._ends.is_set():
            for task, expected in self._expected.items():
                found = asked(self._url, task)
                while found is None and not self._ends.is_set():
                    with self._lock:
                        self.again += 1
                    found = asked(self._url, task)
                with self._lock:
                    self.right += found == expected
                    self.wrong += found not in (expected, None)


def _answering(text: str) -> None:
    """Deploy an application of somebody else's that says a text, at the path of that name."""

    @serve.deployment
    class Answering:
        def __call__(self, request: object) -> str:
            return text

    application: Any = Answering
    serve.run(application.bind(), name=text, route_prefix=f"/{text}")


def _ids(files: Sequence[FilePath]) -> set[str | None]:
    """The requests that these logs tell of."""
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return {line.get("request_id") for line in lines}


def _raylet(own: Cluster, machine: str) -> int:
    (node,) = (node for node in own.nodes if node.node_id == machine)
    (raylet,) = node.all_processes["raylet"]
    return raylet.process.pid


def _lose(own: Cluster, machine: str) -> None:
    """kill -9 of everything on a machine, as when its power fails: its replica and its proxy, too."""
    everything = below(_raylet(own, machine))
    own.kill(machine)
    for pid in everything:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not everything.keys() & processes().keys())


def _replicas_on(own: Cluster, machine: str) -> list[int]:
    return replicas_below(_raylet(own, machine))
