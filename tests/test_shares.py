"""Runs that take turns by weight: each gets its share, gangs come all or none, and nobody waits for ever."""

import heapq
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutant.search.shares import CREDIT_SECONDS, Request, Shares

PLACES = ("a", "b", "c", "d")
sizes = st.integers(1, len(PLACES))


def ask(shares: Shares, run: str, number: int, now: float, size: int = 1, among: Sequence[str] | None = None) -> str:
    ticket = f"{run}-{number}"
    shares.ask(Request(run, ticket, size, None if among is None else frozenset(among)), now)
    return ticket


def shared(weights: dict[str, float], places: Sequence[str] = PLACES) -> Shares:
    shares = Shares(0.0)
    shares.offer(places)
    for run, weight in weights.items():
        shares.join(run, weight, 0.0)
    return shares


class Busy:
    """Runs that always have children of these sizes and seconds waiting, on places that the shares give."""

    def __init__(self, shares: Shares, children: dict[str, tuple[list[int], list[float]]]) -> None:
        self.shares, self.children = shares, children
        self.count = dict.fromkeys(children, 0)
        self.ends: list[tuple[float, str, str]] = []
        self.taken: dict[str, frozenset[str]] = {}
        for run in children:
            for _ in PLACES:
                self._ask(run, 0.0)
        self._grant(0.0)

    def _ask(self, run: str, now: float) -> None:
        number, of = self.count[run], self.children[run][0]
        self.count[run] += 1
        ask(self.shares, run, number, now, of[number % len(of)])

    def _grant(self, now: float) -> None:
        for ticket, places in self.shares.grant(now):
            run, _, number = ticket.rpartition("-")
            size, seconds = (of[int(number) % len(of)] for of in self.children[run])
            assert len(places) == size
            assert not any(places & other for other in self.taken.values()), "a place has one at a time"
            self.taken[ticket] = places
            heapq.heappush(self.ends, (now + seconds, ticket, run))

    def until(self, end: float) -> None:
        now = 0.0
        while now < end:
            assert self.ends, "somebody always runs"
            now, ticket, run = heapq.heappop(self.ends)
            del self.taken[ticket]
            self._ask(run, now)
            self.shares.done(ticket, now)
            self._grant(now)


@given(
    st.lists(st.sampled_from((1.0, 2.0, 3.0, 0.5)), min_size=2, max_size=4),
    st.data(),
)
def test_runs_get_device_time_by_weight_whatever_their_children_take(weights: list[float], data: st.DataObject) -> None:
    runs = {f"run{i}": weight for i, weight in enumerate(weights)}
    longest, end = 10.0, 2_000.0
    kinds = st.tuples(
        st.lists(sizes, min_size=1, max_size=4), st.lists(st.floats(0.5, longest), min_size=1, max_size=4)
    )
    busy = Busy(shares := shared(runs), {run: data.draw(kinds) for run in runs})
    busy.until(end)
    spent = {run: sharer.spent for run, sharer in shares.runs.items()}
    total = sum(spent.values())
    assert total <= len(PLACES) * (end + longest)
    for run, weight in runs.items():
        # A child too much or too little on every place, and as much for each of the others.
        assert abs(spent[run] - total * weight / sum(weights)) <= len(PLACES) * longest * len(runs)


def test_one_to_three_on_one_place_is_every_fourth_child() -> None:
    shares = shared({"small": 1.0, "large": 3.0}, ["a"])
    order: list[str] = []
    for now in range(40):
        for run in shares.runs:
            if not shares.runs[run].waiting:
                ask(shares, run, now, now)
        ((ticket, _),) = shares.grant(now)
        order.append(ticket.split("-")[0])
        shares.done(ticket, now + 1)
    assert [order[i : i + 4].count("small") for i in range(0, 40, 4)] == [1] * 10


@given(st.lists(st.tuples(st.sampled_from(("one", "other")), sizes, st.floats(0.1, 5.0)), max_size=40))
def test_interleaved_gangs_on_scarce_places_all_get_their_turn(gangs: list[tuple[str, int, float]]) -> None:
    shares = shared({"one": 1.0, "other": 5.0})
    seconds = {ask(shares, run, i, 0.0, size): took for i, (run, size, took) in enumerate(gangs)}
    ends: list[tuple[float, str]] = []
    now, served = 0.0, 0
    while True:
        for ticket, _ in shares.grant(now):
            heapq.heappush(ends, (now + seconds[ticket], ticket))
        if not ends:
            break
        now, ticket = heapq.heappop(ends)
        shares.done(ticket, now)
        served += 1
    assert served == len(gangs)


def test_a_gang_is_not_starved_by_small_ones_and_starves_nobody_when_it_can_never_run() -> None:
    shares = shared({"gang": 1.0, "small": 1.0})
    small = [ask(shares, "small", i, 0.0) for i in range(20)]
    assert len(shares.grant(0.0)) == 4
    gang = ask(shares, "gang", 0, 0.5, size=4)
    for ticket in small[:3]:
        shares.done(ticket, 1.0)
        assert shares.grant(1.0) == [], "the places wait for the gang, whose turn it is"
    shares.done(small[3], 2.0)
    assert shares.grant(2.0) == [(gang, frozenset(PLACES))]
    shares.done(gang, 3.0)
    ask(shares, "gang", 1, 3.0, size=5)
    assert len(shares.grant(30.0)) == 4, "more than there is: the others go on"


def test_a_worker_asks_for_its_own_place_and_delays_nobody_elsewhere() -> None:
    shares = shared({"one": 1.0, "other": 1.0}, ["a", "b"])
    first = ask(shares, "one", 0, 0.0, among=["a"])
    second = ask(shares, "one", 1, 0.0, among=["a"])
    there = ask(shares, "other", 0, 0.0, among=["b"])
    assert {*shares.grant(0.0)} == {(first, frozenset("a")), (there, frozenset("b"))}
    shares.done(first, 1.0)
    assert shares.grant(1.0) == [(second, frozenset("a"))]


def test_who_had_nothing_to_do_comes_back_with_little_credit() -> None:
    shares = shared({"busy": 1.0, "idle": 1.0}, ["a"])
    held = ask(shares, "busy", 0, 0.0)
    shares.grant(0.0)
    ask(shares, "idle", 0, 1_000.0)
    assert shares.runs["idle"].virtual == pytest.approx(1_000.0 - CREDIT_SECONDS)
    shares.done(held, 1_000.0)
    assert shares.grant(1_000.0) == [("idle-0", frozenset("a"))]
    shares.join("new", 1.0, 1_000.0)
    assert shares.runs["new"].virtual >= shares.runs["idle"].virtual, "nobody begins with a claim on the past"


def test_who_leaves_or_falls_silent_gives_everything_back() -> None:
    shares = shared({"one": 1.0, "other": 1.0}, ["a"])
    ask(shares, "one", 0, 0.0)
    ask(shares, "other", 0, 0.0)
    ((ticket, _),) = shares.grant(0.0)
    run = ticket.split("-")[0]
    (other,) = {"one", "other"} - {run}
    assert shares.silent(50.0, 60.0) == []
    assert shares.hear(other, 55.0)
    assert shares.silent(70.0, 60.0) == [run]
    assert shares.leave(run, 70.0) == []
    assert not shares.hear(run, 70.0)
    assert shares.grant(70.0) == [(f"{other}-0", frozenset("a"))]
    waiting = ask(shares, other, 1, 70.0)
    assert shares.leave(other, 71.0) == [waiting]
    assert shares.turns == {}


def test_turns_that_a_new_arbiter_is_told_of_are_kept() -> None:
    shares = shared({})
    shares.join("one", 1.0, 0.0, {"one-7": ["a", "b"]})
    shares.join("one", 1.0, 0.0, {"one-7": ["a", "b"]})
    ask(shares, "one", 8, 0.0, size=3)
    assert shares.grant(5.0) == []
    assert shares.runs["one"].spent == pytest.approx(10.0)
    shares.done("one-7", 6.0)
    assert len(shares.grant(6.0)) == 1
    with pytest.raises(ValueError, match="above 0"):
        shares.join("one", 0.0, 7.0)
