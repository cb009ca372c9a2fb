"""Workers that hang and that run out of memory, on real Ray: the child is trained again, to the same bytes."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle
from shelves import Shelf, works
from tiny import SIZE, stripes, world

from mutant.mutation import SetHyperparameter
from mutant.outcome import Failed, Trained
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_start import start
from mutant.search.workers import Terms

pytestmark = pytest.mark.slow

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not see the tests' folder

AUGMENTED = SetHyperparameter("flip", True)


class Stopping:
    """An augmentation that stops its process (as SIGSTOP does) the first `times` times that it is used, by a file."""

    def __init__(self, log: Path, times: int) -> None:
        self.log, self.times = log, times

    def __call__(self, augmentation, indices, seed):
        if self.times:
            with self.log.open("a") as log:
                log.write(f"{os.getpid()}\n")
            if len(self.log.read_text().split()) <= self.times:
                os.kill(os.getpid(), signal.SIGSTOP)
        images = np.random.default_rng(0).integers(0, 255, (48, SIZE, SIZE, 3))
        return images[indices].astype(np.uint8)


class Greedy:
    """An augmentation that takes memory until its process is ended."""

    def __call__(self, augmentation, indices, seed):
        taken = list[object]()
        while True:
            taken.append(np.ones(1 << 23))
            time.sleep(0.02)


@pytest.fixture
def ray_of_two() -> Iterator[float]:
    """A Ray of two cores, and the seconds that its first children take: what the machine is worth now."""
    watchdog = start(2, None)
    try:
        started = time.monotonic()
        evaluator = RayEvaluator(2)
        dict(evaluator.train(works(world(), [[], [AUGMENTED]], task="first"), Shelf(world(), augmented("first"))))
        evaluator.close()
        yield time.monotonic() - started
    finally:
        ray.shutdown()
        if watchdog is not None:
            watchdog.end()


def augmented(key, augment=None):
    return replace(stripes(key=key), augment=augment or Stopping(Path(os.devnull), 0))


def test_a_worker_that_hangs_is_killed_and_its_child_trained_again(ray_of_two, tmp_path):
    here, log = world(), tmp_path / "log"
    data = augmented("hang", Stopping(log, 1))
    work = works(here, [[], [AUGMENTED], [SetHyperparameter("nesterov", True)]], task="hang")
    heard = []
    evaluator = RayEvaluator(2, terms=Terms(patience=max(2.0, 1.5 * ray_of_two)))
    try:
        outcomes = dict(evaluator.train(work, Shelf(here, data), lambda index, who, *_: heard.append((index, who))))
    finally:
        evaluator.close()
    begun = sorted(index for index, who in heard if who is not None)
    assert begun == [0, 1, 1, 2], "the one that hung is begun again, and no other"
    assert [index for index, who in heard if who is None] == [1], "and was taken back before"
    stopped = Path("/proc") / log.read_text().split()[0]
    end = time.monotonic() + 30
    while stopped.exists() and time.monotonic() < end:  # Ray asks it to end, and kills it five seconds later
        time.sleep(0.1)
    assert not stopped.exists(), "nothing of it is left"
    alone = dict(InProcessEvaluator().train(work, Shelf(here, augmented("hang"))))
    for index, outcome in alone.items():
        again = outcomes[index]
        assert isinstance(outcome, Trained)
        assert isinstance(again, Trained)
        assert again.path == outcome.path


def test_a_child_that_hangs_twice_has_failed(ray_of_two, tmp_path):
    here = world()
    work = works(here, [[AUGMENTED]], task="twice")
    evaluator = RayEvaluator(2, terms=Terms(patience=max(2.0, 1.5 * ray_of_two)))
    try:
        (outcome,) = dict(
            evaluator.train(work, Shelf(here, augmented("twice", Stopping(tmp_path / "log", 2))))
        ).values()
    finally:
        evaluator.close()
    assert isinstance(outcome, Failed)
    assert outcome.kind == "hung"
    assert outcome.reason.startswith("its worker died 2 times (hung): no progress for ")


@pytest.mark.chaos
def test_a_child_that_takes_all_memory_has_failed_for_that_and_not_for_being_killed():
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free, total = (int(facts[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    limits = {"memory_usage_threshold": 1 - free / total + 0.1, "memory_monitor_refresh_ms": 100}
    watchdog = start(2, None, _system_config=limits)
    here = world()
    try:
        evaluator = RayEvaluator(1)
        work = works(here, [[AUGMENTED]], task="greedy")
        (outcome,) = dict(evaluator.train(work, Shelf(here, augmented("greedy", Greedy())))).values()
        evaluator.close()
    finally:
        ray.shutdown()
        if watchdog is not None:
            watchdog.end()
    assert isinstance(outcome, Failed)
    assert outcome.kind == "out of memory"
    assert "died 2 times" in outcome.reason
