"""Kill anything at any moment, resume, and the database means the same as that of a run that nobody touched.

`pytest -m chaos` strikes at 20 random moments of each kind; `--chaos-points N` and `--chaos-seed N` set how often and
at which moments.
"""

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from chaos import (
    SETTINGS,
    Strike,
    begun,
    controller,
    fall_asleep,
    interrupt,
    kill_controller,
    kill_worker,
    stand_still,
    stop_server,
    struck,
)
from growing import meaning, small_tasks
from places import beside
from postgres_server import Server, programs, serving

from mutant.network import predict_logits
from mutant.search.system import System
from mutant.storage.store import Store
from mutant.storage.sweep import Loose, survey
from mutant.storage.verify import verify
from mutant.tasks.load import LoadedTask

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(1800)]

SERIAL_AND_LENGTHY_RAY = [pytest.param(1, id="serial"), pytest.param(2, id="ray", marks=pytest.mark.lengthy)]
"""With Ray where a controller and a worker are killed is enough for every day."""
SQLITE_AND_LENGTHY_POSTGRESQL = ["sqlite", pytest.param("postgresql", marks=pytest.mark.lengthy)]

Tasks = dict[str, LoadedTask]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    return small_tasks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tasks: Tasks) -> str:
    """The digest of a run that nobody touched."""
    url = str(tmp_path_factory.mktemp("undisturbed") / "m.db")
    begun(url, tasks)
    with controller(url, 1) as alone:
        assert alone.finish() == 0, alone.lines
    with Store.open(url, read_only=True) as store:
        return meaning(store)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that tests may kill."""
    if programs() is None:
        pytest.skip("needs a PostgreSQL server, and its wheel is not built for this platform")
    with serving() as own:
        yield own


@pytest.fixture
def new_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    if backend == "postgresql":
        return request.getfixturevalue("server").new_database
    numbers = count()
    if backend == "sqlite+blobs":
        return lambda: beside(made(tmp_path / f"system_{next(numbers)}"))
    return lambda: str(tmp_path / f"mutant_{next(numbers)}.db")


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.fixture
def survives(
    new_url: Callable[[], str], tasks: Tasks, undisturbed: str, request: pytest.FixtureRequest
) -> Callable[[Strike, int], None]:
    """Runs are struck until there were enough strikes; each must end with the digest of the undisturbed one."""
    points: int = request.config.option.chaos_points
    seed: str = request.config.option.chaos_seed

    def check(strike: Strike, workers: int) -> None:
        strikes, rng = 0, random.Random(f"{seed} {request.node.name}")
        while strikes < points:
            url = new_url()
            begun(url, tasks)
            strikes += struck(url, workers, strike, points - strikes, rng)
            with Store.open(url, read_only=True) as store:
                assert meaning(store) == undisturbed
                assert verify(store, predict_logits).ok
                with store.reading() as connection:
                    assert survey(connection) == Loose()

    return check


@pytest.mark.parametrize(
    ("backend", "workers"),
    [
        ("sqlite", 1),
        ("sqlite", 2),
        ("postgresql", 1),
        pytest.param("postgresql", 2, marks=pytest.mark.lengthy),
        ("sqlite+blobs", 1),
        pytest.param("sqlite+blobs", 2, marks=pytest.mark.lengthy),
    ],
)
def test_a_controller_that_is_killed(survives: Callable[[Strike, int], None], workers: int) -> None:
    """Where all weights lie in blobs, also while one is written; the next to take the lease sweeps what is loose."""
    survives(kill_controller, workers)


@pytest.mark.parametrize("workers", [1, 2], ids=["serial", "ray"])
def test_a_controller_without_generations_that_is_killed(
    tmp_path: Path, tasks: Tasks, request: pytest.FixtureRequest, workers: int
) -> None:
    """With one worker the digest is the undisturbed one; with more, the log gives every child again."""
    points: int = request.config.option.chaos_points
    rng = random.Random(f"{request.config.option.chaos_seed} {request.node.name}")
    settings, digests, strikes, number = replace(SETTINGS, asynchronous=True, halving=2), set[str](), 0, 0
    while strikes < points or not number:
        number += 1
        url = str(tmp_path / f"{number}.db")
        begun(url, tasks, settings)
        strikes += struck(url, workers, kill_controller, points - strikes, rng) if number > 1 or workers > 1 else 0
        with controller(url, workers) as alone:  # the first with one worker; the others are finished
            assert alone.finish() in (0, 2), alone.lines
        with System.open(url, read_only=True) as system:
            digests.add(meaning(system.store))
            assert all(len(system.store.candidates(segment.key)) == 10 for segment in system.store.run(1).segments)
            assert system.verify(everything=True).ok
            (again,) = system.replay()
            assert again.ok, again
            assert again.children == 20
    assert len(digests) == 1 or workers > 1


@pytest.mark.parametrize("backend", SQLITE_AND_LENGTHY_POSTGRESQL)
def test_a_worker_that_is_killed(survives: Callable[[Strike, int], None]) -> None:
    survives(kill_worker, 2)


@pytest.mark.parametrize("workers", SERIAL_AND_LENGTHY_RAY)
@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_database_server_that_is_killed(
    survives: Callable[[Strike, int], None], server: Server, workers: int
) -> None:
    survives(stop_server(server), workers)


@pytest.mark.parametrize("workers", SERIAL_AND_LENGTHY_RAY)
@pytest.mark.parametrize("backend", SQLITE_AND_LENGTHY_POSTGRESQL)
def test_a_controller_that_is_asked_to_stop(survives: Callable[[Strike, int], None], workers: int) -> None:
    survives(interrupt, workers)


@pytest.mark.parametrize("workers", SERIAL_AND_LENGTHY_RAY)
@pytest.mark.parametrize("backend", SQLITE_AND_LENGTHY_POSTGRESQL)
def test_a_machine_that_sleeps(survives: Callable[[Strike, int], None], workers: int) -> None:
    survives(fall_asleep, workers)


@pytest.mark.lengthy
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_machine_that_sleeps_too_long_is_followed(new_url: Callable[[], str], tasks: Tasks, undisturbed: str) -> None:
    """Three controllers of one run: the second meets the first at work, the third takes over while that one sleeps."""
    url, expiry = new_url(), 4.0
    begun(url, tasks)
    with controller(url, 1, expiry=expiry) as first:
        assert first.wait_for(lambda: any("Segment" in line for line in first.lines))
        holder = f"process {first.process.pid} on "
        stand_still(first)  # so that it has not finished when the second has started
        with controller(url, 1, expiry=expiry) as second:
            assert second.wait_for(lambda: any(f"Waiting to hear from {holder}" in line for line in second.lines))
            first.process.send_signal(signal.SIGCONT)
            assert second.wait_for(lambda: any("Another process works on this" in line for line in second.lines))
            stand_still(first)
            assert second.finish() == 2
        assert any("Another process works on this" in line and holder in line for line in second.lines), second.lines
        with controller(url, 1, expiry=expiry) as third:
            assert third.finish() == 0, third.lines
        assert any(holder in line and f"silent for {expiry:g} s: taking over" in line for line in third.lines)
        first.process.send_signal(signal.SIGCONT)
        assert first.finish() == 2, first.lines
    told = " ".join(first.lines)
    assert "its work was taken over" in told
    assert "Traceback" not in told
    assert "Internal error" not in told
    with Store.open(url, read_only=True) as store:
        assert meaning(store) == undisturbed
        assert verify(store, predict_logits).ok
