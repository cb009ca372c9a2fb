"""Who descends from whom, also in a deep line; who made a component and who needs it; what a removal leaves."""

from pathlib import Path as FilePath

import pytest
from sqlalchemy import text
from storage_samples import grow, new_store, sample_task

from mutant.storage import lineage
from mutant.storage.comparison import compare
from mutant.storage.permit import collecting
from mutant.storage.records import SegmentKey
from mutant.storage.refusals import Conflict, Damaged
from mutant.storage.removal import remove, undo
from mutant.tasks.errors import UserError


def test_ancestors_run_from_the_path_to_the_root(database: str) -> None:
    with new_store(database, "a", "b", "c") as store:
        a, b, c = grow(store, "a", "b", "c")
        assert store.ancestors(c.id) == (c, b, a, store.root())
        assert store.ancestors(a.id[:12]) == (a, store.root())
        assert store.ancestors(store.root().id) == (store.root(),)
        with pytest.raises(UserError, match="no path"):
            store.ancestors("f" * 64)


def test_descendants_are_all_that_came_of_a_path(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b")
        everything = store.paths()
        assert store.descendants(store.root().id) == everything[1:]
        assert {path.id for path in store.descendants(a.id)} == {path.id for path in store.paths(task="b")}
        assert store.descendants(b.id) == ()


def test_a_long_line(database: str) -> None:
    with new_store(database, "a") as store:
        winners = grow(store, *["a"] * 30, children=1)
        line = store.ancestors(winners[-1].id)
        assert [path.id for path in line] == [path.id for path in (*reversed(winners), store.root())]


def test_a_line_that_was_bent_into_a_circle_is_told(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b")
        with store.writing() as connection, collecting(connection):
            connection.execute(
                text("UPDATE paths SET parent_key = (SELECT key FROM paths WHERE id = :b) WHERE id = :a"),
                {"a": a.id, "b": b.id},
            )
        with pytest.raises(Damaged, match="root"):
            store.ancestors(b.id)


def test_blame_names_the_maker_and_what_it_started_from(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b")
        with store.reading() as connection:
            norm, head, embedding = (
                lineage.blame(connection, b.slots[s].digest) for s in ("norm", "head", "embedding")
            )
        assert (norm.path, norm.task, norm.parent, norm.slot, norm.weights) == (b.id, "b", a.id, "norm", "stored")
        assert norm.source == a.slots["norm"]
        assert norm.place is not None
        assert (norm.place.run, norm.place.segment, norm.place.generation) == (1, 1, 0)
        assert store.candidates(SegmentKey(1, 1))[norm.place.child].path == b.id
        assert (head.path, head.source) == (b.id, None)
        assert (embedding.task, embedding.path, embedding.place) == (None, store.root().id, None)


def test_impact_tells_the_tasks_that_break(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b", children=3)
        with store.reading() as connection:
            own, shared = (
                lineage.impact(connection, one) for one in (b.slots["head"].digest, a.slots["embedding"].digest)
            )
        assert (dict(own.active), dict(own.paths), own.root) == ({"b": "head"}, {"b": 1}, False)
        assert (list(shared.active), dict(shared.paths), shared.root) == (["a", "b"], {"a": 3, "b": 3}, True)
        remove(store, "b")
        with store.reading() as connection:
            after = lineage.impact(connection, a.slots["embedding"].digest)
        assert (list(after.active), dict(after.paths)) == (["a"], {"a": 3, "b": 3})


def test_a_component_is_named_by_a_beginning_that_is_unique(database: str) -> None:
    with new_store(database, "a") as store, store.reading() as connection:
        digest = store.root().parts[0].digest
        assert lineage.component_id(connection, digest[:8].upper()) == digest
        wrong = digest[:8] + ("0" if digest[8] != "0" else "1")
        with pytest.raises(UserError, match=rf"no component '{wrong}'\. Nearest: '{digest[:12]}'"):
            lineage.component_id(connection, wrong)
        with pytest.raises(UserError, match="no component 'zebra'"):
            lineage.component_id(connection, "zebra")


def test_two_paths_side_by_side(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a", "b") as store:
        a, b = grow(store, "a", "b")
        found = compare(store, a.id, b.id)
        assert [part.slot for part in found.shared] == ["embedding", "block_00"]
        assert [old.slot for old, _ in found.differing] == ["adapter_00", "norm", "head"]
        assert (found.removed, found.added, found.hyperparameters) == ((), (), {})
        assert (found.ancestor, found.before_steps) == (a.id, ())
        assert [(step.path, step.mutations) for step in found.after_steps] == [(b.id, b.mutations)]
        start = compare(store, store.root().id, a.id)
        assert [part.slot for part in start.added] == ["adapter_00", "head"]
        assert start.hyperparameters["momentum"] == (0.9, None)
        assert compare(store, b.id, b.id).shared_parameters == b.n_parameters


def test_a_removed_task_answers_no_more_and_its_lineage_stays(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b")
        with pytest.raises(Conflict, match=r"Other tasks build on 'a': b \(descends from it\).*--force"):
            remove(store, "a")
        assert [builder.task for builder in remove(store, "a", force=True).builders] == ["b"]
        assert [task.name for task in store.tasks()] == ["b"]
        assert [path.id for path in store.pool().paths] == [b.id]
        assert store.ancestors(b.id) == (b, a, store.root())
        for use in (store.best, store.task, lambda name: remove(store, name), lambda name: store.begin_run({}, [name])):
            with pytest.raises(UserError, match=r"'a' was removed.*--undo"):
                use("a")
        with pytest.raises(Conflict, match=r"removed task.*--name"):
            store.add_task(sample_task("a"))
        undo(store, "a")
        assert store.best("a") == a
        with pytest.raises(UserError, match="not removed"):
            undo(store, "a")
        with pytest.raises(UserError, match="Unknown task 'aa'"):
            remove(store, "aa")
