"""Runs: planned once, committed once and whole, in whatever order the outcomes arrive."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, func, select
from storage_samples import (
    component,
    counts,
    grow,
    grow_segment,
    new_store,
    planned,
    sample_golden,
    trained,
)

from mutant.outcome import Cost, Failed
from mutant.storage.records import SegmentKey
from mutant.storage.refusals import Conflict
from mutant.storage.schema import ComponentRow, PartRow
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with new_store(database, "a", "b") as opened:
        yield opened


def test_a_run_is_told_as_it_goes(store: Store) -> None:
    assert store.unfinished_run() is None
    run = store.begin_run({"children": 2, "nested": {"b": [1, None], "a": 0.1}}, ["a", "b", "a"])
    assert [(s.task, s.visit, s.state) for s in run.segments] == [("a", 0, "open"), ("b", 0, "open"), ("a", 1, "open")]
    assert store.unfinished_run() == run == store.run(run.id)
    with pytest.raises(Conflict, match="mutant resume"):
        store.begin_run({}, ["a"])
    with pytest.raises(Conflict, match="not finished"):
        store.finish_run(run.id)
    winner = grow_segment(store, run.segments[0].key, "a", store.root())
    going = store.run(run.id)
    assert [(s.state, s.winner) for s in going.segments] == [("finished", winner.id), ("open", None), ("open", None)]
    assert store.best("a") == winner
    assert store.best("b") is None
    store.abandon_run(run.id)
    assert store.unfinished_run() is None
    assert [s.visit for s in store.begin_run({}, ["a"]).segments] == [2]


def test_candidates_come_back_as_planned(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plans = [planned("a", store.root(), child) for child in range(3)]
    store.plan_generation(key, 0, plans)
    records = store.candidates(key)
    assert [record.planned for record in records] == plans
    assert [record.planned.predicted_seconds for record in records] == [1.5] * 3
    assert {record.state for record in records} == {"QUEUED"}
    done = trained(plans[0], store.root())
    store.commit_outcome(key, 0, 0, done)
    failed = Failed(plans[2].candidate.id, "not finite", "the loss was NaN at step 3", Cost(2.5, 10, 3.0))
    store.commit_outcome(key, 0, 2, failed)
    first, second, third = store.candidates(key)
    assert (first.state, first.path, first.quality) == ("DONE", done.path.id, done.path.quality)
    assert (first.validations, first.cost) == (done.validations, done.cost)
    assert (second.state, second.path, second.quality) == ("QUEUED", None, None)
    assert (third.state, third.failure, third.reason) == ("FAILED", failed.kind, failed.reason)
    assert third.cost == failed.cost
    assert store.path(done.path.id[:9]) == done.path


def test_a_path_comes_back_whole_with_its_weights_and_traces(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plan = planned("a", store.root(), 0)
    outcome = trained(plan, store.root())
    store.plan_generation(key, 0, [plan])
    store.commit_outcome(key, 0, 0, outcome)
    assert store.paths() == (store.root(), outcome.path)
    assert store.paths(task="a") == (outcome.path,)
    assert store.components(outcome.components) == outcome.components
    for digest, arrays in outcome.traces.items():
        stored = store.trace(digest)
        assert stored.keys() == arrays.keys()
        assert all(stored[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_shared_components_are_stored_once(store: Store) -> None:
    grow(store, "a", "b", children=3)
    with store.reading() as connection:
        parts = connection.scalar(select(func.count()).select_from(PartRow)) or 0
        components = connection.scalar(select(func.count()).select_from(ComponentRow)) or 0
    assert parts == 3 + 6 * 5
    assert components == 3 + 6 * 3


def test_paths_are_ordered_by_place_and_not_by_arrival(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plans = [planned("a", store.root(), child) for child in range(4)]
    store.plan_generation(key, 0, plans)
    for child in (2, 0, 3, 1):
        store.commit_outcome(key, 0, child, trained(plans[child], store.root()))
    assert [path.id for path in store.paths()[1:]] == [plan.candidate.id for plan in plans]


def test_the_pool_is_the_root_and_the_latest_winner_of_every_task(store: Store) -> None:
    first = grow(store, "b", "a")
    assert store.pool().paths == (first[1], first[0])
    (later,) = grow(store, "b")
    assert store.best("b") == later
    assert store.pool().paths == (first[1], later)
    assert store.pool().tasks == ("a", "b")


def test_everything_can_be_written_twice(store: Store) -> None:
    run = store.begin_run({}, ["a"])
    key = run.segments[0].key
    plans = [planned("a", store.root(), child) for child in range(2)]
    outcomes = [trained(plans[0], store.root()), Failed(plans[1].candidate.id, "error", "first words")]
    again = [trained(plans[0], store.root(), seconds=9.0), Failed(plans[1].candidate.id, "error", "other words")]
    store.plan_generation(key, 0, plans)
    for some in (outcomes, again):
        for child, outcome in enumerate(some):
            store.commit_outcome(key, 0, child, outcome)
    store.plan_generation(key, 0, [replace(plan, predicted_seconds=7.0) for plan in plans])
    assert store.candidates(key)[0].cost.seconds == 1.0
    winner = outcomes[0].path
    golden = sample_golden(winner, store.components(part.digest for part in winner.parts))
    before = None
    for _ in range(2):
        store.finish_segment(key, winner.id, golden)
        store.finish_run(run.id)
        assert before in (None, counts(store))
        before = counts(store)
    with pytest.raises(Conflict, match="not open"):
        store.plan_generation(key, 1, plans)


def test_another_result_of_the_same_candidate_is_refused(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plan = planned("a", store.root(), 0)
    store.plan_generation(key, 0, [plan])
    store.commit_outcome(key, 0, 0, trained(plan, store.root(), quality=0.5))
    before = counts(store)
    for other in (trained(plan, store.root(), quality=0.6), Failed(plan.candidate.id, "error", "late")):
        with pytest.raises(Conflict, match="DONE with another outcome"):
            store.commit_outcome(key, 0, 0, other)
    assert counts(store) == before


def test_a_plan_cannot_change(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plans = [planned("a", store.root(), child) for child in range(2)]
    store.plan_generation(key, 0, plans)
    changed = replace(plans[1], hyperparameters=replace(plans[1].hyperparameters, learning_rate=0.5))
    for other in (plans[:1], [plans[0], changed], [*plans, planned("a", store.root(), 2)]):
        with pytest.raises(Conflict, match="other children before"):
            store.plan_generation(key, 0, other)
    assert [record.planned for record in store.candidates(key)] == plans


def test_contradictions_are_refused(store: Store) -> None:
    run = store.begin_run({}, ["a"])
    key, root = run.segments[0].key, store.root()
    plans = [planned("a", root, child) for child in range(2)]
    store.plan_generation(key, 0, plans)
    first, second = (trained(plan, root) for plan in plans)
    digest = next(iter(first.components))
    orphan = replace(first.path, parts=(replace(first.path.parts[0], trained_by="f" * 64), *first.path.parts[1:]))
    foreign = replace(first.path, parts=(replace(first.path.parts[0], task="b"), *first.path.parts[1:]))
    stranger = replace(first.path, parent=second.path.id)
    mislabelled = {**first.components, digest: component("other", 1)}
    refused: list[tuple[str, Any]] = [
        ("but of another", lambda: store.commit_outcome(key, 0, 0, Failed("f" * 64, "error", ""))),
        ("but of another", lambda: store.commit_outcome(key, 0, 0, replace(first, path=stranger))),
        ("not planned", lambda: store.commit_outcome(key, 1, 0, first)),
        ("no segment", lambda: store.plan_generation(SegmentKey(run.id, 9), 0, plans)),
        ("one place", lambda: store.plan_generation(key, 1, [plans[0], plans[0]])),
        ("trained before", lambda: store.plan_generation(key, 1, plans[1:])),
        ("no path", lambda: store.plan_generation(key, 1, [planned("a", first.path, 0)])),
        ("whose digest is", lambda: store.commit_outcome(key, 0, 0, replace(first, components=mislabelled))),
        ("not stored", lambda: store.commit_outcome(key, 0, 0, replace(first, traces={}))),
        ("unknown path", lambda: store.commit_outcome(key, 0, 0, replace(first, path=orphan))),
        ("maker's", lambda: store.commit_outcome(key, 0, 0, replace(first, path=foreign))),
        ("has candidates without", lambda: store.finish_segment(key, None, None)),
        ("belong together", lambda: store.finish_segment(key, first.path.id, None)),
        ("no run 7", lambda: store.finish_run(7)),
    ]
    store.commit_outcome(key, 0, 1, second)
    before = counts(store)
    for words, refuse in refused:
        with pytest.raises(UserError, match=words):
            refuse()
    assert counts(store) == before


def test_a_segment_may_end_without_a_path(store: Store) -> None:
    run = store.begin_run({}, ["a"])
    plan = planned("a", store.root(), 0)
    store.plan_generation(run.segments[0].key, 0, [plan])
    store.commit_outcome(run.segments[0].key, 0, 0, Failed(plan.candidate.id, "out of memory", "killed"))
    store.finish_segment(run.segments[0].key, None, None)
    store.finish_run(run.id)
    assert store.best("a") is None
    assert store.pool().paths == ()


def test_a_path_that_wins_again_keeps_its_first_golden_outputs(store: Store) -> None:
    (winner,) = grow(store, "a")
    first = store.golden(winner.id)
    assert first is not None
    run = store.begin_run({}, ["a"])
    store.finish_segment(run.segments[0].key, winner.id, replace(first, logits=first.logits + 1))
    kept = store.golden(winner.id)
    assert kept is not None
    assert kept.logits.tobytes() == first.logits.tobytes()
    assert (kept.backend, kept.versions, kept.batch_shape) == (first.backend, first.versions, first.batch_shape)
    assert store.golden(store.root().id) is None


def test_the_winner_must_be_a_path_of_the_task(store: Store) -> None:
    winner, _ = grow(store, "a", "b")
    golden = store.golden(winner.id)
    run = store.begin_run({}, ["b"])
    with pytest.raises(Conflict, match="no path"):
        store.finish_segment(run.segments[0].key, winner.id, golden)


def test_an_outcome_is_written_whole_or_not_at_all(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    plan = planned("a", store.root(), 0)
    outcome = trained(plan, store.root())
    store.plan_generation(key, 0, [plan])
    before, statements = counts(store), 0

    class InjectedError(Exception):
        pass

    def fail_at(limit: int) -> Any:
        seen = 0

        def before_execute(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
            nonlocal seen, statements
            seen += 1
            statements = max(statements, seen)
            if seen == limit:
                raise InjectedError(statement)

        return before_execute

    count = fail_at(0)
    event.listen(store._engine, "before_cursor_execute", count)
    store.plan_generation(key, 0, [plan])
    event.remove(store._engine, "before_cursor_execute", count)
    limit = 1
    while True:
        hook = fail_at(limit)
        event.listen(store._engine, "before_cursor_execute", hook)
        try:
            store.commit_outcome(key, 0, 0, outcome)
        except InjectedError:
            event.remove(store._engine, "before_cursor_execute", hook)
            assert counts(store) == before
            assert store.candidates(key)[0].state == "QUEUED"
            limit += 1
        else:
            event.remove(store._engine, "before_cursor_execute", hook)
            break
    assert limit > 12
    assert counts(store)["paths"] == before["paths"] + 1
    assert store.path(outcome.path.id) == outcome.path
