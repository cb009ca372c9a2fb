"""A run on hosts with addresses of their own: cables are cut, raylets, hosts and the controller killed, at random
moments; the database ends with the digest of a run in one process."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pytest
from chaos import THROUGH, begun
from growing import meaning, small_tasks
from hosts import Network, network, possible

from mutant.search.config import Settings
from mutant.storage.store import Store
from mutant.tasks.load import LoadedTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.timeout(3_000),
    pytest.mark.skipif(not possible(), reason="needs root, iproute2 and network namespaces"),
]

LONG = Settings(children=12, generation_size=4, validations=250, examples_per_validation=64, batch=16, reach=1)
"""Children of a second or so, so that something happens while they train."""

Tasks = dict[str, LoadedTask]
Strike = Callable[[Network, subprocess.Popen[str], random.Random], None]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    low, *_ = small_tasks(tmp_path_factory.mktemp("data")).items()
    return dict([low])


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("hosts"), 2) as own:
        yield own


def resume(url: str, *options: str, hosts: Network | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mutant.cli.main", "--db", url, "resume", *options]
    environment = os.environ if hosts is None else hosts.environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tasks: Tasks) -> str:
    url = str(tmp_path_factory.mktemp("undisturbed") / "m.db")
    begun(url, tasks, LONG)
    alone = resume(url, "--workers", "1")
    told, _ = alone.communicate()
    assert alone.returncode == 0, told
    with Store.open(url, read_only=True) as store:
        return meaning(store)


def kill_raylet(hosts: Network, _controller: subprocess.Popen[str], rng: random.Random) -> None:
    rng.choice(hosts.hosts).kill_raylet()
    time.sleep(rng.uniform(0, 3))


def kill_host(hosts: Network, _controller: subprocess.Popen[str], rng: random.Random) -> None:
    rng.choice(hosts.hosts).kill()
    time.sleep(rng.uniform(0, 3))


def cut_cable(hosts: Network, _controller: subprocess.Popen[str], rng: random.Random) -> None:
    """For a moment, which nobody may notice, or until the host is taken for dead."""
    host = rng.choice(hosts.hosts)
    host.cut()
    time.sleep(rng.choice((0.3, 1.0, 10.0)))
    host.mend()


def kill_controller(_hosts: Network, controller: subprocess.Popen[str], _rng: random.Random) -> None:
    controller.kill()


def kill_head(hosts: Network, controller: subprocess.Popen[str], _rng: random.Random) -> None:
    """The machine with Ray's own records: Ray ends the controller after a minute, and the cluster is started anew."""
    hosts.head.kill()
    controller.wait(180)
    for host in hosts.hosts:
        host.kill()
    hosts.start_head()
    time.sleep(1)


STRIKES: tuple[Strike, ...] = kill_raylet, cut_cable, kill_controller, kill_host


def test_strikes_at_random_moments_change_no_bit(
    hosts: Network, tasks: Tasks, undisturbed: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    points: int = request.config.option.chaos_points
    rng = random.Random(f"{request.config.option.chaos_seed} {request.node.name}")
    strikes, struck, number = cycle(STRIKES if points == 1 else (*STRIKES, kill_head)), 0, 0
    wanted = len(STRIKES) if points == 1 else points
    while struck < wanted:
        number += 1
        url = str(tmp_path / f"{number}.db")
        begun(url, tasks, LONG)
        controller = resume(url, "--ray-address", hosts.address, hosts=hosts)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    told, _ = controller.communicate(timeout=rng.uniform(4, 14))
                    if THROUGH in told:
                        break
                    assert controller.returncode in (0, -signal.SIGKILL) or "connect to GCS" in told, told
                    if controller.returncode == 0:
                        break
                    controller = resume(url, "--ray-address", hosts.address, hosts=hosts)
                    continue
                if struck < wanted:
                    next(strikes)(hosts, controller, rng)
                    struck += 1
                hosts.mind()
        finally:
            controller.kill()
            controller.communicate()
        with Store.open(url, read_only=True) as store:
            assert meaning(store) == undisturbed
