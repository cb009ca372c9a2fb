"""Early stopping: hopeless children stop at the right rung, and a run that stops some is as exact as any other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from growing import SMALL, grown, meaning, resumed, small_store, small_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_samples import planned, sample_root
from tiny import CLASSES, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import CacheLimits
from mutant.assignment import Training
from mutant.cost import training_flops
from mutant.mutation import Clone, NewHead
from mutant.outcome import Trained
from mutant.search.config import settings_from
from mutant.search.growth import begin, configure
from mutant.search.halving import rungs, stop_below
from mutant.search.presets import PRESETS
from mutant.storage.records import CandidateRecord, SegmentKey
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask
from mutant.train import train

ACCURACIES = st.lists(st.lists(st.floats(0, 1), max_size=8), max_size=12)


def records(accuracies: list[list[float]]) -> list[CandidateRecord]:
    plan = planned("a", sample_root()[0], 0)
    return [CandidateRecord(SegmentKey(1, 0), 0, plan, validations=tuple(values)) for values in accuracies]


@given(ACCURACIES, st.integers(2, 4), st.integers(1, 8))
def test_a_bound_lets_the_top_of_those_who_reached_a_rung_through(
    accuracies: list[list[float]], eta: int, validations: int
) -> None:
    bounds = stop_below(records(accuracies), eta, validations)
    assert len(bounds) in (0, validations)
    for rung in range(1, validations + 1):
        bound = bounds[rung - 1] if bounds else None
        reached = [max(values[:rung]) for values in accuracies if len(values) >= rung]
        if rung not in rungs(eta, validations) or len(reached) < eta:
            assert bound is None
        else:
            assert bound in reached
            assert sum(value > bound for value in reached) < len(reached) / eta <= len(reached)
            assert sum(value >= bound for value in reached) >= len(reached) // eta


def test_nothing_stops_without_halving_or_earlier_children() -> None:
    assert stop_below(records([[0.5, 0.9]] * 8), None, 4) == ()
    assert stop_below([], 2, 4) == ()
    assert {preset.halving for preset in PRESETS.values()} == {0}


def test_an_eta_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="would keep every child"):
        settings_from({"halving": 1}, where="a test")


# One child


@pytest.mark.parametrize("rung", [1, 2, 4])
def test_a_hopeless_child_is_stopped_at_its_rung_and_keeps_its_best_parameters(rung: int) -> None:
    here, training = world(), Training(16, 5, 16)
    edits = [Clone("norm"), NewHead(CLASSES)]
    assignment = replace(here.assignment(here.root, edits, training=training), stop_below=(0.0, 0.0, None, 0.0, None))
    whole = trained(assignment)
    assert len(whole.validations) == 5
    bounds = tuple(1.1 if validation == rung else None for validation in range(1, 6))
    stopped = trained(replace(assignment, stop_below=bounds))
    assert stopped.validations == whole.validations[:rung]
    assert stopped.path.quality == max(stopped.validations)
    best = stopped.validations.index(max(stopped.validations)) + 1
    at_best = trained(replace(assignment, stop_below=tuple(1.1 if v == best else None for v in range(1, 6))))
    assert stopped.path.version == at_best.path.version
    assert stopped.cost.examples == 16 * rung
    assert stopped.cost.flops == training_flops(
        assignment.blueprint, 16, examples=16 * rung, validation_examples=24 * rung
    )


def trained(assignment) -> Trained:
    outcome = train(assignment, stripes(), ActivationCache(CacheLimits(1 << 24, 0)))
    assert isinstance(outcome, Trained), outcome
    return outcome


# Whole runs


HALVED = replace(
    SMALL, children=8, validations=4, examples_per_validation=16, halving=2, reach=0, mutable=("learning_rate",),
    seed=2, head_start="zero", first_children="sampled", clones="each slot", averaging="none",
)  # fmt: skip
"""Heads from zero differ more in what they reach early on."""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedTask]:
    return {"low": small_tasks(tmp_path_factory.mktemp("data"))["low"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tasks: Mapping[str, LoadedTask]) -> Iterator[Store]:
    with grown(tmp_path_factory.mktemp("undisturbed") / "m.db", tasks, HALVED) as store:
        yield store


def test_children_stop_by_what_earlier_generations_reached(undisturbed: Store) -> None:
    found = undisturbed.candidates(SegmentKey(1, 0))
    assert {len(record.validations) for record in found if record.generation == 0} == {4}
    assert {len(record.validations) for record in found} == {1, 2, 4}
    for record in found:
        bounds = stop_below([other for other in found if other.generation < record.generation], 2, 4)
        done = len(record.validations)
        assert all(
            bound is None or max(record.validations[:rung]) >= bound for rung, bound in enumerate(bounds[: done - 1], 1)
        )
        if done < 4:
            assert max(record.validations) < (bounds[done - 1] or 0)
            assert record.cost.flops == pytest.approx((record.planned.predicted_flops or 0) * done / 4)


@pytest.mark.slow
@settings(max_examples=4)
@given(stop=st.integers(1, 8), again=st.integers(1, 8))
def test_interrupted_and_resumed_equals_undisturbed_with_halving(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: Mapping[str, LoadedTask],
    undisturbed: Store,
    stop: int,
    again: int,
) -> None:
    with small_store(tmp_path_factory.mktemp("resumed") / "m.db") as store:
        begin(store, tuple(tasks), HALVED, new=[task.task for task in tasks.values()])
        resumed(store, tasks, (stop, again))
        assert meaning(store) == meaning(undisturbed)


def test_zero_switches_halving_off_over_the_systems_own(tmp_path, undisturbed: Store) -> None:
    with small_store(tmp_path / "m.db") as store:
        assert configure(store, ("low",), HALVED).halving == 2
        assert configure(store, ("low",), replace(HALVED, halving=0)).halving is None
        assert configure(store, ("low",), SMALL).halving is None
