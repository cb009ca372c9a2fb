"""`mutant serve --replicas` as a process of its own, and the processes of its replicas."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import httpx
import numpy as np
from served import PIXELS, Process, eventually, heard, infer_body

START_SECONDS = 300
"""Ray starts slowly beside other tests."""


@contextmanager
def replicated(database: FilePath | str, *options: object, port: int, ready_at: str | None = None) -> Iterator[Process]:
    """`mutant serve --replicas` on a port, ready to answer, at another address where so named."""
    command = [sys.executable, "-m", "mutant.cli.main", "serve", "--db", str(database), "--port", str(port)]
    process = subprocess.Popen([*command, *map(str, options)], stderr=subprocess.PIPE, text=True)
    with heard(Process(process, ready_at or f"http://127.0.0.1:{port}")) as here:
        eventually(lambda: _served(here), seconds=START_SECONDS)
        yield here


def texts(server: Process) -> str:
    """What it has said to people."""
    return "".join(line.get("text", "") for line in server.lines)


def _served(server: Process) -> bool:
    assert server.process.poll() is None, server.lines
    return "Serving http" in texts(server) and is_ready(server.url)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def asked(url: str, task: str = "low", *, request_id: str | None = None) -> bytes | None:
    """The logits' bytes, None where the request is to be sent again: the connection broke, or a 5xx."""
    headers = {} if request_id is None else {"x-request-id": request_id}
    try:
        found = httpx.post(f"{url}/v2/models/{task}/infer", json=infer_body(PIXELS[:2]), headers=headers, timeout=60)
    except httpx.TransportError:
        return None
    if found.status_code >= 500:
        return None
    return np.array(found.json()["outputs"][0]["data"], dtype=np.float32).tobytes()


def replicas_below(parent: int) -> list[int]:
    """Processes of replicas below a process."""
    return [pid for pid, args in below(parent).items() if "ServeReplica:mutant" in args]


def processes() -> dict[int, str]:
    """What runs: process ids and their commands."""
    return {pid: args for pid, (_, args) in _table().items() if "<defunct>" not in args}


def below(parent: int) -> dict[int, str]:
    """The processes below a process."""
    table = _table()

    def is_below(pid: int) -> bool:
        above = table[pid][0] if pid in table else 0
        return above == parent or (above > 1 and is_below(above))

    return {pid: args for pid, (_, args) in table.items() if is_below(pid)}


def _table() -> dict[int, tuple[int, str]]:
    rows = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    split = (row.split(None, 2) for row in rows[1:])
    return {int(pid): (int(above), args) for pid, above, args in split}
