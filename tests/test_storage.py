"""What goes into the store comes out of it, once, whole and in order."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from storage_samples import (
    counts,
    grow,
    new_store,
    planned,
    sample_info,
    sample_root,
    sample_task,
    trained,
)

from mutant.mutation import NewHead, SetHyperparameter
from mutant.outcome import Cost
from mutant.storage.permit import collecting
from mutant.storage.records import Baseline, Evaluation
from mutant.storage.refusals import Conflict, Damaged
from mutant.storage.schema import WeightsRow
from mutant.storage.store import Store
from mutant.tasks.errors import UserError


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with new_store(database, "a", "b") as opened:
        yield opened


# The system


def test_a_mistake_of_the_program_is_not_told_as_damage(store: Store) -> None:
    """Only what making values of rows raises is damage."""
    for mistake in (KeyError("x"), TypeError("x"), ValueError("x"), IndexError("x"), AttributeError("x")):
        for transaction in (store.reading, store.writing, store.changing):
            with pytest.raises(type(mistake)), transaction():
                raise mistake
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError):
        store.components(nothing[name] for name in ("no such name",))
    with store.writing() as connection, collecting(connection):
        connection.execute(text("UPDATE paths SET hyperparameters = '[1]'"))
    with pytest.raises(Damaged, match=r"The database .* is damaged"):
        store.paths()


def test_a_system_remembers_its_root(database: str, store: Store) -> None:
    root, components = sample_root()
    assert store.root() == root
    assert store.info == sample_info()
    assert [store.component(c.digest) for c in components] == components
    with Store.open(database, read_only=True) as again:
        assert again.root() == root
        assert again.info == sample_info()
        assert again.info.created_at.utcoffset() is not None
        assert again.pool().paths == ()
        assert again.pool().root == root


def test_making_a_system_twice(database: str, store: Store) -> None:
    url, (root, components) = database, sample_root()
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


def test_a_root_without_all_of_its_components_leaves_no_system(database: str) -> None:
    root, components = sample_root()
    with pytest.raises(Conflict, match="not stored"):
        Store.create(database, sample_info(), root, components[1:])
    with pytest.raises(UserError, match=r"empty.*mutant init"):
        Store.open(database)
    with Store.create(database, sample_info(), root, components) as made:
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


def test_an_unknown_task_names_the_nearest(new_database: Callable[[], str], store: Store) -> None:
    store.add_task(sample_task("cifar10"))
    for ask in (store.task, store.best, store.evaluations, store.baselines, lambda name: store.paths(task=name)):
        with pytest.raises(UserError, match=r"cifra10.*cifar10.*mutant list"):
            ask("cifra10")
    with new_store(new_database()) as empty, pytest.raises(UserError, match="mutant add"):
        empty.task("a")


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


def test_weights_that_were_changed_are_not_given_out(store: Store) -> None:
    (winner,) = grow(store, "a")
    part = winner.parts[-1]
    assert part.trace is not None
    blobs = store.depot.blobs
    with store.writing() as connection, collecting(connection):
        for digest in (part.digest, part.trace):
            inside = connection.scalar(select(WeightsRow.data).where(WeightsRow.digest == digest))
            beside = None if blobs is None or inside is not None else blobs.get(digest)
            data = bytearray(inside or beside or b"")
            data[-1] ^= 1
            if inside is None and blobs is not None:
                blobs.put(digest, bytes(data))
                continue
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
