"""Servers to measure, each in a process of its own on one core."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.memory import private_bytes


@dataclass(frozen=True)
class Server:
    """A running server: its port, process id, and the seconds it took until it answered."""

    port: int
    pid: int
    seconds: float

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that are its own (Linux)."""
        return private_bytes(self.pid)

    @property
    def processor_seconds(self) -> float:
        """Processor time that it took so far (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def pinned(core: int) -> list[str]:
    """The beginning of a command that keeps it on one core, where there is more than one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "-c", str(cores[core])] if len(cores) > core else []


@contextmanager
def mutant_serve(
    database: Path, *options: str, core: int = 0, cache: Path | None = None, apart: bool = False
) -> Iterator[Server]:
    """`mutant serve` of a database. `cache`: where compiled programs are kept, else where they always are. `apart`:
    every task with all of its weights for itself."""
    program = [str(Path(__file__).parent / "models_apart.py")] if apart else ["-m", "mutant.cli.main"]
    command = [sys.executable, *program, "serve", "--port", "0", "--db", str(database), *options]
    environment = {} if cache is None else {"MUTANT_CACHE": str(cache)}
    with _started(pinned(core) + command, "/v2/health/ready", environment) as server:
        yield server


@contextmanager
def model_per_task(directory: Path, core: int = 0) -> Iterator[Server]:
    """A session of onnxruntime for every `directory/NAME.onnx`, behind FastAPI and uvicorn."""
    command = [sys.executable, str(Path(__file__).parent / "model_per_task.py"), str(directory)]
    with _started(pinned(core) + command, "/ready", {}) as server:
        yield server


@contextmanager
def _started(command: Sequence[str], ready: str, environment: Mapping[str, str]) -> Iterator[Server]:
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if found := re.search(r"http://[^\s:]+:(\d+)", line):
            port = int(found[1])
            break
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below)
    drained = subprocess.Popen(["cat"], stdin=process.stderr, stdout=told)
    try:
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None:
                drained.wait(10)
                told.seek(0)
                raise RuntimeError(f"{command} ended with {process.returncode}: {told.read()[-2000:]}")
            time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(60)
        drained.wait(10)
        process.stderr.close()
        told.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
