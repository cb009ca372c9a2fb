"""Runs without generations: nobody waits, every draw is recorded, and the log gives every child again."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from cli_calls import call
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ASYNC, Simulated, go_on, new_system, simulated
from sqlalchemy import text

from mutant.mutation import Clone
from mutant.search.config import RunConfig, Settings
from mutant.search.evolve import evolve
from mutant.search.growth import begin
from mutant.search.halving import stop_below
from mutant.search.progress import BudgetSpent, GenerationFinished
from mutant.search.recorded import recorded_config
from mutant.search.replay import Replay, replay
from mutant.search.resuming import changed
from mutant.storage.digest import digest
from mutant.storage.permit import collecting
from mutant.storage.records import CandidateRecord, SegmentKey
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

GENERATIONS = replace(ASYNC, asynchronous=False)
Grow = Callable[..., Store]


@pytest.fixture
def grow(tmp_path: Path) -> Iterator[Grow]:
    with growing(tmp_path) as new:
        yield new


@contextmanager
def growing(directory: Path) -> Iterator[Grow]:
    """Grows systems of two tasks: by these evaluators, all but the last of which are interrupted."""
    numbers, stores = count(), list[Store]()

    def new(chosen: Settings, *evaluators: Simulated) -> Store:
        stores.append(simulated(str(directory / f"{next(numbers)}.db"), ("a", "b"), chosen, *evaluators))
        return stores[-1]

    yield new
    for store in stores:
        store.close()


def records(store: Store, segment: int) -> tuple[CandidateRecord, ...]:
    return store.candidates(SegmentKey(1, segment))


def replayed(store: Store) -> Replay:
    return replay(store, store.run(1))


def test_with_one_worker_a_run_is_sequential_and_always_the_same(grow: Grow) -> None:
    store = grow(ASYNC, Simulated())
    for segment in (0, 1):
        found = records(store, segment)
        assert [(r.planned.known, r.arrival) for r in found] == [(n, n + 1) for n in range(12)]
        assert [(r.generation, r.child) for r in found] == [divmod(n, 4) for n in range(12)]
    assert digest(grow(ASYNC, Simulated(seed=5))) == digest(store)
    assert digest(grow(ASYNC, Simulated(strike=4), Simulated(strike=9), Simulated())) == digest(store)
    assert digest(grow(GENERATIONS, Simulated())) != digest(store)


@settings(max_examples=4)
@given(workers=st.integers(2, 6), seed=st.integers(0, 1000), strikes=st.lists(st.integers(0, 9), max_size=3))
def test_a_replay_draws_every_child_again(
    tmp_path_factory: pytest.TempPathFactory, workers: int, seed: int, strikes: list[int]
) -> None:
    """Whatever the order in which workers end, and wherever the controller was stopped."""
    tries = [Simulated(workers, seed + n, strike) for n, strike in enumerate(strikes)]
    with growing(tmp_path_factory.mktemp("grown")) as grow:
        store = grow(ASYNC, *tries, Simulated(workers, seed))
        for segment in (0, 1):
            found = records(store, segment)
            assert len(found) == 12
            assert not any(record.is_open for record in found)
            assert sorted(record.arrival or 0 for record in found) == [*range(1, 13)]
            known = [record.planned.known or 0 for record in found]
            assert known == sorted(known)
            assert all(record.planned.known < record.arrival for record in found)  # type: ignore[operator]
        assert store.best("a") is not None
        assert replayed(store) == Replay(1, True, 24)


def test_nobody_waits_for_a_slow_child(grow: Grow) -> None:
    """The first child of each segment ends last, and the other worker trains all others meanwhile."""

    class OneSlow(Simulated):
        def __init__(self) -> None:
            super().__init__(2)
            self.rng.randrange = lambda running: running - 1  # type: ignore[method-assign]

    store = grow(ASYNC, OneSlow())
    for segment in (0, 1):
        first, *others = records(store, segment)
        assert first.arrival == 12
        assert [record.planned.known for record in others] == [*range(11)]
    assert replayed(store).ok
    by_generations = records(grow(GENERATIONS, OneSlow()), 0)
    assert {record.planned.known for record in by_generations} == {None}


def test_a_run_by_generations_is_the_same_with_any_workers_and_can_be_replayed(grow: Grow) -> None:
    alone = grow(GENERATIONS, Simulated())
    many = grow(GENERATIONS, Simulated(3, 1, strike=5), Simulated(5, 2))
    assert digest(alone) == digest(many)
    assert replayed(alone) == replayed(many) == Replay(1, False, 24)


CHANGES = (
    "known = known + 4 WHERE segment = 1 AND generation = 1 AND child = 2",
    "known = 0 WHERE segment = 1 AND generation = 2 AND child = 1",
    "known = NULL WHERE segment = 1 AND generation = 0 AND child = 1",
    "arrival = 12 WHERE segment = 1 AND arrival = 3",
    "pool_version = 'q' WHERE segment = 1 AND generation = 2 AND child = 1",
    "hyperparameters = json_set(hyperparameters, '$.learning_rate', 0.5) WHERE segment = 1 AND child = 1",
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_was_changed_is_told(grow: Grow, change: str) -> None:
    store = grow(replace(ASYNC, mutation_probability=0.3), Simulated(3))
    assert replayed(store).ok
    with store.writing() as connection, collecting(connection):
        assert connection.execute(text(f"UPDATE candidates SET {change}")).rowcount > 0
    differing = replayed(store).differing
    assert {child.segment for child in differing} == {1}


def test_early_stopping_compares_with_what_was_known_when_a_child_was_drawn(grow: Grow) -> None:
    store = grow(ASYNC, Simulated(3, strike=7), Simulated(4))
    stopped = 0
    for segment in (0, 1):
        found = records(store, segment)
        ended = sorted(found, key=lambda record: record.arrival or 0)
        for record in found:
            bounds = stop_below(ended[: record.planned.known], 2, 4)
            below = [n for n, bound in enumerate(bounds) if bound is not None]
            worst = [n for n in below if n < len(record.validations) and max(record.validations[: n + 1]) < bounds[n]]  # type: ignore[operator]
            assert record.state == "FAILED" or len(record.validations) == (worst[0] + 1 if worst else 4)
            stopped += bool(worst)
    assert stopped > 2


def test_a_deep_child_begins_what_counts_as_a_generation(grow: Grow) -> None:
    store = grow(replace(ASYNC, deep_every=1, deep_blocks=5), Simulated(2))
    for record in records(store, 0):
        blocks = [e.slot for e in record.candidate.mutations if isinstance(e, Clone) and e.slot.startswith("block")]
        assert (len(blocks) >= 3) == (record.child == 0 and record.generation > 0), (record.child, blocks)
    assert replayed(store).ok


@pytest.mark.parametrize(("budget", "drawn"), [("9children", 9), ("1flops", 2)])
def test_a_budget_ends_the_drawing(grow: Grow, budget: str, drawn: int) -> None:
    """Each segment gets one child at least."""
    store = grow(replace(ASYNC, budget=budget, halving=0), Simulated(4, strike=3), Simulated(3))
    found = [*records(store, 0), *records(store, 1)]
    assert len(found) == drawn
    assert {record.segment.index for record in found} == {0, 1}
    events = [event.data for event in store.events(1) if event.kind == "budget ran out"]
    assert events[-1]["unit"] == budget.lstrip("0123456789")
    assert replayed(store).ok


def test_a_budget_counts_what_is_under_way(grow: Grow) -> None:
    """A child is drawn when what was spent, what those under way are predicted to take and its own are within."""
    chosen = replace(ASYNC, halving=0, children=6)
    free = [record.planned.predicted_flops or 0 for record in records(grow(chosen, Simulated(4)), 0)]
    share = sum(free[:3]) + 1
    store = grow(replace(chosen, budget=f"{2 * share}flops"), Simulated(4))
    found = records(store, 0)
    for number, record in enumerate(found[1:], 1):
        known = record.planned.known or 0
        spent = sum(other.cost.flops for other in found if (other.arrival or 0) <= known)
        under_way = [other.planned.predicted_flops or 0 for other in found[:number] if (other.arrival or 0) > known]
        assert spent + sum(under_way) + (record.planned.predicted_flops or 0) <= share
    assert [record.planned.known for record in found[:3]] == [0, 0, 0]
    assert len(found) == 3 or found[3].planned.known
    assert replayed(store).ok


def test_after_the_wall_time_only_a_generations_worth_is_drawn(tmp_path: Path) -> None:
    from simulated import Supplied

    from mutant.search.setup import Search
    from mutant.storage.holding import holding

    with new_system(str(tmp_path / "m.db"), "a") as store:
        run, heard = begin(store, ("a",), ASYNC), list[object]()
        evaluator, supply = Simulated(3), Supplied(store)
        search = Search(store, run, recorded_config(run), evaluator, supply, heard.append, 0.0, 0.0)  # type: ignore[arg-type]
        with holding(store, "a test"):
            evolve(search)
        assert len(records(store, 0)) == ASYNC.generation_size
        assert [event.unit for event in heard if isinstance(event, BudgetSpent)] == ["seconds"]


def test_every_generation_size_outcomes_are_told_as_one(tmp_path: Path) -> None:
    with new_system(str(tmp_path / "m.db"), "a") as store:
        begin(store, ("a",), replace(ASYNC, children=10))
        heard = list[object]()
        go_on(store, Simulated(3), heard.append)
        told = [event for event in heard if isinstance(event, GenerationFinished)]
        assert [event.generation for event in told] == [0, 1, 2]
        best = store.best("a")
        assert best is not None
        assert told[-1].best == best


def test_what_was_drawn_and_not_trained_is_replayed_as_well(tmp_path: Path) -> None:
    with new_system(str(tmp_path / "m.db"), "a", "b") as store:
        begin(store, ("a", "b"), ASYNC)
        with pytest.raises(KeyboardInterrupt):
            go_on(store, Simulated(4, strike=5))
        assert sum(record.is_open for record in records(store, 0)) == 4
        assert replayed(store) == Replay(1, True, 9)


def test_how_children_are_drawn_stays_as_it_was(tmp_path: Path) -> None:
    with new_system(str(tmp_path / "m.db"), "a") as store:
        run = begin(store, ("a",), ASYNC)
        assert changed(store, run, Settings(asynchronous=True)) == run
        with pytest.raises(UserError, match="--no-async: run 1 began with async,"):
            changed(store, run, Settings(asynchronous=False))
        old = {name: value for name, value in run.config.items() if name != "asynchronous"}
        assert not RunConfig.from_dict(old).asynchronous


def test_the_command_tells_what_it_drew_again(tmp_path: Path) -> None:
    with simulated(str(tmp_path / "m.db"), ("a", "b"), replace(ASYNC, children=4), Simulated(3)) as store:
        assert call("replay", "--db", tmp_path / "m.db").code == 0
        with store.writing() as connection, collecting(connection):
            connection.execute(text("UPDATE candidates SET pool_version = 'q' WHERE segment = 1 AND child = 2"))
    found = call("replay", "--run", 1, "--json", "--db", tmp_path / "m.db")
    assert found.code == 1
    (run,) = json.loads(found.out)["runs"]
    assert (run["children"], run["asynchronous"], len(run["differing"])) == (8, True, 1)
    assert run["differing"][0]["what"] == ["pool"]
    told = call("replay", "--db", tmp_path / "m.db")
    assert told.code == 1
    assert "one by one" in told.out
    assert call("replay", "--run", 7, "--db", tmp_path / "m.db").code == 2
