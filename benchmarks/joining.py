"""How soon is a machine that joins the cluster used, and what does one that leaves cost?

    python benchmarks/joining.py

About two minutes on two quiet cores. A real Ray cluster of several raylets on this host, each a machine of one core; a
run on it whose children do nothing for a second, with the search's own evaluator and workers (`--workers auto`). While
it goes on a machine joins, and later the same one is killed (-9 of its raylet); three times (`--repeats`). Told are
the seconds from the call that starts its raylet until Ray knows the machine, until its worker has arrived and until the
first child begins on it; and from the kill until the child that it trained begins elsewhere.

The ratio is the time until a bare actor of Ray answers on a machine that joins, over the time until the first child
begins there, both from the start of the raylet; the baseline is the bare actor, on machines of the same cluster in the
same run.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray as ray_package
from ray.cluster_utils import Cluster
from support.no_op_actors import NoOpWorker, brought_along
from support.simulation import new_system, run_of

from mutant.activations.limits import OFF
from mutant.outcome import Outcome
from mutant.search.config import Settings
from mutant.search.evolve import evolve
from mutant.search.progress import ChildBegun
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_start import machines
from mutant.search.watchdog import Watchdog
from mutant.search.workers import Terms

ray: Any = ray_package
GOAL = 0.5
CHILD_SECONDS = 1.0
WATCHFUL = {"health_check_initial_delay_ms": 1_000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


class Sleeper(NoOpWorker):
    """Trains a child in a second."""

    def train(self, parcel: Any) -> Outcome:
        time.sleep(CHILD_SECONDS)
        return super().train(parcel)


@contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores, and one machine."""
    watchdog = Watchdog()
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL, "temp_dir": watchdog.place}
    own = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
    own.add_node(num_cpus=1)
    ray.init(address=own.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield own
    finally:
        ray.shutdown()
        own.shutdown()
        watchdog.end()


class Over(Exception):
    """All was seen."""


class Heard:
    """When which worker began which child, and who joins and goes meanwhile."""

    def __init__(self, own: Any, evaluator: RayEvaluator, repeats: int) -> None:
        self._own, self._evaluator, self._repeats = own, evaluator, repeats
        self._begun: list[tuple[float, str, int]] = []
        self.joined: list[dict[str, float]] = []
        self.over = threading.Event()

    def __call__(self, event: object) -> None:
        if self.over.is_set():
            raise Over
        if isinstance(event, ChildBegun):
            about = self._evaluator.present.get(int(event.worker.split()[-1]))
            self._begun.append((time.monotonic(), about.node if about else "", event.child))

    def strikes(self) -> None:
        try:
            for _ in range(self._repeats):
                time.sleep(5)
                self._once()
        finally:
            self.over.set()

    def _once(self) -> None:
        started = time.monotonic()
        node = self._own.add_node(num_cpus=1)
        name, found = node.node_id, dict[str, float]()
        until(lambda: name in machines())
        found["known"] = time.monotonic() - started
        until(lambda: name in {about.node for about in self._evaluator.present.values()})
        found["arrived"] = time.monotonic() - started
        until(lambda: any(where == name for _, where, _ in self._begun))
        found["begun"] = next(when for when, where, _ in self._begun if where == name) - started
        time.sleep(3.2)
        (raylet,) = node.all_processes["raylet"]
        lost = [child for _, where, child in self._begun if where == name][-1]
        killed = time.monotonic()
        os.kill(raylet.process.pid, signal.SIGKILL)
        until(lambda: any(child == lost and when > killed for when, _, child in self._begun))
        found["again"] = time.monotonic() - killed
        self._own.remove_node(node, allow_graceful=False)
        self.joined.append(found)


def until(true: Any) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def bare_actor(own: Any) -> float:
    """Seconds until an actor answers that a machine is started for."""
    started = time.monotonic()
    node = own.add_node(num_cpus=1, resources={"here": 1})
    made = ray.remote(Answering).options(num_cpus=1, resources={"here": 1}).remote()
    ray.get(made.answer.remote())
    seconds = time.monotonic() - started
    ray.kill(made)
    own.remove_node(node, allow_graceful=False)
    return seconds


class Answering:
    def answer(self) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    brought_along(sys.modules[__name__])
    settings = Settings(children=100_000, asynchronous=True)
    with cluster() as own, tempfile.TemporaryDirectory() as directory:
        bare = [bare_actor(own) for _ in range(options.repeats)]
        evaluator = RayEvaluator(None, terms=Terms(own.address), cache=OFF, worker=Sleeper)
        heard = Heard(own, evaluator, options.repeats)
        striking = threading.Thread(target=heard.strikes)
        with (
            new_system(str(Path(directory) / "m.db")) as store,
            run_of(store, ["task"], settings, evaluator, heard) as search,
        ):
            striking.start()
            with suppress(Over):
                evolve(search)
        striking.join()
        evaluator.close()
    middle = {name: round(statistics.median(one[name] for one in heard.joined), 1) for name in heard.joined[0]}
    for name, what in (
        ("known", "Ray knows the machine"),
        ("arrived", "its worker has arrived"),
        ("begun", "its first child begins"),
        ("again", "after a kill, its child begins elsewhere"),
    ):
        print(f"{middle[name]:6.1f} s {what}")
    print(f"{statistics.median(bare):6.1f} s a bare actor answers on a machine that joins")
    result = {
        "name": "joining",
        "ratio": round(statistics.median(bare) / middle["begun"], 2),
        "goal": GOAL,
        "baseline": "a bare actor of Ray on a machine that joins",
        "seconds": middle,
        "bare": round(statistics.median(bare), 1),
        "repeats": options.repeats,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
