"""Everything is compiled before the server says that it is ready: no request ever waits for a compiler."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import jax
import numpy as np
import pytest
from served import PNG, TASKS, Running, grow_two, infer_body, running

MOST_ROWS = 40
"""More than two of the largest shape, so that batches come in every shape, whole, padded and in parts."""
PIXELS = np.random.default_rng(6).integers(0, 256, (MOST_ROWS, 8, 8, 3), dtype=np.uint8)


@contextmanager
def compiling() -> Iterator[list[str]]:
    """What JAX traces, lowers and compiles meanwhile, in any thread of this process."""
    heard: list[str] = []

    def hear(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            heard.append(event)

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        yield heard
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


def ask(here: Running, task: str, rows: int) -> None:
    outputs = ("logits", "probabilities", "label")
    found = here.client.post(f"/v2/models/{task}/infer", json=infer_body(PIXELS[:rows], outputs))
    assert found.status_code == 200, found.text


def test_nothing_is_compiled_once_it_is_ready(database: FilePath) -> None:
    jax.clear_caches()  # what other tests compiled in this process
    with compiling() as before, running(database) as here:
        assert "/jax/core/compile/backend_compile_duration" in before
        with compiling() as heard:
            for rows in range(1, MOST_ROWS + 1):
                for task in TASKS:
                    ask(here, task, rows)
            with ThreadPoolExecutor(6) as pool:  # batches of both tasks together
                mixed = [(task, rows) for rows in range(1, MOST_ROWS + 1) for task in TASKS]
                list(pool.map(lambda one: ask(here, *one), mixed))
            assert here.client.post("/predict", params={"tasks": "all"}, content=PNG).status_code == 200
        assert heard == []
