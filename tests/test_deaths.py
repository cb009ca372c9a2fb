"""Whose fault a worker's death was, who hangs, and who gets which child: the rules alone, without a worker."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutant.outcome import Cost
from mutant.pulse import Pulse
from mutant.search.crews import start_evaluator
from mutant.search.deaths import ATTEMPTS, PREEMPTIONS, Death, verdict
from mutant.search.heartbeat import CHILDREN, LEAST_PATIENCE, PAUSES, Heartbeats, patience, period
from mutant.search.kinds import ALIKE, Rates, deal
from mutant.search.ray_worker import ACCELERATOR_FLOPS, kind_of
from mutant.search.workers import Terms, choose_workers

LOST, AWAY = Death("worker lost", "killed"), Death("preempted", "the node has died")


@pytest.mark.parametrize("cause", ["out of memory", "worker lost", "hung"])
def test_a_child_that_ends_its_worker_twice_has_failed_for_that_reason(cause):
    assert verdict("c", [Death(cause, "why")]) is None
    failed = verdict("c", [Death(cause, "why")] * ATTEMPTS)
    assert failed is not None
    assert (failed.candidate, failed.kind) == ("c", cause)
    assert failed.reason == f"its worker died 2 times ({cause}): why"


def test_two_causes_are_both_told_and_the_last_is_the_kind():
    failed = verdict("c", [Death("out of memory", "full"), AWAY, LOST])
    assert failed is not None
    assert failed.kind == "worker lost"
    assert "(out of memory, then worker lost): killed" in failed.reason


@given(st.lists(st.booleans(), max_size=20))
def test_machines_that_go_away_are_no_fault_of_the_child_but_have_a_bound(own):
    deaths = [LOST if fault else AWAY for fault in own]
    failed = verdict("c", deaths)
    if sum(own) >= ATTEMPTS:
        assert failed is not None
        assert failed.kind == "worker lost"
    elif len(own) - sum(own) >= PREEMPTIONS:
        assert failed is not None
        assert failed.kind == "preempted"
    else:
        assert failed is None


def test_patience_grows_with_what_was_seen_and_predicted_and_a_setting_is_kept():
    assert patience(None, 0.0, 0.0) == LEAST_PATIENCE
    assert patience(None, 1e3, 0.0) == PAUSES * 1e3
    assert patience(None, 0.0, 1e6) == CHILDREN * 1e6
    assert patience(30.0, 1e3, 1e6) == 30.0
    assert [period(each) for each in (None, 1.0, 60.0)] == [10.0, 0.1, 3.0]


def looked(hearts, times, counts):
    """So many seconds of looks, one each, before which each call of `counts` answers what its function tells."""
    for second in range(times):
        for key, count in counts.items():
            hearts.hear(key, count(second))
        found = hearts.look(1.0)
        if found:
            return second, found
    return times, []


def test_who_gets_on_is_never_ended_and_who_does_not_answer_is():
    hearts = Heartbeats[str](10.0)
    for key in ("busy", "stuck"):
        hearts.begin(key, 0.0)
    second, found = looked(hearts, 100, {"busy": lambda second: second})
    assert [key for key, _ in found] == ["stuck"]
    assert second == 10
    assert found[0][1] == pytest.approx(11.0)
    assert looked(hearts, 100, {"busy": lambda second: 100 + second}) == (100, [])
    hearts.end("busy")
    assert looked(hearts, 100, {}) == (100, []), "an ended call is not watched"


def test_one_that_answers_without_getting_on_is_ended_after_those_that_do_not_answer():
    hearts = Heartbeats[str](10.0)
    for key in ("waits", "waits too", "stuck"):
        hearts.begin(key, 0.0)
    answers = {"waits": lambda _: 1.0, "waits too": lambda _: 1.0}
    assert [key for key, _ in looked(hearts, 100, answers)[1]] == ["stuck"]
    second, found = looked(hearts, 100, answers)
    assert len(found) == 1, "one at a time: the others may have waited for it"
    assert second == 10, "and the others count anew"


def test_the_longest_pause_that_ended_well_is_known():
    hearts = Heartbeats[str](100.0)
    hearts.begin("call", 0.0)
    looked(hearts, 31, {"call": lambda second: float(second >= 1) + float(second >= 30)})
    assert hearts.longest == pytest.approx(29.0)


class Result:
    """An array that a device may be computing."""

    def __init__(self, ready):
        self.ready = ready

    def is_ready(self):
        if self.ready is None:
            raise RuntimeError("deleted")
        return self.ready


def test_a_pulse_counts_what_the_device_has_done_in_order_and_does_not_wait():
    pulse, first, second = Pulse(), Result(False), Result(True)
    pulse.beat()
    pulse.follow(first)
    pulse.follow(second)
    assert pulse.count() == 1, "the first is not ready, so the second is not looked at"
    first.ready = True
    assert pulse.count() == 3
    pulse.follow(Result(None))
    assert pulse.count() == 4, "an array that is deleted was computed"


COSTS = st.lists(st.floats(1.0, 1e15), max_size=12)
CREWS = st.lists(st.sampled_from([1e9, 1.1e9, 5e9, 1e12]), min_size=1, max_size=8)


@given(COSTS, CREWS, st.data())
def test_children_are_dealt_once_each_as_many_as_there_are_workers_for(costs, crew, data):
    who = data.draw(st.sets(st.sampled_from(range(len(crew)))))
    idle = {worker: crew[worker] for worker in who}
    dealt = deal(costs, idle, crew)
    places, workers = [place for place, _ in dealt], [worker for _, worker in dealt]
    assert len(dealt) == min(len(costs), len(idle))
    assert len({*places}) == len(places)
    assert len({*workers}) == len(workers)
    assert {*workers} <= who
    if max(crew) < ALIKE * min(crew):
        assert places == [*range(len(dealt))], "alike: the order stays"
        return
    fast = [costs[place] for place, worker in dealt if crew[worker] * ALIKE > max(crew)]
    slow = [costs[place] for place, worker in dealt if crew[worker] * ALIKE <= max(crew)]
    left = [cost for place, cost in enumerate(costs) if place not in places]
    assert all(cost >= other for cost in fast for other in (*slow, *left))
    assert all(cost <= other for cost in slow for other in left)


def test_rates_are_measured_by_kind_else_assumed_else_the_default():
    rates = Rates(20e9).assuming("gpu", 1e12)
    assert [rates.of(kind) for kind in ("gpu", "cpu")] == [1e12, 20e9]
    measured = rates.after("gpu", Cost(seconds=2.0, flops=8e12)).after("gpu", Cost(seconds=2.0, flops=0.0))
    assert [measured.of(kind) for kind in ("gpu", "cpu")] == [2e12, 20e9]
    assert rates.after("cpu", Cost()).of("cpu") == 20e9


def test_a_worker_states_its_kind(monkeypatch):
    assert kind_of("big=1e13") == ("big", 1e13)
    assert [kind_of(told)[0] for told in ("big=", "big=much", "big=-1", "big")] == ["big"] * 4
    assert len({kind_of(told)[1] for told in ("big=much", "big=-1", "big")}) == 1
    monkeypatch.setattr("mutant.backend.processor", lambda: "Zen 4")
    monkeypatch.setattr("mutant.backend.accelerator", lambda: "NVIDIA A100")
    assert kind_of(None)[0] == "Zen 4"
    assert kind_of(None, accelerated=True) == ("NVIDIA A100", ACCELERATOR_FLOPS)
    monkeypatch.setattr("mutant.backend.accelerator", lambda: None)
    assert kind_of("", accelerated=True)[0] == "Zen 4"


def test_rays_words_for_an_end_are_told_apart():
    from ray.exceptions import (
        ActorDiedError,
        ActorUnavailableError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        OwnerDiedError,
    )

    from mutant.search.ray_team import death_of

    killed, drained, away = ActorDiedError(), ActorDiedError(), ActorDiedError()
    drained._preempted = True
    away.error_msg = "The actor died unexpectedly.\nThe actor died because its node has died. Node Id: 7b52"
    ends = [
        (killed, False, "worker lost"),
        (killed, True, "preempted"),
        (drained, False, "preempted"),
        (away, False, "preempted"),
        (NodeDiedError("gone"), False, "preempted"),
        (ActorUnavailableError("no answer", None), False, "preempted"),
        (ObjectLostError("ab", b"", ""), False, "preempted"),
        (OwnerDiedError("ab", b"", ""), False, "preempted"),
        (OutOfMemoryError("1 worker(s) were killed"), False, "out of memory"),
        (OutOfMemoryError("1 worker(s) were killed"), True, "out of memory"),
    ]
    for error, gone, cause in ends:
        assert death_of(error, gone=gone).cause == cause, error


def test_on_a_cluster_auto_follows_its_cores_and_a_number_is_the_most(monkeypatch):
    auto, three = (choose_workers(asked, 0.0, address="head:6379") for asked in ("auto", 3))
    assert (auto.workers, three.workers) == (None, 3)
    assert "head:6379" in auto.reason
    monkeypatch.setattr("mutant.search.ray_evaluator.RayEvaluator", lambda workers, **told: (workers, told))
    for crew in (auto, three):
        workers, told = cast("Any", start_evaluator(crew, terms=Terms("head:6379", 30.0)))
        assert (workers, told["terms"]) == (crew.workers, Terms("head:6379", 30.0))
