"""Predicted costs: for every child exactly the FLOPs that are recorded afterwards, and no JAX where none was needed."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path as FilePath
from textwrap import dedent

import pytest
from growing import SMALL, grown, small_store, small_tasks
from tiny import CLASSES, world

from mutant.assignment import Training
from mutant.cost import component_flops
from mutant.mutation import Clone, NewHead, SetHyperparameter
from mutant.outcome import Cost, Failed, Trained
from mutant.search.config import Settings
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.ledger import ASSUMED_SECONDS, Ledger
from mutant.search.prediction import FLOPS_PER_SECOND, Sizes, predict_children, rough_count
from mutant.storage.records import CandidateRecord, SegmentKey

EVOLVING = replace(SMALL, preset="mu2net-plus", children=4, generation_size=2, validations=1, reach=None)


@pytest.mark.parametrize("settings", [SMALL, pytest.param(EVOLVING, marks=pytest.mark.slow)])
def test_predicted_flops_are_the_recorded_ones_for_every_child(tmp_path: FilePath, settings: Settings) -> None:
    tasks = small_tasks(tmp_path)
    with grown(tmp_path / "m.db", tasks, settings) as store:
        found = [record for index in (0, 1) for record in store.candidates(SegmentKey(1, index))]
        assert {record.state for record in found} == {"DONE"}
        assert [record.planned.predicted_flops for record in found] == [record.cost.flops for record in found]
        assert all((record.planned.predicted_seconds or 0) > 0 for record in found)
        for record in found:  # the score's compute factor counts by the same numbers
            path = store.path(record.path or "")
            chain = [part.spec for part in path.parts]
            assert path.flops == sum(component_flops(chain, path.hyperparameters.image_size))


def test_a_prefix_counts_for_the_first_child_that_needs_it() -> None:
    here, sizes, training = world(), Sizes(40, 10), Training(32, 2, 16)
    top = here.assignment(here.root, [Clone("norm"), NewHead(CLASSES)], training=training)
    deep = here.assignment(here.root, [Clone("block_01"), NewHead(CLASSES)], training=training)
    count = InProcessEvaluator().flops
    flops = component_flops(top.blueprint.chain, 16)
    high, low = top.blueprint.frozen_prefix, deep.blueprint.frozen_prefix
    assert high > low > 0

    def prefixes(*assignments, own=()) -> list[float]:
        found = predict_children([a.blueprint for a in assignments], own, count, training, sizes)
        return [prediction.prefix_flops for prediction in found]

    assert prefixes(top, top, deep) == [50 * sum(flops[:high]), 0, 50 * sum(flops[:low])]
    assert prefixes(deep, top) == [50 * sum(flops[:low]), 50 * sum(flops[low:high])]
    sibling = here.train(here.root, [Clone("norm"), NewHead(CLASSES)], training=training).path
    assert prefixes(top, own=[sibling]) == [0]
    edits = [SetHyperparameter("flip", True), Clone("norm"), NewHead(CLASSES)]
    flipped = here.assignment(here.root, edits, training=training)
    assert prefixes(flipped, flipped) == [(64 + 10) * sum(flops[:high]), 64 * sum(flops[:high])]


def rate(records: Iterable[CandidateRecord]) -> float:
    ledger = Ledger()
    for record in records:
        outcome = Failed(record.candidate.id, "error", "", record.cost)
        ledger.note(0, outcome if record.path is None else Trained(None, {}, {}, (), record.cost))  # type: ignore[arg-type]
    return ledger.pace()


def test_a_rate_is_measured_where_children_were(tmp_path: FilePath) -> None:
    assert rate([]) == FLOPS_PER_SECOND
    with grown(tmp_path / "m.db", {"low": small_tasks(tmp_path)["low"]}) as store:
        found = store.candidates(SegmentKey(1, 0))
        flops, seconds = sum(r.cost.flops for r in found), sum(r.cost.seconds for r in found)
        assumed = ASSUMED_SECONDS * FLOPS_PER_SECOND
        assert rate(found) == pytest.approx((flops + assumed) / (seconds + ASSUMED_SECONDS))
        hours = replace(found[0], cost=Cost(seconds=10_000.0, flops=1e13))
        assert rate([hours]) == pytest.approx(1e9, rel=0.05), "what was measured outweighs it"
        later = [record for record in found if record.generation == 1]
        before = rate([record for record in found if record.generation == 0])
        assert all((r.planned.predicted_seconds or 0) >= (r.planned.predicted_flops or 0) / before for r in later)


def test_a_rough_count_spreads_the_roots_flops_over_its_blocks() -> None:
    here = world()
    specs = tuple(part.spec for part in here.root.parts)
    (flops, larger) = rough_count(here.root)([(specs, 16), (specs, 32)])
    assert sum(flops) == pytest.approx(here.root.flops)
    assert sum(larger) == pytest.approx(4 * here.root.flops)


def test_a_run_is_planned_and_its_workers_chosen_without_jax(tmp_path: FilePath, repository: FilePath) -> None:
    tasks = small_tasks(tmp_path)
    with small_store(tmp_path / "m.db") as store:
        store.add_task(tasks["low"].task)
    program = f"""
        import sys
        from mutant.search import growth, memory, planning, population, supply, setup, prediction
        from mutant.search.config import RunConfig, Settings
        from mutant.search.workers import choose_workers
        from mutant.storage.store import Store

        class Counting:
            def flops(self, chains):
                return tuple((1.0,) * len(specs) for specs, _ in chains)

        with Store.open({str(tmp_path / "m.db")!r}) as store:
            run = growth.begin(store, ("low",), Settings(children=3, budget="9children"))
            config = RunConfig.from_dict(run.config)
            sizes = {{"low": prediction.Sizes.of(store.task("low"))}}
            flops = planning.expected_flops(store, config, sizes)
            choose_workers("auto", flops)
            search = setup.Search(store, run, config, Counting(), supply.StoreSupply(store, {{}}))
            beginning = population.Population.of("low", store.pool(), config)
            known = memory.Memory.of(store, run, search.evaluator.flops)
            planned = planning.plan(search, run.segments[0], 0, beginning, known)
            print(flops > 0, len(planned), planned[0].predicted_flops > 0, "jax" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "3", "True", "False"]
