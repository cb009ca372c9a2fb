"""Several processes on one host's activations: they share the work, and one that is killed leaves nothing half done."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.homes import home_of, run_home
from mutant.activations.limits import CacheLimits
from mutant.network import on_device, run_in_batches
from mutant.prefix import Prefix

pytestmark = pytest.mark.slow
LENGTH, ROWS = 5, 1_500
LIMITS = CacheLimits(1 << 22, 1 << 22)

OTHER = """
import os, signal, sys
import numpy as np
import test_activations_processes as here
import mutant.activations.node as node
from mutant.activations.cache import ActivationCache
from mutant.activations.homes import home_of

how, seed = sys.argv[1], int(sys.argv[2])
writes = 0
write = node._write_all

def deadly(*given):
    global writes
    writes += 1
    if writes == {"before the rows": 3, "stops": 3, "before the flags": 4}[how]:
        os.kill(os.getpid(), signal.SIGSTOP if how == "stops" else signal.SIGKILL)
    write(*given)

if how != "to the end":
    node._write_all = deadly
cache = ActivationCache(here.LIMITS, home_of("run"))
source = here.source_of(cache)
print("ready", flush=True)
sys.stdin.readline()
rows = np.random.default_rng(seed).permutation(here.ROWS) if seed else np.arange(here.ROWS)
taken = source.take(rows)
print(cache.computed_rows, cache.reused_rows, np.array_equal(taken, here.truth()[rows]), flush=True)
"""


def source_of(cache, length=LENGTH):
    here = world()
    return cache.source(_prefix(here, length), here.components, stripes(ROWS).train)


def truth():
    here = world()
    below = _prefix(here, LENGTH)
    arrays = on_device([here.components[digest].arrays for digest in below.digests])
    return run_in_batches(below.chain, arrays, stripes(ROWS).train.images)


def _prefix(here, length):
    parts = here.root.parts[:length]
    return Prefix(tuple(part.spec for part in parts), tuple(part.digest for part in parts))


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts another process, which waits at the line "ready"."""
    monkeypatch.setenv("MUTANT_CACHE", str(tmp_path / "cache"))
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    started = []

    def one(how, seed):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, how, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def go(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_fill_one_node_together_and_compute_no_row_twice(start):
    with run_home("run"):
        processes = [start("to the end", seed) for seed in (0, 1, 2)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.stdout.readline().split() for process in processes]
        assert [words[2] for words in told] == ["True"] * 3
        assert sum(int(words[0]) for words in told) == ROWS
        for process in processes:
            assert process.wait() == 0
        cache = ActivationCache(LIMITS, home_of("run"))
        assert source_of(cache).take(np.arange(ROWS)).tobytes() == truth().tobytes()
        assert cache.computed_rows == 0
        cache.close()


@pytest.mark.parametrize("how", ["before the rows", "before the flags"])
def test_a_process_that_is_killed_leaves_rows_that_are_whole_or_not_there(start, how):
    with run_home("run"):
        cache = ActivationCache(LIMITS, home_of("run"))
        source = source_of(cache)
        process = start(how, 0)
        go(process)
        assert process.wait() == -signal.SIGKILL
        assert source.take(np.arange(ROWS)).tobytes() == truth().tobytes()
        assert cache.reused_rows == 256, "its first block"
        assert cache.computed_rows == ROWS - 256
        cache.close()
    assert not home_of("run").exists()


def test_who_waits_for_rows_of_a_process_that_is_killed_computes_them(start):
    with run_home("run"):
        cache = ActivationCache(LIMITS, home_of("run"))
        source = source_of(cache)
        process = start("stops", 0)
        go(process)
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        threading.Timer(1.0, process.kill).start()
        began = time.monotonic()
        assert source.take(np.arange(ROWS)).tobytes() == truth().tobytes()
        assert time.monotonic() - began > 0.5, "the rows that it had claimed were awaited"
        assert cache.computed_rows == ROWS - 256
        cache.close()
