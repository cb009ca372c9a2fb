"""What every test needs: one thread per JAX process, one compilation cache, and the examples' own settings."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from places import Place, beside
from postgres_server import Server, programs, serving
from storage_samples import new_store

from mutant.storage.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# Before anything imports JAX, and inherited by the processes that tests start: with one thread XLA sums in one order,
# so that training ends with the same bytes in every run; programs compiled once are found again by the next process.
os.environ["NPROC"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(REPOSITORY / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.02"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# What starts a process, a terminal or a server for nearly every test. Together with the tests on PostgreSQL they would
# take the quick run over its two minutes; the full run has them all.
SLOW_FILES = {
    "test_bench", "test_blobs_loose", "test_blobs_objects", "test_cli_bad_input", "test_cli_progress",
    "test_serve_command", "test_serving_engine", "test_storage_faults", "test_verify",
}  # fmt: skip

os.environ.setdefault("RAY_worker_niceness", "0")
"""Ray's workers share the cores with other tests evenly; by its default of 15 they would wait for all of them."""

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=50, **_COMMON)
settings.register_profile("ci", max_examples=50, derandomize=True, database=None, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-points",
        type=int,
        default=20,
        help="strikes of each kind in the chaos tests; with 1, what is marked `lengthy` is left out",
    )
    parser.addoption("--chaos-seed", default="0", help="at which moments they come")


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Mark what counts as slow; files with slow tests come first, so that small ones are left to share at the end."""
    for item in items:
        if item.get_closest_marker("lengthy"):
            item.add_marker(pytest.mark.chaos)
            if config.option.chaos_points == 1:
                item.add_marker(pytest.mark.skip("with more strikes: make chaos"))
        if item.path.stem in SLOW_FILES or "postgresql" in item.nodeid or item.get_closest_marker("chaos"):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data pack that may lie beside the repository; tests that want it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the data pack beside the repository: ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests of the session; skipped only where the wheel has no build for the platform."""
    if programs() is None:
        pytest.skip("needs a PostgreSQL server, and its wheel is not built for this platform")
    with serving() as server:
        yield server


BACK_ENDS = ("sqlite", "postgresql")
WITH_BLOBS = ("test_storage", "test_storage_runs", "test_collection", "test_verify")
"""The modules whose tests run on each back end with all weights in a blob store beside it, too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "new_database" in metafunc.fixturenames:
        names = BACK_ENDS if metafunc.definition.path.stem in WITH_BLOBS else ()
        with_blobs = [pytest.param(f"{name}+blobs", marks=pytest.mark.slow) for name in names]
        metafunc.parametrize("new_database", [*BACK_ENDS, *with_blobs], indirect=True)


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Names a new, empty database at every call, on each back end in turn."""
    back_end, _, blobs = request.param.partition("+")
    server: Server | None = request.getfixturevalue("postgres") if back_end == "postgresql" else None
    numbers = count()
    made: list[str] = []

    def new() -> str:
        made.append(server.new_database() if server is not None else str(tmp_path / f"mutant_{next(numbers)}.db"))
        return Place(made[-1], blobs=tmp_path / "blobs", inline_limit=0) if blobs else made[-1]

    yield new
    if server is not None:
        for url in made:
            server.drop(url)


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """An empty database, on each back end in turn."""
    return new_database()


@pytest.fixture
def blob_store(tmp_path: Path) -> Iterator[Store]:
    """A system of two tasks, all of whose weights lie in its directory `system/blobs`."""
    (tmp_path / "system").mkdir()
    with new_store(beside(tmp_path / "system"), "a", "b") as store:
        yield store
