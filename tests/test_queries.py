"""How many questions an overview asks the database: as many for a thousand tasks as for one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest
from sqlalchemy import Engine, event
from storage_samples import grow, new_store

from mutant.cli.system import status_facts
from mutant.search.metrics import metrics
from mutant.search.system import System
from mutant.storage.collection import gc
from mutant.storage.store import Store

OVERVIEWS: dict[str, Callable[[Store], object]] = {
    "open": lambda store: store.learnt(),
    "list": lambda store: System(store).summary(),
    "status": status_facts,
    "metrics": metrics,
    "pool": lambda store: store.pool(),
    "gc": lambda store: gc(store, dry_run=True),
}


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that any engine executes inside the block."""
    statements: list[str] = []

    def heard(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", heard)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", heard)


def asked(directory: FilePath, tasks: int, overview: Callable[[Store], object]) -> int:
    names = [f"task-{number}" for number in range(tasks)]
    directory.mkdir()
    with new_store(directory, *names) as store:
        grow(store, *names)
        with counted() as statements:
            overview(store)
    return len(statements)


@pytest.mark.parametrize("name", OVERVIEWS)
def test_an_overview_asks_as_much_of_many_tasks_as_of_two(name: str, tmp_path: FilePath) -> None:
    few, many = (asked(tmp_path / str(tasks), tasks, OVERVIEWS[name]) for tasks in (2, 7))
    assert 0 < many == few
