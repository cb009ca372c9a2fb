"""Budgets: how they are written, how they are divided, and that a run within one is as exact as any other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import get_args

import pytest
from growing import SMALL, grown, meaning, resumed, small_store, small_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from mutant.search.budget import Budget, Spent, Unit, allowance, fitting, parse_budget, parse_time, run_budget
from mutant.search.config import RunConfig, Settings, settings_from
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, configure, working
from mutant.search.progress import BudgetSpent, Progress
from mutant.storage.records import SegmentKey
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("600", 600, "seconds"),
        ("600s", 600, "seconds"),
        ("10m", 600, "seconds"),
        ("1.5 h", 5400, "seconds"),
        ("2h30m", 9000, "seconds"),
        ("2h 30min 5s", 9005, "seconds"),
        ("300 device-s", 300, "device-seconds"),
        ("300ds", 300, "device-seconds"),
        ("5device-min", 300, "device-seconds"),
        ("2e15flops", 2e15, "flops"),
        ("2PF", 2e15, "flops"),
        ("500 TFLOPs", 5e14, "flops"),
        ("40children", 40, "children"),
        ("1 child", 1, "children"),
    ],
)
def test_a_budget_is_written_in_what_it_limits(text: str, amount: float, unit: Unit) -> None:
    assert parse_budget(text) == Budget(amount, unit)


@given(st.floats(1e-3, 1e21), st.sampled_from(get_args(Unit)))
def test_a_budgets_text_gives_it_back(amount: float, unit: Unit) -> None:
    budget = Budget(float(max(1, int(amount))) if unit == "children" else amount, unit)
    assert parse_budget(budget.text) == budget


@given(st.text(max_size=12))
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    try:
        assert parse_budget(text).amount > 0
    except UserError as error:
        assert error.hint is not None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("40chidren", "40children"),
        ("3divice-s", "3device-s"),
        ("4teraflops", "4tflops"),
        ("10minutes", "10min"),
        ("1.5children", "1children"),
        ("soon", "2h30m"),
        ("0s", "40children"),
        ("1e400s", "40children"),
    ],
)
def test_an_error_names_the_nearest_right_form(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=text) as refusal:
        parse_budget(text)
    assert hint in (refusal.value.hint or "")


def test_a_budget_of_wall_time_is_no_setting_of_a_run() -> None:
    assert run_budget("2PF").text == "2000000000000000flops"
    with pytest.raises(UserError, match="one call's"):
        settings_from({"budget": "10m"}, where="run.toml")
    with pytest.raises(UserError, match="must be a text"):
        settings_from({"budget": 40}, where="run.toml")


@given(st.lists(st.integers(1, 100)), st.integers(0, 500))
def test_as_many_fit_as_the_room_holds(costs: list[int], room: int) -> None:
    number = fitting(costs, room)
    assert sum(costs[:number]) <= room
    assert number == len(costs) or sum(costs[: number + 1]) > room


@given(st.integers(1, 50), st.integers(1, 6), st.data())
def test_segments_share_a_budget_and_leave_what_they_do_not_use(total: int, segments: int, data: st.DataObject) -> None:
    budget, used = Budget(total, "children"), 0
    for index in range(segments):
        share = allowance(budget, Spent(used), segments - index)
        assert share == (total - used) / (segments - index)
        used += data.draw(st.integers(0, int(share)))
    assert used <= total


# Whole runs


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedTask]:
    return small_tasks(tmp_path_factory.mktemp("data"))


def children(store: Store) -> list[int]:
    return [len(store.candidates(segment.key)) for segment in store.runs()[0].segments]


def spent(store: Store, segments: int | None = None) -> Spent:
    """By all segments, or by the first so many."""
    chosen = store.runs()[0].segments[:segments]
    return Spent.on(record for segment in chosen for record in store.candidates(segment.key))


@pytest.fixture(scope="module", params=["7children", "4MF", "1flops"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tasks: Mapping[str, LoadedTask]
) -> Iterator[tuple[Settings, Store]]:
    chosen = replace(SMALL, budget=request.param)
    if request.param == "4MF":  # as much as half of the run takes without a budget
        even = replace(SMALL, deep_every=0)
        with grown(tmp_path_factory.mktemp("whole") / "m.db", tasks, even) as store:
            chosen = replace(even, budget=f"{spent(store).flops / 2}flops")
    with grown(tmp_path_factory.mktemp("undisturbed") / "m.db", tasks, chosen) as store:
        yield chosen, store


def test_a_run_keeps_to_its_budget_and_tells_what_was_spent(undisturbed: tuple[Settings, Store]) -> None:
    chosen, store = undisturbed
    budget = RunConfig.from_dict(store.runs()[0].config).budget
    assert budget is not None
    assert budget.text == run_budget(chosen.budget or "").text
    events = [event.data for event in store.events() if event.kind == "budget ran out"]
    assert events[-1]["spent"] == budget.spent(spent(store, events[-1]["segment"] + 1))
    assert (events[-1]["unit"], events[-1]["budget"]) == (budget.unit, budget.amount)
    assert all(store.best(name) is not None for name in ("low", "high"))
    if budget.amount == 1:  # not even a child's worth: every segment still gets one
        assert children(store) == [1, 1]
    elif budget.unit == "children":
        assert children(store) == [3, 4]
    else:
        assert 2 <= sum(children(store)) < 10
        assert budget.spent(spent(store)) <= budget.amount


@pytest.mark.slow
def test_a_deep_child_without_room_gives_way_to_others(tmp_path: FilePath, tasks: Mapping[str, LoadedTask]) -> None:
    def second(store: Store) -> float:
        """FLOPs of the second generation's first child."""
        (child,) = [r for r in store.candidates(store.runs()[0].segments[0].key) if (r.generation, r.child) == (1, 0)]
        return child.cost.flops

    with grown(tmp_path / "whole.db", tasks, SMALL) as store:
        deep = second(store)
    share = 0.9 * deep  # of the first of two segments
    with grown(tmp_path / "within.db", tasks, replace(SMALL, budget=f"{2 * share}flops")) as store:
        assert children(store)[0] > 2
        assert second(store) < share
        assert spent(store).flops <= 2 * share


@pytest.mark.slow
@settings(max_examples=2)
@given(stop=st.integers(1, 7), again=st.integers(1, 7))
def test_interrupted_and_resumed_equals_undisturbed_within_a_budget(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: Mapping[str, LoadedTask],
    undisturbed: tuple[Settings, Store],
    stop: int,
    again: int,
) -> None:
    chosen, whole = undisturbed
    with small_store(tmp_path_factory.mktemp("resumed") / "m.db") as store:
        begin(store, tuple(tasks), chosen, new=[task.task for task in tasks.values()])
        resumed(store, tasks, (stop, again))
        assert meaning(store) == meaning(whole)


def test_a_budget_of_device_seconds_goes_by_what_was_measured(
    tmp_path: FilePath, tasks: Mapping[str, LoadedTask]
) -> None:
    heard: list[Progress] = []
    chosen = replace(SMALL, budget="0.0001ds")
    with grown(tmp_path / "m.db", {"low": tasks["low"]}, chosen, listener=heard.append) as store:
        assert children(store) == [1]
        (told,) = [event for event in heard if isinstance(event, BudgetSpent)]
        assert (told.unit, told.budget) == ("device-seconds", 0.0001)
        assert told.spent == spent(store).device_seconds > 0


def test_a_budget_of_wall_time_tells_what_it_was_and_what_was_spent(
    tmp_path: FilePath, tasks: Mapping[str, LoadedTask]
) -> None:
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, tasks, Engine(workers="1", budget=0.01)) as search:
            evolve(search)
        (told,) = [event.data for event in store.events() if event.kind == "budget ran out"]
        assert (told["unit"], told["budget"], told["children"]) == ("seconds", 0.01, 2)
        assert told["spent"] > 0.01
        assert told["run_spent"]["children"] == 2
        assert len(store.candidates(SegmentKey(run.id, 0))) == 2


def test_a_stored_budget_that_makes_no_sense_is_told(tmp_path: FilePath) -> None:
    with small_store(tmp_path / "m.db") as store:
        config = configure(store, ("low",), replace(SMALL, budget="5children")).to_dict()
    for nonsense in ({"amount": -1, "unit": "children"}, {"amount": 1, "unit": "apples"}, {"unit": "flops"}, 7):
        with pytest.raises(UserError, match="budget of a run cannot be read"):
            RunConfig.from_dict({**config, "budget": nonsense})


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("2h30m", 9000.0), ("600", 600.0)])
def test_a_time_is_written_like_a_budget_of_wall_time(text: str, seconds: float) -> None:
    assert parse_time(text, option="--patience") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "40children", "500TF", "300ds", "nan", "inf"])
def test_what_is_no_time_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(UserError, match=r"--patience '.*' is no time\.") as refusal:
        parse_time(text, option="--patience")
    assert "10m" in (refusal.value.hint or "")
