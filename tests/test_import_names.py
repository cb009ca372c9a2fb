"""A task that comes under a second name is a task of its own, beside the first and with the same weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from cli_calls import ALIKE, QUICK, done, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_samples import forward, grow, grow_segment, new_store, sample_task

from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.export import export_system, export_task
from mutant.storage.importing import import_tasks
from mutant.storage.lineage import blame, impact
from mutant.storage.records import SegmentKey
from mutant.storage.refusals import Conflict
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.whole import open_source


@pytest.fixture
def source(tmp_path: FilePath) -> Iterator[Store]:
    (tmp_path / "source").mkdir()
    with new_store(tmp_path / "source", "a", "b") as store:
        grow(store, "a", "b")
        yield store


def outputs(store: Store) -> dict[str, bytes]:
    """The golden outputs of each task's path."""
    found = {path.task or "": store.golden(path.id) for path in store.pool().paths}
    return {task: golden.logits.tobytes() for task, golden in found.items() if golden is not None}


def check_sound(store: Store, *tasks: str) -> None:
    """Each of `tasks` has a path of its own, whose lineage, makers and proofs hold together."""
    paths = store.pool().paths
    assert [path.task for path in paths] == list(tasks)
    assert len({path.id for path in paths}) == len(paths)
    known = {path.id: path for path in store.paths()}
    for path in paths:
        line = {one.id for one in store.ancestors(path.id)}
        assert {part.trained_by for part in path.parts} <= line | {""}
        assert all(part.task == (known[part.trained_by].task if part.trained_by else None) for part in path.parts)
    report = verify(store, forward, everything=True)
    assert report.ok
    assert [task.task for task in report.tasks if task.verdict == "identical"] == list(tasks)


@pytest.mark.parametrize("first", ["second name", "own name"])
def test_a_second_name_beside_the_first_in_either_order(database: str, source: Store, first: str) -> None:
    theirs = source.best("b")
    assert theirs is not None
    with new_store(database) as target:
        orders = [(None, "b"), ("b2", "b2")]
        for name, _ in orders if first == "own name" else orders[::-1]:
            (found,) = import_tasks(source, target, ["b"], name=name)
            assert found.new
        names = ("b", "b2") if first == "own name" else ("b2", "b")
        check_sound(target, *names)
        b, b2 = target.best("b"), target.best("b2")
        assert b is not None
        assert b2 is not None
        assert (b, target.ancestors(b.id)) == (theirs, source.ancestors(theirs.id))
        assert (b2.version, b2.parent) == (b.version, b.parent)
        assert [part.digest for part in b2.parts] == [part.digest for part in b.parts]
        assert found.components == 0  # the second time they were here
        assert {one.id for one in target.paths(task="b2")} == {b2.id}
        before = digest(target)
        again = (*import_tasks(source, target, ["b"]), *import_tasks(source, target, ["b"], name="b2"))
        assert [(one.path, one.new) for one in again] == [(b.id, False), (b2.id, False)]
        assert digest(target) == before


def test_what_can_be_done_with_both_names(new_database: Callable[[], str], tmp_path: FilePath, source: Store) -> None:
    with new_store(new_database()) as target:
        import_tasks(source, target, ["b"])
        import_tasks(source, target, ["b"], name="b2")
        b, b2 = target.best("b"), target.best("b2")
        assert b is not None
        assert b2 is not None
        with target.reading() as connection:
            head = b2.slots["head"].digest
            assert blame(connection, head).path == b.id
            assert dict(impact(connection, head).active) == {"b": "head", "b2": "head"}
        answers = outputs(target)
        assert answers["b"] == answers["b2"]
        run = target.begin_run({}, ["b2"])
        child = grow_segment(target, SegmentKey(run.id, 0), "b2", b2)
        target.finish_run(run.id)
        assert [one.task for one in target.ancestors(child.id)] == ["b2", "b2", "a", None]
        check_sound(target, "b", "b2")
        remove(target, "b")  # nothing of b2 is b's
        gc(target)
        check_sound(target, "b2")
        for name in ("task", "whole"):
            export_task(target, "b2", tmp_path / name) if name == "task" else export_system(target, tmp_path / name)
            with open_source(str(tmp_path / name)) as copy:
                check_sound(copy, "b2")


def test_into_the_system_that_it_comes_from(database: str) -> None:
    with new_store(database, "a", "b") as store:
        grow(store, "a", "b")
        answers = outputs(store)
        with Store.open(database, read_only=True) as same:
            (found,) = import_tasks(same, store, ["b"], name="b2")
            assert (found.new, found.paths, found.components) == (True, 1, 0)
        check_sound(store, "a", "b", "b2")
        assert outputs(store) == answers | {"b2": answers["b"]}


def test_a_parent_whose_task_had_to_be_renamed_comes_under_its_own_name_as_well(database: str, source: Store) -> None:
    """Its row came with the child that descends from it; then it is imported itself."""
    with new_store(database) as target:
        target.add_task(replace(sample_task("a"), fingerprint="0" * 64))
        import_tasks(source, target, ["b"])
        (renamed,) = {task.name for task in target.tasks(removed=True)} - {"a", "b"}
        import_tasks(source, target, ["a"], name="theirs")
        check_sound(target, "b", "theirs")
        import_tasks(source, target, ["a"], name=renamed)
        check_sound(target, "b", renamed, "theirs")
        b = target.best("b")
        assert b is not None
        assert [one.task for one in target.ancestors(b.id)] == ["b", renamed, None]


@pytest.mark.slow
def test_the_commands_know_both_names(tmp_path: FilePath) -> None:
    """Also `add`, which draws children of all paths; in the same system, and in another in the other order."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    for db in (one, other):
        done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    settings = ("--no-baseline", *QUICK, *ALIKE)
    done("add", f"folder:{write_folder(tmp_path / 'first')}", "--name", "first", *settings, "--db", one)
    done("import", one, "first", "--name", "second", "--db", one)
    done("import", one, "first", "--name", "second", "--db", other)
    done("import", one, "first", "--db", other)
    third = write_folder(tmp_path / "third", images=12)
    for db, names in ((one, ["first", "second"]), (other, ["second", "first"])):
        assert [task["task"] for task in done("list", "--json", "--db", db).json] == names
        done("add", f"folder:{third}", "--name", "third", *settings, "--db", db)
        for name in (*names, "third"):
            assert done("show", name, "--json", "--db", db).json["path"]["task"] == name
            done("lineage", name, "--db", db)
        done("report", "metrics", "--db", db)
        done("plot", "--out", tmp_path / "model.png", "--db", db)
        done("rm", "first", "--force", "--db", db)
        done("gc", "--db", db)
        assert [task["verdict"] for task in done("verify", "--json", "--db", db).json["tasks"]] == ["identical"] * 2


NAMES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["a", "b", "c", "d"])), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=15)
@given(NAMES)
def test_any_sequence_of_names_leaves_a_sound_system(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, str]]
) -> None:
    """Also a name that an ancestor's task has: what cannot be is refused, and the rest holds together."""
    directory = tmp_path_factory.mktemp("names")
    (directory / "source").mkdir()
    with new_store(directory / "source", "a", "b") as source, new_store(directory) as target:
        grow(source, "a", "b")
        taken: dict[str, str] = {}
        for task, name in wanted:
            free = taken.get(name, task) == task and not any(
                one.name == name and one.fingerprint != source.task(task).fingerprint
                for one in target.tasks(removed=True)
            )
            result = _refused(lambda task=task, name=name: import_tasks(source, target, [task], name=name))
            assert result is not free
            if free:
                taken[name] = task
        answers = outputs(target)
        assert {name: outputs(source)[task] for name, task in taken.items()} == answers
        order = [task.name for task in target.tasks()]
        assert set(order) == set(taken)
        check_sound(target, *order)


def _refused(doing: Callable[[], object]) -> bool:
    try:
        doing()
    except Conflict:
        return True
    return False
