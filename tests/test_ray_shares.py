"""Two runs that share a real Ray cluster by weight: their traces show it, and both end as they do alone."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from cli_calls import done, refused
from growing import digits_file, meaning, small_store
from several import Cluster, cluster
from shelves import trained_at_once

from mutant.search.config import Settings
from mutant.search.growth import Engine, begin, check_workers
from mutant.search.ray_gangs import GangEvaluator
from mutant.search.workers import Gangs, Terms
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask, load

LONG = Settings(
    children=40, generation_size=40, validations=400, examples_per_validation=64, batch=16, reach=1, seed=3
)  # fmt: skip
"""One generation of children of half a second or so."""


@pytest.fixture(scope="module")
def two_places() -> Iterator[Cluster]:
    with cluster() as own:
        own.add(cores=2)
        yield own


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedTask]:
    file = digits_file(tmp_path_factory.mktemp("data"), (0, 1, 2))
    return {"low": load(f"arrays:{file}", name="low")}


def resume(file: Path, address: str, share: str) -> subprocess.Popen[str]:
    """`mutant resume` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mutant.cli.main", "--db", str(file), "resume", "--ray-address", address,
         "--share", share],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"RAY_worker_niceness": "0"},
    )  # fmt: skip


def begun(file: Path, task: dict[str, LoadedTask]) -> Path:
    with small_store(file) as store:
        begin(store, tuple(task), LONG, new=[each.task for each in task.values()])
    return file


def digest(file: Path) -> str:
    with Store.open(str(file), read_only=True) as store:
        return meaning(store)


def children(file: Path) -> list[tuple[float, float]]:
    """When each child began and ended, in seconds, as `mutant report trace` writes it."""
    trace = file.with_suffix(".json")
    command = [sys.executable, "-m", "mutant.cli.main", "--db", str(file), "report", "trace", "--out", str(trace)]
    subprocess.run(command, check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return sorted(
        (event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6) for event in found if event.get("cat") == "child"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_runs_of_weights_one_and_three_get_one_to_three_of_the_device_time(
    two_places: Cluster, task: dict[str, LoadedTask], tmp_path: Path
) -> None:
    files = {share: begun(tmp_path / f"{share}.db", task) for share in ("1", "3")}
    processes = {share: resume(file, two_places.address, share) for share, file in files.items()}
    for process in processes.values():
        told, _ = process.communicate(timeout=500)
        assert process.returncode == 0, told
    spans = {share: children(file) for share, file in files.items()}
    # While both had children to train: from the second one's first child until the first one's last.
    start = max(own[0][0] for own in spans.values())
    end = min(max(end for _, end in own) for own in spans.values())
    seconds = {
        share: sum(max(0.0, min(until, end) - max(since, start)) for since, until in own)
        for share, own in spans.items()
    }
    # No closer than a child on each of the two places: the first ones compile, and take four times as long.
    total, longest = sum(seconds.values()), max(until - since for own in spans.values() for since, until in own)
    assert seconds["3"] == pytest.approx(0.75 * total, abs=2 * longest), (seconds, longest, end - start)
    assert seconds["3"] > 2.0 * seconds["1"], (seconds, longest, end - start)
    assert total > 0.7 * 2 * (end - start), "both places are busy"
    assert digest(files["1"]) == digest(files["3"]), "what is trained does not depend on when"


@pytest.mark.lengthy
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_leaves_its_places_to_the_other(
    two_places: Cluster, task: dict[str, LoadedTask], tmp_path: Path
) -> None:
    """The one that came first owns the arbiter, too."""
    first, other = (begun(tmp_path / f"{name}.db", task) for name in ("first", "other"))
    killed = resume(first, two_places.address, "10")
    seen = False
    for line in killed.stdout or ():
        if seen := "low" in line and "1" in line:
            break
    assert seen
    process = resume(other, two_places.address, "1")
    timer = threading.Timer(20.0, os.kill, (killed.pid, signal.SIGKILL))
    timer.start()
    told, _ = process.communicate(timeout=500)
    timer.cancel()
    killed.kill()
    killed.communicate()
    assert process.returncode == 0, told
    done("--db", first, "resume", "--workers", "1")
    assert digest(first) == digest(other)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gangs_of_two_controllers_take_turns_on_scarce_places(two_places: Cluster) -> None:
    """Each gang takes both places; two controllers of different weights interleave, and all get through."""
    ray.init(address=two_places.address, log_to_driver=False)
    try:
        gangs = {
            name: partial(GangEvaluator, None, Gangs(2), terms=Terms(two_places.address, share=share))
            for name, share in (("one", 1.0), ("other", 3.0))
        }
        assert trained_at_once(gangs) == {"one": 2, "other": 2}
    finally:
        ray.shutdown()


def test_a_share_needs_a_cluster_and_a_weight(task: dict[str, LoadedTask], tmp_path: Path) -> None:
    for engine, words in (
        (Engine(share=1.0), "for a Ray cluster"),
        (Engine(share=0.0, address="auto"), "above 0, not 0"),
        (Engine(share=float("nan"), address="auto"), "above 0, not nan"),
        (Engine(share=1.0, address="auto", pipeline=True), "keeps its workers for itself"),
    ):
        with pytest.raises(UserError, match=words):
            check_workers(engine)
    file = begun(tmp_path / "m.db", task)
    for command in (["add", "sample:digits"], ["evolve"], ["resume"], ["baseline", "low"]):
        assert "--ray-address" in refused("--db", file, *command, "--share", "2"), command
