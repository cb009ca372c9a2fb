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
    rows = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parents = {int(row.split()[0]): int(row.split()[1]) for row in rows[1:]}

    def below(pid: int) -> bool:
        return pid == parent or (pid in parents and pid > 1 and below(parents[pid]))

    return [int(row.split()[0]) for row in rows[1:] if "ServeReplica:mutant" in row and below(int(row.split()[0]))]
