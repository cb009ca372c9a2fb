"""The loop on real Ray: the same bytes as in one process, and killed workers cost nothing but their child's time."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle
from growing import SMALL, go_on, grown, meaning, small_store, small_tasks
from shelves import Shelf, works
from tiny import CLASSES, stripes, world

from mutant import backend
from mutant.activations.cache import ActivationCache
from mutant.activations.homes import home_of
from mutant.activations.limits import OFF, CacheLimits
from mutant.assignment import Training
from mutant.mutation import NewHead, SetHyperparameter
from mutant.outcome import Failed, Trained
from mutant.prefix import Prefix
from mutant.search.evaluator import InProcessEvaluator, Work
from mutant.search.growth import begin
from mutant.search.progress import ChildFinished
from mutant.search.ray_evaluator import RayEvaluator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluator():
    with_ray = RayEvaluator(2)
    yield with_ray
    with_ray.close()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return small_tasks(tmp_path_factory.mktemp("data"))


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not see the tests' folder


class Deadly:
    """An augmentation that ends the process of whoever uses it."""

    def __call__(self, augmentation, indices, seed):
        os._exit(1)


def test_workers_run_one_thread_on_a_core_of_their_own_with_huge_pages(evaluator):
    environment = {
        line.split("=", 1)[0]: line.split("=", 1)[1]
        for line in Path(f"/proc/{evaluator.pids[0]}/environ").read_text().split("\0")
        if "=" in line
    }
    assert environment["NPROC"] == "1"
    assert backend.HUGE_PAGES in environment["GLIBC_TUNABLES"]
    cores = [os.sched_getaffinity(pid) for pid in evaluator.pids]
    if len(os.sched_getaffinity(0)) >= 2:
        assert [len(core) for core in cores] == [1, 1]
        assert cores[0] != cores[1]


def test_ray_and_one_process_give_the_same_components(evaluator):
    here = world()
    work = works(here, [[], [SetHyperparameter("momentum", None)], [SetHyperparameter("nesterov", True)]])
    shelf = Shelf(here, stripes())
    on_ray = dict(evaluator.train(work, shelf))
    alone = dict(InProcessEvaluator().train(work, shelf))
    assert sorted(on_ray) == [0, 1, 2]
    for index, outcome in alone.items():
        other = on_ray[index]
        assert isinstance(outcome, Trained)
        assert isinstance(other, Trained)
        assert other.path == outcome.path
        assert other.components == outcome.components
    images = stripes().validation.images
    first = alone[0]
    assert isinstance(first, Trained)
    path, components = first.path, {**here.components, **first.components}
    answers = [e.answer(path, components, images).logits.tobytes() for e in (evaluator, InProcessEvaluator())]
    assert answers[0] == answers[1]


def test_a_worker_has_its_next_child_before_the_last_one_is_committed(evaluator):
    here, begun = world(), dict[int, str]()
    work = works(here, [()] * 6, task="in advance")
    for index, _ in evaluator.train(work, Shelf(here, stripes()), lambda index, who, *_: begun.update({index: who})):
        later = [*begun][[*begun].index(index) + 1 :]
        assert len(begun) == 6 or begun[index] in {begun[child] for child in later}


def test_a_child_that_kills_its_worker_twice_has_failed_and_the_others_go_on(evaluator):
    here = world()
    work = works(here, [[], [SetHyperparameter("flip", True)], [SetHyperparameter("nesterov", True)]], task="deadly")
    told = {0: [], 1: [], 2: []}

    def begun(index, worker, seat=None, /):
        told[index].append(worker)

    outcomes = dict(evaluator.train(work, Shelf(here, replace(stripes(key="deadly"), augment=Deadly())), begun))
    assert [worker is None for worker in told[1]] == [False, True, False], "it had no worker in between"
    assert isinstance(outcomes[0], Trained)
    assert isinstance(outcomes[2], Trained)
    assert isinstance(outcomes[1], Failed)
    assert outcomes[1].kind == "worker lost"
    assert "died 2 times" in outcomes[1].reason


def test_idle_workers_that_died_cost_no_child(evaluator):
    here = world()
    for pid in evaluator.pids:
        os.kill(pid, signal.SIGKILL)
    outcomes = dict(evaluator.train(works(here, [[], []], task="after"), Shelf(here, stripes())))
    assert all(isinstance(outcome, Trained) for outcome in outcomes.values())


def test_an_error_in_a_worker_is_a_failed_child_with_its_reason(evaluator):
    here = world()
    work = works(here, [[SetHyperparameter("flip", True)]], task="no source")
    outcomes = dict(evaluator.train(work, Shelf(here, replace(stripes(key="no source"), augment=None))))
    assert isinstance(outcomes[0], Failed)
    assert "cannot be augmented" in outcomes[0].reason


def test_a_worker_without_a_child_computes_what_the_others_will_read(evaluator):
    here, data = world(), stripes(2_000, 24, key="idle")
    warm = works(here, [(), ()])  # both workers have started JAX, so that a busy machine holds up neither
    assert all(isinstance(o, Trained) for o in dict(evaluator.train(warm, Shelf(here, stripes()))).values())
    work = here.assignment(here.root, [NewHead(CLASSES)], task="idle", training=Training(5, 200, 16))
    item = Work(work.candidate, work.blueprint, work.training)
    (outcome,) = dict(evaluator.train([item], Shelf(here, data))).values()
    assert isinstance(outcome, Trained)
    cache = ActivationCache(CacheLimits(), home_of(evaluator._home))
    source = cache.source(Prefix.of(item.blueprint), here.components, data.train)
    source.take(np.arange(2_000))
    cache.close()
    assert cache.computed_rows < 2_000 - 200 * 5, "more is kept than the child itself was shown"
    alone = dict(InProcessEvaluator(OFF).train([item], Shelf(here, data)))[0]
    assert isinstance(alone, Trained)
    assert alone.path == outcome.path


def test_a_run_on_ray_with_a_killed_worker_ends_like_an_undisturbed_one(tmp_path, tasks, evaluator, monkeypatch):
    with grown(tmp_path / "alone.db", tasks, workers="1") as store:
        undisturbed = meaning(store)
    killed = []

    def kill_after_the_second_child(event):
        if isinstance(event, ChildFinished):
            killed.append(event.child)
            if len(killed) == 2:
                os.kill(evaluator.pids[0], signal.SIGKILL)

    monkeypatch.setattr("mutant.search.growth.start_evaluator", lambda crew, **_: _Kept(evaluator))
    with small_store(tmp_path / "ray.db") as store:
        begin(store, tuple(tasks), SMALL, new=[task.task for task in tasks.values()])
        go_on(store, tasks, workers="2", listener=kill_after_the_second_child)
        assert len(killed) == 10
        assert meaning(store) == undisturbed


class _Kept:
    """The module's evaluator, which one run must not close."""

    def __init__(self, evaluator):
        self.train, self.answer, self.flops = evaluator.train, evaluator.answer, evaluator.flops

    def close(self):
        pass
