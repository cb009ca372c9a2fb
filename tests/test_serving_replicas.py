"""Replicas on a real Ray: the same app and the same bits, whichever replica answers, and when one is killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from served import PIXELS, eventually, grow_two, infer_body, logits_of


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_replicas_answer_alike_and_one_may_be_killed(tmp_path: FilePath) -> None:
    database = grow_two(tmp_path)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mutant.cli.main", "serve", "--replicas", "2", "--db", str(database)]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _ready(url), seconds=200)
            expected = logits_of(database, "low", PIXELS[:2])
            assert {_asked(url) for _ in range(20)} == {expected.tobytes()}
            victims = _replicas(process.pid)
            assert len(victims) == 2
            os.kill(victims[0], signal.SIGKILL)
            found = [_asked(url) for _ in range(50)]
            assert set(found) <= {expected.tobytes(), None}
            eventually(lambda: len(_replicas(process.pid)) == 2, seconds=120)
            eventually(lambda: _asked(url) == expected.tobytes(), seconds=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0
        finally:
            if process.poll() is None:
                process.kill()
    eventually(lambda: not _ready(url))


@pytest.mark.lengthy
@pytest.mark.timeout(400)
def test_killed_replicas_leave_no_ray(tmp_path: FilePath) -> None:
    database = grow_two(tmp_path)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "mutant.cli.main", "serve", "--replicas", "1", "--db", str(database)]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _ready(f"http://127.0.0.1:{port}"), seconds=200)
            family = _below(process.pid)
            assert any("raylet" in args for args in family.values())
        finally:
            process.kill()
    eventually(lambda: not family.keys() & _processes().keys(), seconds=30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _asked(url: str) -> bytes | None:
    """The logits' bytes, None where the connection broke."""
    try:
        found = httpx.post(f"{url}/v2/models/low/infer", json=infer_body(PIXELS[:2]), timeout=60)
    except httpx.TransportError:
        return None
    if found.status_code >= 500:
        return None
    return np.array(found.json()["outputs"][0]["data"], dtype=np.float32).tobytes()


def _replicas(parent: int) -> list[int]:
    """Processes of replicas below a process."""
    return [pid for pid, args in _below(parent).items() if "ServeReplica:mutant" in args]


def _processes() -> dict[int, str]:
    """What runs: process ids and their commands."""
    return {pid: args for pid, (_, args) in _table().items() if "<defunct>" not in args}


def _below(parent: int) -> dict[int, str]:
    """The processes below a process."""
    table = _table()

    def below(pid: int) -> bool:
        above = table[pid][0] if pid in table else 0
        return above == parent or (above > 1 and below(above))

    return {pid: args for pid, (_, args) in table.items() if below(pid)}


def _table() -> dict[int, tuple[int, str]]:
    rows = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    split = (row.split(None, 2) for row in rows[1:])
    return {int(pid): (int(above), args) for pid, above, args in split}
