"""The evaluator on several machines: raylets that are killed and that join while children train; kinds of workers."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle
from growing import digits_file, grown, meaning, small_store, small_tasks
from hosts import possible
from several import Cluster, cluster
from shelves import Shelf, works
from tiny import stripes, world

from mutant.activations.homes import private_name
from mutant.activations.limits import OFF
from mutant.component import Component, Spec
from mutant.mutation import SetHyperparameter
from mutant.outcome import Trained
from mutant.search.config import Settings
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, working
from mutant.search.progress import ChildFinished
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_gangs import GangEvaluator
from mutant.search.ray_worker import KIND, Worker
from mutant.search.watchdog import inhabitants
from mutant.search.workers import Gangs, Terms
from mutant.storage.store import Store
from mutant.tasks.load import LoadedTask

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not see the tests' folder

LONG = Settings(children=12, generation_size=6, validations=800, examples_per_validation=64, batch=16, reach=1)
"""Children of a second or two, so that machines come and go while they train."""


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    with cluster() as own:
        yield own


@pytest.fixture
def few(machines: Cluster) -> Iterator[Cluster]:
    """The cluster without a machine but its head, as it is again after the test."""
    yield machines
    machines.clear()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedTask]:
    tasks = small_tasks(tmp_path_factory.mktemp("data"))
    return {"low": tasks["low"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, task: dict[str, LoadedTask]) -> str:
    """The digest of a run in one process."""
    with grown(tmp_path_factory.mktemp("undisturbed") / "m.db", task, LONG) as store:
        return meaning(store)


@pytest.mark.parametrize("workers", ["auto", "3"])
def test_a_machine_that_is_killed_and_one_that_joins_change_no_bit(
    few: Cluster, tmp_path: Path, task: dict[str, LoadedTask], workers: str, request: pytest.FixtureRequest
) -> None:
    if request.config.option.chaos_points == 1 and (workers != "auto" or possible()):
        pytest.skip("with more strikes: make chaos, and in test_hosts.py")
    undisturbed: str = request.getfixturevalue("undisturbed")
    stays, goes = few.add(), few.add()
    new: list[str] = []
    seen: set[str] = set()
    joining = threading.Thread(target=lambda: new.append(few.add()))
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, tuple(task), LONG, new=[each.task for each in task.values()])

        def strike(event: object) -> None:
            if not isinstance(event, ChildFinished):
                return
            assert isinstance(search.evaluator, RayEvaluator)
            seen.update(about.node for about in search.evaluator.present.values())
            if not joining.ident:
                few.kill(goes)
                joining.start()

        with working(store, run, task, Engine(workers, few.address, listener=strike)) as search:
            evolve(search)
        joining.join()
        records = store.candidates(run.segments[0].key)
        assert meaning(store) == undisturbed
    assert seen == {stays, goes, *new}, "the new machine is used"
    assert max(record.attempt for record in records) == 2, "what the killed machine trained was begun again"
    assert sum(record.attempt > 1 for record in records) <= 2, "and nothing else"


def told_until_one_joins(few: Cluster, make: Callable[..., RayEvaluator | GangEvaluator]) -> list[str]:
    """What an evaluator says that trains a child, to which another machine has to come first."""
    here, told = world(), list[str]()
    joining = threading.Timer(20.0, few.add)
    joining.start()
    evaluator = make(terms=Terms(few.address), told=told.append)
    try:
        (outcome,) = dict(evaluator.train(works(here, [[]]), Shelf(here, stripes()))).values()
    finally:
        evaluator.close()
        joining.join()
    assert isinstance(outcome, Trained)
    return told


def test_a_run_waits_for_the_first_machine(few: Cluster) -> None:
    told = told_until_one_joins(few, partial(RayEvaluator, None))
    assert told == ["The Ray cluster has no core free for a worker: waiting for one."]


@pytest.mark.lengthy
def test_a_gang_waits_for_machines_enough_and_says_so(few: Cluster) -> None:
    few.add()
    told = told_until_one_joins(few, partial(GangEvaluator, None, Gangs(2)))
    assert told == ["A gang waits for 2 free places: the Ray cluster has 1 in all."]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [[], ["--gang", "2"], ["--backprop", "local", "--groups", "2", "--pipeline"]])
def test_nothing_of_a_killed_controller_is_left_on_the_cluster(
    few: Cluster, tmp_path: Path, options: list[str]
) -> None:
    """kill -9 of the controller while a child trains: Ray ends its workers on all machines."""
    few.add(cores=2)
    before, url = {*trainers(few.place)}, str(tmp_path / "m.db")
    with small_store(url):
        pass
    uri = f"arrays:{digits_file(tmp_path, (0, 1, 2))}"
    words = ["add", uri, "--name", "low", "--ray-address", few.address, "--children", "1", *options]
    longer = ["--validations", "500", "--examples-per-validation", "640"]
    command = [sys.executable, "-m", "mutant.cli.main", "--db", url]
    controller = subprocess.Popen([*command, *words, *longer], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: begun_children(url) == 1, 240, lambda: controller.poll() is None)
        until(lambda: bool({*trainers(few.place)} - before), 60, lambda: controller.poll() is None)
        controller.kill()
        controller.wait()
        until(lambda: not {*trainers(few.place)} - before, 120)
    finally:
        controller.kill()
        controller.wait()


def trainers(place: str) -> list[int]:
    """Processes of the cluster that are workers with an actor in them; Ray keeps idle ones for the next to come."""
    found: list[int] = []
    for pid in inhabitants(place):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if words.startswith((b"ray::Worker", b"ray::GangWorker", b"ray::StageWorker")):
                found.append(pid)
    return found


def begun_children(url: str) -> int:
    with Store.open(url, read_only=True) as store:
        runs = store.runs()
        records = store.candidates(runs[0].segments[0].key) if runs else []
        return sum(record.state == "RUNNING" for record in records)


def until(true: Callable[[], bool], seconds: float, lives: Callable[[], bool] = lambda: True) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert lives(), "it has ended"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_expensive_children_begin_on_the_fastest_kind_and_results_do_not_depend_on_it(few: Cluster) -> None:
    here = world()
    fast, slow = (few.add(env_vars={KIND: kind}) for kind in ("fast=1e12", "slow=1e9"))
    edits = [[], [SetHyperparameter("momentum", None)], [SetHyperparameter("nesterov", True)], []]
    work = [replace(item, flops=flops) for item, flops in zip(works(here, edits), (2e9, 4e9, 1e9, 3e9), strict=True)]
    heard: list[tuple[int, str | None]] = []
    evaluator = RayEvaluator(2, terms=Terms(few.address))
    try:
        abouts = evaluator.abouts
        assert {about.node: (about.kind, about.rate) for about in abouts.values()} == {
            fast: ("fast", 1e12),
            slow: ("slow", 1e9),
        }
        outcomes = dict(
            evaluator.train(work, Shelf(here, stripes()), lambda index, who, *_: heard.append((index, who)))
        )
    finally:
        evaluator.close()
    names = {f"worker {slot}": about.kind for slot, about in abouts.items()}
    assert {(index, names[who or ""]) for index, who in heard[:2]} == {(1, "fast"), (2, "slow")}
    alone = dict(InProcessEvaluator().train(work, Shelf(here, stripes())))
    for index, outcome in alone.items():
        other = outcomes[index]
        assert isinstance(outcome, Trained)
        assert isinstance(other, Trained)
        assert other.path.version == outcome.path.version


class Probe(Worker):
    """A worker that tells where in its machine's memory the arrays lie that it was given."""

    def places(self, references: dict[str, object]) -> list[tuple[str, bool, bool]]:
        """(file and offset, writeable, kept) of every array."""
        found, again = self._get(references), self._get(references)
        return [
            (_place(array.ctypes.data), array.flags.writeable, again[digest].arrays[name] is array)
            for digest, component in sorted(found.items())
            for name, array in component.arrays.items()
        ]


def _place(address: int) -> str:
    """Which byte of which mapped file an address is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, _, offset, device, inode, *_ = line.split()
        start, end = (int(number, 16) for number in where.split("-"))
        if start <= address < end:
            return f"{device} {inode} {int(offset, 16) + address - start if inode != '0' else address}"
    raise AssertionError(address)


def test_weights_travel_once_to_a_machine_and_its_workers_share_their_bytes(few: Cluster) -> None:
    few.add(2)
    ray.init(few.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        arrays = {name: np.random.default_rng(0).random((1_000, 500), np.float32) for name in ("kernel", "more")}
        component = Component(Spec.of("adapter", features=1), arrays)
        reference = {component.digest: ray.put(component)}
        probes = [ray.remote(Probe).options(num_cpus=1).remote(None, OFF, private_name()) for _ in range(2)]
        one, other = ray.get([probe.places.remote(reference) for probe in probes])
    finally:
        ray.shutdown()
    assert one == other, "both see the same bytes of the same shared memory"
    assert len(one) == 2
    assert all(place.split()[1] != "0" for place, _, _ in one), "which is a mapped file, not a copy"
    assert all((writeable, kept) == (False, True) for _, writeable, kept in one)
