"""Groups of a child on Ray: the bytes of one device, whoever dies on the way."""

import os
import signal
import sys
from dataclasses import replace
from threading import Timer

import pytest
import ray.cloudpickle
from growing import SMALL, meaning, small_store, small_tasks
from tiny import CLASSES, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.assignment import Training
from mutant.mutation import Clone, InsertAdapter, NewHead
from mutant.outcome import Failed, Trained
from mutant.pipeline import StageLost
from mutant.search.crews import start_evaluator
from mutant.search.evaluator import InProcessEvaluator, Work
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, working
from mutant.search.ray_stages import PipelineEvaluator, StageWorker
from mutant.search.workers import Crew, Terms
from mutant.tasks.errors import UserError
from mutant.train import train

pytestmark = pytest.mark.slow

EDITS = (*(Clone(f"block_0{i}") for i in range(3)), InsertAdapter(1, 8), Clone("norm"), NewHead(CLASSES))


@pytest.fixture(scope="module")
def evaluator():
    with_ray = PipelineEvaluator(2)
    yield with_ray
    with_ray.close()


class Shelf:
    """A supply from plain dictionaries."""

    def __init__(self, here):
        self.here = here

    def components(self, digests):
        return {digest: self.here.components[digest] for digest in digests}

    def trace(self, digest):
        return self.here.traces[digest]

    def dataset(self, task, image_size):
        return stripes()


def child(backprop, visits=2):
    """A child of three groups, which two actors share, and what it is trained from."""
    here = world(3)
    task = here.assignment(here.root, EDITS, training=Training(48, visits, 16, backprop=backprop, groups=3))
    return Work(task.candidate, task.blueprint, task.training), Shelf(here)


def outcome_of(evaluator, work, shelf):
    ((_, outcome),) = evaluator.train([work], shelf)
    assert isinstance(outcome, Trained), outcome
    return outcome


@pytest.mark.parametrize("backprop", ["local", "pairwise"])
def test_a_pipeline_of_actors_gives_the_bytes_of_one_device(evaluator, backprop):
    work, shelf = child(backprop)
    here, there = outcome_of(InProcessEvaluator(), work, shelf), outcome_of(evaluator, work, shelf)
    assert there.path == here.path
    assert there.components.keys() == here.components.keys()
    assert there.traces.keys() == here.traces.keys()


def test_a_killed_actor_costs_the_child_its_time_and_nothing_else(evaluator):
    work, shelf = child("local", visits=40)
    here, killed = outcome_of(InProcessEvaluator(), work, shelf), evaluator.stages.pids[1]
    begun = evaluator.stages.begin

    def begin_and_kill(setups):
        evaluator.stages.begin = begun
        hands = begun(setups)
        Timer(0.1, os.kill, (killed, signal.SIGKILL)).start()
        return hands

    evaluator.stages.begin = begin_and_kill
    there = outcome_of(evaluator, work, shelf)
    assert killed not in evaluator.stages.pids
    assert there.components.keys() == here.components.keys()


@pytest.mark.lengthy
@pytest.mark.timeout(300)
def test_actors_that_hang_fail_the_child_with_the_reason(evaluator, monkeypatch):
    work, shelf = child("local", visits=40)
    begun, usual, stopped = evaluator.stages.begin, evaluator.stages._terms, []

    def begin_and_stop(setups):
        evaluator.stages._terms = usual  # new actors have JAX to import
        hands = begun(setups)
        evaluator.stages._terms = Terms(patience=20.0)
        stopped.append(evaluator.stages.pids[1])
        os.kill(stopped[-1], signal.SIGSTOP)
        return hands

    monkeypatch.setattr(evaluator.stages, "begin", begin_and_stop)
    monkeypatch.setattr(evaluator.stages, "_terms", usual)  # put back at the end
    ((_, outcome),) = evaluator.train([work], shelf)
    assert len({*stopped}) == 2, "the second try has other actors"
    assert isinstance(outcome, Failed)
    assert (outcome.kind, "20 s" in outcome.reason) == ("hung", True)


@pytest.mark.lengthy
def test_actors_that_cannot_start_end_the_run_and_not_the_children_one_by_one(evaluator, monkeypatch):
    class Broken(StageWorker):
        def __init__(self, cores):
            raise ImportError("no module named 'mutant'")

    work, shelf = child("local")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    outcome_of(evaluator, work, shelf)  # actors that live, whatever an earlier test has left
    monkeypatch.setattr("mutant.search.ray_stages.StageWorker", Broken)
    os.kill(evaluator.stages.pids[0], signal.SIGKILL)
    with pytest.raises(UserError, match=r"Workers cannot start on Ray: .*no module named 'mutant'"):
        dict(evaluator.train([work], shelf))
    monkeypatch.undo()
    outcome_of(evaluator, work, shelf)


def test_actors_that_keep_dying_fail_the_child_with_the_reason():
    class Lost:
        def begin(self, setups):
            raise StageLost("the worker of one of its groups died: ActorDiedError")

        def values(self, futures):
            return [*futures]

    work, shelf = child("local")
    task = work.assignment(shelf.here.components, {})
    outcome = train(task, stripes(), ActivationCache(), Lost())
    assert isinstance(outcome, Failed)
    assert outcome.kind == "worker lost"
    assert "died" in outcome.reason


def test_a_run_as_a_pipeline_is_the_run_of_one_process(tmp_path, evaluator, monkeypatch):
    tasks = small_tasks(tmp_path)
    settings = replace(SMALL, backprop="local", groups=3, mutation_probability=0.3, preset="mutant-deep")
    asked, begun, real = [], [], evaluator.stages.begin

    def kept(crew, **options):
        asked.append(options)
        return _Kept(evaluator)

    def counted(setups):
        begun.append(len(setups))
        return real(setups)

    meanings = []
    for pipeline in (False, True):
        with small_store(tmp_path / f"{pipeline}.db") as store, monkeypatch.context() as patch:
            if pipeline:
                patch.setattr("mutant.search.growth.start_evaluator", kept)
                patch.setattr(evaluator.stages, "begin", counted)
            run = begin(store, tuple(tasks), settings, new=[task.task for task in tasks.values()])
            with working(store, run, tasks, Engine(workers="2" if pipeline else "1", pipeline=pipeline)) as search:
                evolve(search)
            meanings.append(meaning(store))
    assert asked[0]["pipeline"]
    assert begun, "some child has more than one group"
    assert meanings[0] == meanings[1]


def test_the_engine_that_was_asked_for_is_started(monkeypatch):
    monkeypatch.setattr("mutant.search.ray_stages.PipelineEvaluator", lambda workers, **_: workers)
    assert start_evaluator(Crew(3, "as asked"), pipeline=True) == 3
    with_one = start_evaluator(Crew(1, "as asked"), pipeline=True)
    assert type(with_one) is InProcessEvaluator
    with_one.close()


class _Kept:
    """The module's evaluator, which one run must not close."""

    def __init__(self, evaluator):
        self.train, self.answer, self.flops = evaluator.train, evaluator.answer, evaluator.flops

    def close(self):
        pass
