"""Small grown systems and servers of them: in this process behind a real socket, or the command in its own."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import httpx
import numpy as np
import uvicorn
from growing import grown, small_tasks
from PIL import Image

from mutant.network import predict_logits
from mutant.path import Path
from mutant.search.config import Settings
from mutant.serving.app import build
from mutant.serving.server import configured
from mutant.serving.service import Service
from mutant.serving.settings import ServeSettings
from mutant.storage.store import Store
from mutant.tasks.preprocess import prepare

QUICK = Settings(children=2, generation_size=2, validations=1, examples_per_validation=32, batch=16, reach=2)


def grow_two(directory: FilePath) -> FilePath:
    """A database of two tasks, low and high, on a tiny root."""
    file = directory / "mutant.db"
    with grown(file, small_tasks(directory), QUICK):
        return file


@dataclass
class Running:
    """A server in this process, and a client of it."""

    service: Service
    client: httpx.Client
    url: str


@contextmanager
def running(
    database: FilePath | str, settings: ServeSettings = ServeSettings(refresh=0.1), *, ready: bool = True
) -> Iterator[Running]:
    """A server of `database` behind a real socket, ready, or else only listening."""
    with Store.open(str(database), read_only=True) as store, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        service = Service(store, settings)
        server = uvicorn.Server(configured(build(service), settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                eventually(lambda: service.ready if ready else server.started)
                yield Running(service, client, url)
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Process:
    """`mutant serve` in a process of its own. `lines` are its log so far."""

    process: "subprocess.Popen[str]"
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def stop(self, signal_: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(signal_)
        return self.process.wait(60)


@contextmanager
def serving(database: FilePath | str, *options: str, environment: dict[str, str] | None = None) -> Iterator[Process]:
    """`mutant serve --port 0` in its own process, ready to answer."""
    command = [sys.executable, "-m", "mutant.cli.main", "serve", "--port", "0", "--db", str(database), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    assert process.stderr is not None
    first = process.stderr.readline()
    found = re.search(r"http://\S+", first)
    assert found, first + process.stderr.read()
    with heard(Process(process, found[0])) as here:
        eventually(lambda: _ready(here.url), seconds=120)
        yield here


@contextmanager
def heard(here: Process) -> Iterator[Process]:
    """Note what a process says while the block lasts; it does not outlive the block."""
    process = here.process
    assert process.stderr is not None
    listener = threading.Thread(target=_listen, args=(process.stderr, here.lines))
    listener.start()
    try:
        yield here
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join()
        process.stderr.close()


def _listen(stream: Any, lines: list[dict[str, Any]]) -> None:
    """Note what a server says; what is no JSON is a `text`."""
    lines.extend(json.loads(line) if line.startswith("{") else {"text": line} for line in stream)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def eventually(true: Any, seconds: float = 60.0) -> None:
    """Wait until `true()`; fails when it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def infer_body(images: Any, outputs: Sequence[str] = ("logits",)) -> dict[str, Any]:
    """A request of the Open Inference Protocol with pixels as JSON."""
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": images.reshape(-1).tolist()}
    return {"inputs": [tensor], "outputs": [{"name": name} for name in outputs]}


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


PIXELS = np.random.default_rng(5).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
PNG = encoded(PIXELS[0])
TASKS = ("low", "high")


def best(store: Store, task: str) -> Path:
    """The task's path."""
    found = store.best(task)
    assert found is not None
    return found


def logits_of(database: FilePath, task: str, pixels: np.ndarray) -> np.ndarray:
    """The logits of a task for pixels [n, h, w, 3] of any size, computed without a server."""
    with Store.open(str(database), read_only=True) as store:
        path = best(store, task)
        images = np.stack([prepare(one, path.hyperparameters.image_size) for one in pixels])
        return predict_logits(path, store.components({part.digest for part in path.parts}), images)


def copy_of(database: FilePath, directory: FilePath) -> FilePath:
    """A copy of a database that a test may change, made while nobody writes."""
    with Store.open(str(database)) as store, store.writing():
        copy = directory / "mutant.db"
        copy.write_bytes(database.read_bytes())
    return copy
