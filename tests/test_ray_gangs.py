"""Gangs on real Ray: the same bytes each time, a member's death costs the child's time alone, and no two deadlock."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray
from growing import SMALL, digits_file, go_on, grown, meaning, small_store, small_tasks
from shelves import trained_at_once
from sqlalchemy import select

from mutant.search.config import Settings, settings_from
from mutant.search.growth import Engine, begin, check_gangs
from mutant.search.progress import ChildFinished, Progress
from mutant.search.ray_gangs import GangEvaluator
from mutant.search.workers import Gangs
from mutant.storage.schema_work import WorkerRow
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask

GANG = replace(SMALL, children=1, gang=2)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, LoadedTask]:
    low, *_ = small_tasks(tmp_path_factory.mktemp("data")).items()
    return dict([low])


def members() -> list[int]:
    """Process ids of the gang members that live and come from this process: tests run side by side."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"ray::GangWorker") and os.getpid() in ancestors(int(entry.name)):
                found.append(int(entry.name))
    return found


def ancestors(pid: int) -> list[int]:
    """The process's parent, its parent, and so on, as far as they live."""
    found: list[int] = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_by_gangs_ends_the_same_though_a_member_is_killed(
    tasks: Mapping[str, LoadedTask], tmp_path: Path
) -> None:
    with grown(tmp_path / "alone.db", tasks, replace(GANG, gang=1)) as store:
        (alone,) = (store.best(name) for name in tasks)
    with grown(tmp_path / "a.db", tasks, GANG, workers="2") as store:
        (together,), first = (store.best(name) for name in tasks), meaning(store)
    assert alone is not None
    assert together is not None
    assert together.quality == pytest.approx(alone.quality, abs=0.1)
    assert together.mutations == alone.mutations
    assert not members(), "a gang is gone with its child"

    killed: list[int] = []

    def strike() -> None:
        while not killed:
            for pid in members()[-1:]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.02)

    with small_store(tmp_path / "b.db") as store:
        begin(store, tuple(tasks), GANG, new=[task.task for task in tasks.values()])
        thread = threading.Thread(target=strike)
        thread.start()
        heard: list[Progress] = []
        go_on(store, tasks, workers="2", listener=heard.append)
        thread.join()
        assert killed
        assert all(event.outcome.cost.examples for event in heard if isinstance(event, ChildFinished))
        with store.reading() as connection:
            ((name, device),) = connection.execute(select(WorkerRow.name, WorkerRow.device)).all()
        assert name == "gang 0"
        assert (device or "").startswith("2 x "), "what all its members compute on"
        assert meaning(store) == first


@pytest.mark.lengthy
@pytest.mark.timeout(600)
def test_two_controllers_with_gangs_on_scarce_places_never_wait_for_each_other() -> None:
    """Four places, two controllers that want two gangs of three each: all or none is reserved, so all get through."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        gangs = partial(GangEvaluator, None, Gangs(3))
        assert trained_at_once({"one": gangs, "other": gangs}) == {"one": 2, "other": 2}
    finally:
        ray.shutdown()


def test_bad_gangs_are_told_before_a_run_begins(tasks: Mapping[str, LoadedTask], tmp_path: Path) -> None:
    with small_store(tmp_path / "m.db") as store:
        with pytest.raises(UserError, match="gang of 2 has no place among 1 worker") as told:
            check_gangs(store, tuple(tasks), GANG, Engine(workers="1"))
        assert told.value.hint == "Give it more: --workers 2"
        with pytest.raises(UserError, match="trains end to end"):
            check_gangs(store, tuple(tasks), replace(GANG, backprop="local"), Engine(workers="2"))
        with pytest.raises(UserError, match="nobody to divide"):
            check_gangs(store, tuple(tasks), Settings(sharded=True), Engine(workers="2"))
        with pytest.raises(UserError, match="shares a child's groups"):
            check_gangs(store, tuple(tasks), GANG, Engine(workers="2", pipeline=True))
    with pytest.raises(UserError, match="out of range"):
        settings_from({"gang": 0}, where="a test")


ADD = """
import sys
from mutant.cli.main import main
sys.argv = ["mutant", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
assert "jax" not in sys.modules and "jaxlib" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("gang", [pytest.param("1", id="alone"), pytest.param("2", marks=pytest.mark.lengthy)])
def test_a_controller_on_ray_needs_no_jax_of_its_own(gang: str, tmp_path: Path) -> None:
    """The command as users run it: a task added, its path tested and its golden outputs kept."""
    with small_store(tmp_path / "m.db"):
        pass
    words = ["add", f"arrays:{digits_file(tmp_path, (0, 1, 2))}", "--db", str(tmp_path / "m.db"), "--children", "1"]
    done = subprocess.run(
        [sys.executable, "-c", ADD, *words, "--workers", "2", "--gang", gang],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
