"""Who descends from whom, also in a deep line."""

import pytest
from sqlalchemy import text
from storage_samples import grow, new_store

from mutant.storage.permit import collecting
from mutant.storage.refusals import Damaged
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
