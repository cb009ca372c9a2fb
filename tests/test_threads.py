"""XLA threads of the processes that train: a setting of the run, which decides who has how many cores."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from growing import SMALL, digits_file, grown, small_store, small_tasks
from hypothesis import given
from hypothesis import strategies as st
from shelves import Shelf, works
from tiny import stripes, world

from mutant.outcome import Trained
from mutant.search import ray_places
from mutant.search.config import RunConfig, Settings, settings_of
from mutant.search.growth import Engine, begin, check_gangs, configure, working
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_team import pinned_cores
from mutant.search.system import System
from mutant.search.workers import Terms, choose_workers
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

ONE = replace(SMALL, children=1, generation_size=1)


@given(workers=st.integers(1, 20), threads=st.integers(1, 20))
def test_workers_have_cores_of_their_own_or_none(workers: int, threads: int) -> None:
    here = os.sched_getaffinity(0)
    found = pinned_cores(workers, threads)
    assert len(found) == workers
    taken = [core for cores in found for core in cores]
    assert len(taken) in (0, workers * threads)
    assert {*taken} <= here
    assert len({*taken}) == len(taken)


def test_as_many_workers_as_there_are_cores_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutant.search.workers.cores", lambda: 8)
    monkeypatch.setattr("mutant.search.workers.accelerators", lambda: 0)
    asked = {threads: choose_workers("auto", 1e15, threads=threads) for threads in (1, 2, 3, 8, 9)}
    assert {threads: crew.workers for threads, crew in asked.items()} == {1: 8, 2: 4, 3: 2, 8: 1, 9: 1}
    assert "2 cores each" in asked[2].reason
    assert "with 8 threads" in asked[8].reason
    assert choose_workers("auto", 1e15, gang=2, threads=2).workers == 4
    assert choose_workers("3", 1e15, threads=4).workers == 3
    assert "4 cores" in choose_workers("auto", 1e15, address="head:6379", threads=4).reason


def test_threads_are_kept_with_the_run(tmp_path: Path) -> None:
    with small_store(tmp_path / "m.db") as store:
        one, four = (configure(store, ("low",), Settings(threads=threads)) for threads in (None, 4))
        assert (one.threads, four.threads) == (1, 4)
        assert "threads" not in one.to_dict(), "a run of one thread means what it meant before there was a choice"
        assert RunConfig.from_dict(one.to_dict()) == one
        assert RunConfig.from_dict(four.to_dict()) == four
        assert settings_of(four).threads == 4
        for bad in (0, 1025, -1):
            with pytest.raises(UserError, match=r"threads = -?[0-9]+ in the settings is out of range"):
                configure(store, ("low",), Settings(threads=bad))
        shared = Engine(address="head:6379", share=1.0)
        with pytest.raises(UserError, match="turns at single cores, and a worker here has 4 threads"):
            check_gangs(store, ("low",), Settings(threads=4), shared)


def test_a_process_whose_jax_runs_keeps_its_threads_and_says_so(tmp_path: Path) -> None:
    import jax

    jax.devices()
    settings = replace(ONE, threads=2)
    with (
        pytest.raises(UserError, match="JAX runs in this process already") as told,
        grown(tmp_path / "m.db", small_tasks(tmp_path), settings),
    ):
        pass
    assert "NPROC=2" in (told.value.hint or "")


def test_threads_that_cannot_be_had_are_told_before_a_run_begins(tmp_path: Path) -> None:
    import jax

    jax.devices()
    tasks = [*small_tasks(tmp_path).values()]
    with small_store(tmp_path / "m.db") as store:
        for workers in ("1", "auto"):
            with pytest.raises(UserError, match="JAX runs in this process already"):
                System(store).add_loaded(tasks, settings=replace(ONE, threads=2), engine=Engine(workers=workers))
        assert not store.runs()
        assert not store.tasks()


def test_a_run_of_several_threads_takes_no_turns_when_it_is_resumed(tmp_path: Path) -> None:
    tasks = small_tasks(tmp_path)
    with small_store(tmp_path / "m.db") as store:
        new = [task.task for task in tasks.values()]
        run = begin(store, tuple(tasks), replace(ONE, threads=4), new=new, baseline=False)
        with (
            pytest.raises(UserError, match="turns at single cores, and a worker here has 4 threads"),
            working(store, run, tasks, Engine(address="head:6379", share=1.0)),
        ):
            pass


def test_places_of_several_cores_lie_on_one_machine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_places, "machines", lambda: {"a": {"CPU": 3.0}, "b": {"CPU": 3.0, "GPU": 1.0}})
    monkeypatch.setattr(ray_places.ray, "available_resources", lambda: {"CPU": 6.0, "GPU": 1.0})
    assert [ray_places.free("CPU", threads) for threads in (1, 2, 3, 4)] == [6, 2, 2, 0]
    assert ray_places.free("GPU", 2) == 1
    monkeypatch.setattr(ray_places.ray, "available_resources", lambda: {"CPU": 3.0})
    assert [ray_places.free("CPU", threads) for threads in (1, 2)] == [3, 1]
    assert ray_places.free("GPU") == 0


@pytest.mark.slow
def test_a_run_with_two_threads_is_verified_with_one(tmp_path: Path) -> None:
    """By the command: trained with two threads; answers do not depend on how many there are."""
    url = str(tmp_path / "m.db")
    with small_store(tmp_path / "m.db"):
        pass
    uri = f"arrays:{digits_file(tmp_path, (0, 1, 2))}"
    words = ["add", uri, "--name", "low", "--threads", "2", "--workers", "1", "--children", "2"]
    mutant(url, *words)
    with Store.open(url, read_only=True) as store:
        (run,) = store.runs()
        best = store.best("low")
        assert run.config["threads"] == 2
        assert best is not None
        golden = store.golden(best.id)
        assert golden is not None
        assert ", 2 thread(s)" in golden.backend
    assert re.search("identical|1 of 1", mutant(url, "verify"))


def mutant(url: str, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    command = [sys.executable, "-m", "mutant.cli.main", "--db", url, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_has_a_core_for_each_thread() -> None:
    here = world()
    evaluator = RayEvaluator(1, terms=Terms(threads=2))
    try:
        (pid,) = evaluator.pids
        assert b"NPROC=2" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if len(os.sched_getaffinity(0)) >= 2:
            assert len(os.sched_getaffinity(pid)) == 2
        first, again = (dict(evaluator.train(works(here, [[]]), Shelf(here, stripes())))[0] for _ in range(2))
    finally:
        evaluator.close()
    assert isinstance(first, Trained)
    assert isinstance(again, Trained)
    assert first.path.version == again.path.version
