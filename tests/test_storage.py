"""What goes into the store comes out of it, once, whole and in order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, text
from storage_samples import (
    component,
    grow,
    grow_segment,
    new_store,
    planned,
    sample_golden,
    sample_info,
    sample_root,
    sample_task,
    trained,
)

from mutant.mutation import NewHead, SetHyperparameter
from mutant.outcome import Cost, Failed
from mutant.storage.faults import Conflict, Damaged
from mutant.storage.records import Baseline, Evaluation, SegmentKey
from mutant.storage.schema import Base, ComponentRow, PartRow, WeightsRow
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@pytest.fixture
def store(tmp_path: FilePath) -> Iterator[Store]:
    with new_store(tmp_path, "a", "b") as opened:
        yield opened


def counts(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


# The system


def test_a_system_remembers_its_root(tmp_path: FilePath, store: Store) -> None:
    root, components = sample_root()
    assert store.root() == root
    assert store.info == sample_info()
    assert [store.component(c.digest) for c in components] == components
    with Store.open(str(tmp_path / "mutant.db"), read_only=True) as again:
        assert again.root() == root
        assert again.info == sample_info()
        assert again.info.created_at.utcoffset() is not None
        assert again.pool().paths == ()
        assert again.pool().root == root


def test_making_a_system_twice(tmp_path: FilePath, store: Store) -> None:
    url, (root, components) = str(tmp_path / "mutant.db"), sample_root()
    with pytest.raises(UserError, match="already"):
        Store.create(url, sample_info(), root, components)
    with Store.create(url, sample_info(), root, components, exist_ok=True) as same:
        assert [task.name for task in same.tasks()] == ["a", "b"]
    other, others = sample_root(1)
    with pytest.raises(UserError, match="another root or seed"):
        Store.create(url, sample_info(1), other, others, exist_ok=True)


def test_an_empty_file_can_become_a_system(tmp_path: FilePath) -> None:
    (tmp_path / "mutant.db").touch()
    with new_store(tmp_path) as made:
        assert made.tasks() == ()


def test_a_root_without_all_of_its_components_leaves_no_system(tmp_path: FilePath) -> None:
    root, components = sample_root()
    with pytest.raises(Conflict, match="not stored"):
        Store.create(str(tmp_path / "mutant.db"), sample_info(), root, components[1:])
    with pytest.raises(UserError, match=r"empty.*mutant init"):
        Store.open(str(tmp_path / "mutant.db"))
    with Store.create(str(tmp_path / "mutant.db"), sample_info(), root, components) as made:
        assert made.root() == root


# Tasks


def test_tasks_come_back_in_order_of_arrival(store: Store) -> None:
    store.add_task(sample_task("0 later", classes=5))
    assert [task.name for task in store.tasks()] == ["a", "b", "0 later"]
    assert store.task("0 later") == sample_task("0 later", classes=5)


def test_a_task_again_is_nothing_new_and_another_of_its_name_is_refused(store: Store) -> None:
    before = counts(store)
    store.add_task(sample_task("a"))
    assert counts(store) == before
    with pytest.raises(Conflict, match="other images"):
        store.add_task(replace(sample_task("a"), fingerprint="f" * 64))


def test_an_unknown_task_names_the_nearest(tmp_path: FilePath, store: Store) -> None:
    store.add_task(sample_task("cifar10"))
    for ask in (store.task, store.best, store.evaluations, store.baselines, lambda name: store.paths(task=name)):
        with pytest.raises(UserError, match=r"cifra10.*cifar10.*mutant list"):
            ask("cifra10")
    (tmp_path / "empty").mkdir()
    with new_store(tmp_path / "empty") as empty, pytest.raises(UserError, match="mutant add"):
        empty.task("a")


# Runs and outcomes


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


# Facts found later


def test_evaluations_baselines_and_events(store: Store) -> None:
    winner, _ = grow(store, "a", "b")
    first = Evaluation(winner.id, "a", "test", 0.5, 100, "f" * 64)
    store.record_evaluation(first)
    store.record_evaluation(replace(first, fingerprint="e" * 64))
    store.record_evaluation(replace(first, accuracy=0.75))
    assert [(e.fingerprint[0], e.accuracy) for e in store.evaluations("a")] == [("e", 0.5), ("f", 0.75)]
    assert store.evaluations("b") == ()
    baseline = Baseline("head-only", "b", 0.5, None, 12, {"learning_rate": 0.1}, Cost(1.0, 2, 3.0))
    store.record_baseline(baseline)
    store.record_baseline(replace(baseline, test_accuracy=0.25))
    assert store.baselines() == (replace(baseline, test_accuracy=0.25),)
    assert store.baselines("a") == ()
    store.record_event(1, "settings changed", {"workers": [1, 2]})
    store.record_event(None, "opened", {})
    assert [(e.run, e.kind, e.data) for e in store.events()] == [
        (1, "settings changed", {"workers": [1, 2]}),
        (None, "opened", {}),
    ]
    assert [e.kind for e in store.events(1)] == ["settings changed"]


# Looking paths up


def test_paths_are_found_by_the_beginning_of_their_id(store: Store) -> None:
    (winner,) = grow(store, "a")
    assert store.path(winner.id[:10].upper()) == winner
    for nonsense in ("", "zzz", "%", "g" * 64, "0" * 63 + "a", "1;drop", winner.id + "0"):
        with pytest.raises(UserError, match="mutant list"):
            store.path(nonsense)


@given(st.integers(1, 4))
def test_an_ambiguous_beginning_lists_what_it_may_be(length: int) -> None:
    from mutant.storage import paths

    class Scalars:
        def scalars(self, query: object) -> list[str]:
            return ["abcd" + "0" * 60, "abcd" + "1" * 60]

    with pytest.raises(UserError, match="More than one"):
        paths.full_id(Scalars(), "abcd"[:length])  # type: ignore[arg-type]


# One transaction


def test_an_outcome_is_written_whole_or_not_at_all(tmp_path: FilePath, store: Store) -> None:
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


def test_weights_that_were_changed_are_not_given_out(store: Store) -> None:
    (winner,) = grow(store, "a")
    part = winner.parts[-1]
    assert part.trace is not None
    with store.writing() as connection:
        for digest in (part.digest, part.trace):
            data = bytearray(connection.scalar(select(WeightsRow.data).where(WeightsRow.digest == digest)) or b"")
            data[-1] ^= 1
            connection.execute(
                text("UPDATE weights SET data = :data WHERE digest = :digest"),
                {"data": bytes(data), "digest": digest},
            )
    with pytest.raises(Damaged, match="mutant verify"):
        store.component(part.digest)
    with pytest.raises(Damaged, match="have changed"):
        store.trace(part.trace)
    with pytest.raises(Damaged, match="not in the database"):
        store.component("f" * 64)


def test_settings_that_are_no_json_are_the_callers_fault(store: Store) -> None:
    for config in ({"a": {1, 2}}, {"a": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            store.begin_run(config, ["a"])
    assert store.runs() == ()


def test_other_hyperparameters_and_mutations_come_back(store: Store) -> None:
    key = store.begin_run({}, ["a"]).segments[0].key
    mutations = (SetHyperparameter("flip", True), SetHyperparameter("learning_rate", 0.0001), NewHead(7))
    plan = planned("a", store.root(), 0, mutations=mutations)
    plan = replace(plan, hyperparameters=replace(plan.hyperparameters, flip=True, learning_rate=0.0001, momentum=0.9))
    store.plan_generation(key, 0, [plan])
    outcome = trained(plan, store.root())
    store.commit_outcome(key, 0, 0, outcome)
    back = store.path(plan.candidate.id)
    assert back == outcome.path
    assert [type(value) for value in back.hyperparameters.to_dict().values()] == [
        type(value) for value in plan.hyperparameters.to_dict().values()
    ]
