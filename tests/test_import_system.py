"""Tasks come into another system with all their lineage, share what is there, answer alike and become parents."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
import storage_samples
from sqlalchemy import text
from storage_samples import counts, forward, grow, grow_segment, new_store, sample_task, trained

from mutant.outcome import Trained
from mutant.path import Path
from mutant.position import derive
from mutant.storage.digest import digest
from mutant.storage.export import export_system, export_task
from mutant.storage.importing import import_tasks
from mutant.storage.records import Evaluation, Planned, SegmentKey
from mutant.storage.refusals import Conflict, Damaged
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.whole import open_source
from mutant.tasks.errors import UserError


@pytest.fixture
def source(tmp_path: FilePath) -> Iterator[Store]:
    (tmp_path / "source").mkdir()
    with new_store(tmp_path / "source", "a", "b", "c") as store:
        grow(store, "a", "b")
        yield store


def test_a_task_comes_with_its_lineage(database: str, source: Store) -> None:
    best = source.best("b")
    assert best is not None
    source.record_evaluation(Evaluation(best.id, "b", "test", 0.5, 10, "f" * 64))
    with new_store(database, "x") as target:
        (x,) = grow(target, "x")
        (found,) = import_tasks(source, target, ["b"])
        assert (found.name, found.path, found.new, found.paths) == ("b", best.id, True, 2)
        assert (found.components, found.shared) == (3, 2)
        assert target.ancestors(best.id) == source.ancestors(best.id)
        assert [task.name for task in target.tasks()] == ["x", "b"]
        assert [task.name for task in target.tasks(removed=True)] == ["x", "b", "a"]
        assert target.evaluations("b") == source.evaluations("b")
        report = verify(target, forward, everything=True)
        assert report.ok
        assert [task.verdict for task in report.tasks] == ["identical", "identical"]
        assert target.best("x") == x
        child = target.begin_run({}, ["x"])
        made = grow_segment(target, SegmentKey(child.id, 0), "x", best)
        assert target.ancestors(made.id)[1].id == best.id


def test_the_same_again_changes_nothing(tmp_path: FilePath, source: Store) -> None:
    with new_store(tmp_path) as target:
        assert [one.name for one in import_tasks(source, target)] == ["a", "b"]
        before = digest(target)
        assert [one.new for one in import_tasks(source, target)] == [False, False]
        assert import_tasks(target, target)[0].new is False
        assert digest(target) == before


def test_from_an_export_when_the_system_is_gone(tmp_path: FilePath, source: Store) -> None:
    best, golden = source.best("b"), source.ancestors((source.best("b") or source.root()).id)
    export_task(source, "b", tmp_path / "task")
    export_system(source, tmp_path / "whole")
    with open_source(str(tmp_path / "whole")) as copy:
        assert digest(copy) == digest(source)
    source.close()
    shutil.rmtree(tmp_path / "source")
    for name in ("task", "whole"):
        (tmp_path / f"into {name}").mkdir()
        with open_source(str(tmp_path / name)) as theirs, new_store(tmp_path / f"into {name}") as target:
            import_tasks(theirs, target, ["b"])
            assert target.best("b") == best
            assert target.ancestors("" if best is None else best.id) == golden
            assert verify(target, forward).ok


def test_a_name_that_is_taken_needs_another(tmp_path: FilePath, source: Store) -> None:
    with new_store(tmp_path) as target:
        target.add_task(replace(sample_task("b"), fingerprint="0" * 64))
        before, rows = digest(target), counts(target)
        with pytest.raises(Conflict, match=r"other images.*--name NEW"):
            import_tasks(source, target)
        assert (digest(target), counts(target)) == (before, rows)  # not even the first task, which would fit
        with pytest.raises(UserError, match="one task at a time"):
            import_tasks(source, target, name="new")
        with pytest.raises(UserError, match="cannot be called"):
            import_tasks(source, target, ["b"], name="New one")
        (found,) = import_tasks(source, target, ["b"], name="new")
        path = target.best("new")
        assert path is not None
        assert (found.name, path.id, path.task, {part.task for part in path.parts}) == (
            "new",
            found.path,
            "new",
            {None, "new"},
        )
        assert verify(target, forward).ok


def test_another_model_of_the_same_data_stays(tmp_path: FilePath, source: Store) -> None:
    with new_store(tmp_path, "a") as target:
        run = target.begin_run({}, ["a"])
        own = grow_segment(target, SegmentKey(run.id, 0), "a", target.root(), seed=99)
        target.finish_run(run.id)
        with pytest.raises(Conflict, match="another model"):
            import_tasks(source, target, ["a"])
        import_tasks(source, target, ["a"], name="theirs")
        assert target.best("a") == own
        assert verify(target, forward).ok


def test_an_ancestor_of_the_same_id_with_other_weights_gets_an_id_of_its_own(
    tmp_path: FilePath, source: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two systems of one seed can train the same candidate otherwise."""
    theirs = source.best("a")
    assert theirs is not None
    with new_store(tmp_path, "a") as target:
        with monkeypatch.context() as patched:
            patched.setattr(storage_samples, "trained", _trained_otherwise)
            (ours,) = grow(target, "a")
        mine = {path.id: path for path in target.paths(task="a")}
        assert theirs.id in mine
        assert mine[theirs.id].version != theirs.version
        (found,) = import_tasks(source, target, ["b"])
        b, a, root = target.ancestors(found.path)
        assert (b.version, a.version, root) == ((source.best("b") or root).version, theirs.version, target.root())
        assert a.id not in {path.id for path in source.paths()}
        assert {part.trained_by for part in b.parts} == {b.id, ""}
        assert target.best("a") == ours
        assert verify(target, forward).ok


def _trained_otherwise(plan: Planned, parent: Path) -> Trained:
    """The same candidate's outcome with other weights."""
    usual = derive
    storage_samples.derive = lambda *what: usual("otherwise", *what)
    try:
        return trained(plan, parent)
    finally:
        storage_samples.derive = usual


def test_a_task_that_was_removed_comes_back_by_import(tmp_path: FilePath, source: Store) -> None:
    with new_store(tmp_path) as target:
        import_tasks(source, target)
        remove(target, "a", force=True)
        assert [task.name for task in target.tasks()] == ["b"]
        (found,) = import_tasks(source, target, ["a"])
        assert (found.new, found.paths) == (True, 0)
        assert [task.name for task in target.tasks()] == ["a", "b"]
        assert verify(target, forward).ok


def test_what_cannot_be_imported(tmp_path: FilePath, source: Store, new_database: Callable[[], str]) -> None:
    with new_store(new_database(), seed=7) as other:
        with pytest.raises(UserError, match=r"another root.*its own root alone"):
            import_tasks(source, other)
        assert other.tasks() == ()
    with new_store(new_database()) as target:
        with pytest.raises(UserError, match="no trained path"):
            import_tasks(source, target, ["c"])
        with pytest.raises(UserError, match=r"Unknown task 'bb'"):
            import_tasks(source, target, ["bb"])
        with source.writing() as connection:
            connection.execute(text("DROP TRIGGER frozen_weights_delete"))
            connection.execute(text("DELETE FROM weights WHERE digest = :d"), {"d": _own(source)})
        before = digest(target)
        with pytest.raises(Damaged, match="not in the database"):
            import_tasks(source, target)
        assert digest(target) == before
    with pytest.raises(UserError, match="holds no exported system"):
        open_source(str(tmp_path))


def _own(store: Store) -> str:
    best = store.best("b")
    assert best is not None
    return best.slots["norm"].digest
