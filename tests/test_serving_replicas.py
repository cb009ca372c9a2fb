"""Replicas on a real Ray: the same app and the same bits, whichever replica answers, when one is killed, at the end."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path as FilePath

import httpx
import pytest
from replicas import asked, below, is_ready, processes, replicas_below, replicated
from served import PIXELS, eventually, grow_two, infer_body, logits_of

from mutant.serving.access import Gate
from mutant.serving.refusals import Refused
from mutant.serving.settings import ServeSettings


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_replicas_answer_alike_and_one_may_be_killed(database: FilePath, port: int) -> None:
    with replicated(database, "--replicas", 2, port=port) as server:
        expected = logits_of(database, "low", PIXELS[:2]).tobytes()
        ids = [f"question-{number}" for number in range(20)]
        assert {asked(server.url, request_id=id_) for id_ in ids} == {expected}
        eventually(lambda: set(ids) <= {line.get("request_id") for line in server.lines})
        victims = replicas_below(server.process.pid)
        assert len(victims) == 2
        os.kill(victims[0], signal.SIGKILL)
        found = [asked(server.url) for _ in range(50)]
        assert set(found) <= {expected, None}
        eventually(lambda: len(replicas_below(server.process.pid)) == 2, seconds=120)
        eventually(lambda: asked(server.url) == expected, seconds=60)
        assert server.stop() == 0
        assert not is_ready(server.url)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_replicas_answer_what_was_asked_before_the_signal(database: FilePath, port: int) -> None:
    """Each question is half there when the signal comes, and the rest follows when no other is heard any more."""
    body = json.dumps(infer_body(PIXELS[:2])).encode()
    rest = threading.Event()
    answers: list[tuple[int, str]] = []
    with replicated(database, "--replicas", 2, port=port) as server:
        begun = threading.Semaphore(0)

        def halves() -> Iterator[bytes]:
            yield body[:100]
            begun.release()
            rest.wait(60)
            yield body[100:]

        def ask() -> None:
            url, length = f"{server.url}/v2/models/low/infer", {"content-length": str(len(body))}
            found = httpx.post(url, content=halves(), headers=length, timeout=60)
            answers.append((found.status_code, found.text))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            assert all(begun.acquire(timeout=30) for _ in threads)
            assert is_ready(server.url)  # who has heard this has heard what was sent before
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: not is_ready(server.url))
        finally:
            rest.set()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * len(threads), answers
        assert server.process.wait(90) == 0


@pytest.mark.lengthy
@pytest.mark.timeout(600)
def test_killed_replicas_leave_no_ray(database: FilePath, port: int) -> None:
    with replicated(database, "--replicas", 1, port=port) as server:
        family = below(server.process.pid)
        assert any("raylet" in args for args in family.values())
        server.process.kill()
    eventually(lambda: not family.keys() & processes().keys(), seconds=30)


def test_each_of_several_processes_lets_its_share_through() -> None:
    now = 0.0
    gates = [Gate(6.0, lambda: now, processes=3) for _ in range(3)]
    alone = Gate(6.0, lambda: now)

    def through(gate: Gate) -> int:
        return sum(_enters(gate) for _ in range(50))

    assert [through(gate) for gate in gates] == [4, 4, 4]
    assert through(alone) == 12
    now = 1.5
    assert [through(gate) for gate in gates] == [3, 3, 3]
    assert through(alone) == 9
    with pytest.raises(Refused, match="6 requests per second") as refused:
        gates[0].enter({}, "10.0.0.1")
    assert refused.value.headers["Retry-After"] == "1"


def test_a_replica_lets_its_share_through(database: FilePath) -> None:
    replicas = pytest.importorskip("mutant.cli.replicas")
    service = replicas.service_of_replica(str(database), ServeSettings(rate=100.0), 50)
    began = time.monotonic()
    through = sum(_enters(service.gate) for _ in range(100))
    assert 4 <= through <= 4 + 2 * (time.monotonic() - began), "a fiftieth of two seconds' worth, and what was refilled"
    service.close()


def _enters(gate: Gate) -> bool:
    try:
        gate.enter({}, "10.0.0.1")
    except Refused:
        return False
    return True
