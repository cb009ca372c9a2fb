"""One controller at a time: who is told, who takes over, whose results come too late, and what clocks cannot do."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from growing import SMALL, go_on, grown, meaning, small_store, small_tasks
from simulated import ASYNC, Simulated, new_system, simulated
from simulated import go_on as evolve_simulated
from storage_samples import counts, grow, new_store, planned, trained
from test_storage_faults import finished, python

from mutant.outcome import Failed
from mutant.search.evaluator import InProcessEvaluator, unheard
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, working
from mutant.search.progress import Notice
from mutant.storage import leases
from mutant.storage.holding import Pace, holding
from mutant.storage.process import Process
from mutant.storage.records import SegmentKey
from mutant.storage.refusals import Conflict, Held, Late, Superseded
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

QUICK = Pace(beat=0.05, expiry=0.5)
ELSEWHERE = Process("elsewhere", "", 1, "")
GONE = replace(Process.here(), pid=2**22 + 1)
REUSED = replace(Process.here(), born="0")


@pytest.fixture
def store(database: str) -> Any:
    with new_store(database, "a") as made:
        yield made


def test_only_the_holder_changes_runs(store: Store, database: str) -> None:
    with Store.open(database) as other, holding(store, "adding", pace=QUICK):
        before = counts(store)
        for change in (
            lambda: other.begin_run({}, ["a"]),
            lambda: other.finish_run(1),
            lambda: other.abandon_run(1),
            lambda: other.plan_generation(SegmentKey(1, 0), 0, []),
            lambda: other.finish_segment(SegmentKey(1, 0), None, None),
        ):
            with pytest.raises(Held, match=r"process \d+ on .* \(adding\)\.") as refused:
                change()
            assert "mutant status" in (refused.value.hint or "")
        assert counts(store) == before
        assert len(grow(store, "a")) == 1
        assert (seen := other.holder()) is not None
        assert (own := store.holder()) is not None
        assert replace(seen, beat=0) == replace(own, beat=0)  # it goes on beating meanwhile
    assert store.holder() is None
    with Store.open(database) as other:
        grow(other, "a")


def test_whoever_is_heard_of_keeps_the_lease_and_the_second_is_told(store: Store, database: str) -> None:
    heard: list[str] = []
    patient = Pace(QUICK.beat, expiry=15.0)  # a busy machine may let a holder stand still for a while
    with Store.open(database) as other, holding(store, "adding", pace=patient):
        started = time.monotonic()
        with pytest.raises(Held, match=r"adding"), holding(other, "resuming", told=heard.append, pace=patient):
            pass
        assert time.monotonic() - started < patient.expiry
    assert [line.split(" from")[0] for line in heard] == ["Waiting to hear"]


@pytest.mark.parametrize("error", [UserError("The database is away."), RuntimeError("no such thing")], ids=str)
def test_a_holder_goes_on_beating_after_whatever_went_wrong_and_tells_once(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, failing, heard = leases.beat, threading.Event(), list[str]()

    def beat(connection: Any) -> None:
        if failing.is_set():
            raise error
        real(connection)

    monkeypatch.setattr(leases, "beat", beat)
    with holding(store, "adding", told=heard.append, pace=QUICK), Store.open(database, read_only=True) as other:

        def beats() -> int:
            lease = other.holder()
            assert lease is not None
            return lease.beat

        awaited(beats)
        assert heard == []
        failing.set()
        awaited(lambda: heard)
        failing.clear()
        before = beats()
        awaited(lambda: beats() > before)
        failing.set()
        awaited(lambda: len(heard) > 1)
    assert len(heard) == 2, "once each time"
    assert str(error).rstrip(".") in heard[0]
    assert "After 0.5 s another process may take" in heard[0]
    assert store.holder() is None


def awaited(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("process", [GONE, REUSED], ids=["gone", "its number reused"])
def test_a_holder_that_is_gone_from_this_machine_is_followed_at_once(store: Store, process: Process) -> None:
    with store.writing() as connection:
        leases.take(connection, process, "resuming")
    heard: list[str] = []
    started = time.monotonic()
    with holding(store, "resuming", told=heard.append, pace=Pace(expiry=60)) as lease:
        assert time.monotonic() - started < 5
        assert lease.token == 2
    assert len(heard) == 1
    assert "is gone: taking over" in heard[0]
    assert [event.kind for event in store.events()] == ["taken over"]


MINE, OTHERS = "a" * 32, "b" * 32


@pytest.mark.parametrize(
    ("boot", "gone"),
    [
        (f"earlier pid:[1] {MINE}", True),
        (f"earlier pid:[2] {MINE}", True),
        (f"earlier pid:[1] {OTHERS}", False),
        ("earlier pid:[1]", False),
        (f"now pid:[2] {MINE}", False),
        ("", False),
    ],
    ids=["this machine before", "its container", "a namesake", "as older versions wrote", "a container", "unknown"],
)
def test_another_boot_is_gone_only_when_it_was_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, boot: str, gone: bool
) -> None:
    monkeypatch.setattr("mutant.storage.process._boot", lambda: f"now pid:[1] {MINE}")
    assert replace(Process.here(), boot=boot).is_gone() is gone
    monkeypatch.setattr("mutant.storage.process._boot", lambda: "now pid:[1]")
    assert not replace(Process.here(), boot=boot).is_gone()


def test_a_process_of_this_boot_is_known_by_its_number_whatever_the_row_says_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mutant.storage.process._boot", lambda: f"now pid:[1] {MINE}")
    here = replace(Process.here(), boot="now pid:[1]")
    assert not here.is_gone()
    assert replace(here, pid=GONE.pid).is_gone()


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_silent_holder_elsewhere_is_followed_after_expiry_whatever_the_clocks_say(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    with store.writing() as connection:
        lease = leases.take(connection, ELSEWHERE, "resuming")
    real, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + jump * next(calls))
    store.lease = lease
    heard: list[str] = []
    started = time.monotonic()
    with (
        Store(store.url, read_only=False, busy_seconds=5) as other,
        holding(other, "mine", told=heard.append, pace=QUICK),
    ):
        assert time.monotonic() - started >= QUICK.expiry
        assert "silent for 0.5 s: taking over" in heard[-1]
        before = counts(other)
        with pytest.raises(Superseded, match=r"taken over by process \d+ .*\(mine\)"):
            store.begin_run({}, ["a"])
        with pytest.raises(Superseded):
            store.record_event(None, "late", {})
        assert counts(other) == before


def test_a_machine_that_slept_finds_its_work_taken_over(store: Store, database: str) -> None:
    """It beats no more, another takes over; awake again it gives nothing back and writes nothing."""
    asleep = Pace(beat=60, expiry=60)
    with holding(store, "sleeper", pace=asleep), Store.open(database) as other:
        with other.writing() as connection:
            leases.take(connection, ELSEWHERE, "other")
        with pytest.raises(Superseded):
            store.abandon_run(1)
        taken = other.holder()
    with Store.open(database) as after:
        assert after.holder() == taken


def test_a_late_outcome_is_rejected(store: Store) -> None:
    run = store.begin_run({}, ["a"])
    key, plan = run.segments[0].key, planned("a", store.root(), 0)
    store.plan_generation(key, 0, [plan])
    outcome = trained(plan, store.root())
    with pytest.raises(Conflict, match="lease"):
        store.lease_candidate(key, 0, 0, "worker 1")
    with holding(store, "first"):
        assert store.lease_candidate(key, 0, 0, "worker 1") == 1
        (record,) = store.candidates(key)
        assert (record.state, record.attempt, record.worker) == ("RUNNING", 1, "worker 1")
        assert store.lease_candidate(key, 0, 0, "worker 2") == 2
        with pytest.raises(Late, match="attempt 1 comes too late"):
            store.commit_outcome(key, 0, 0, outcome, attempt=1)
    assert store.candidates(key)[0].state == "STALE"
    with holding(store, "second"):
        with pytest.raises(Late, match="it is STALE at attempt 2"):
            store.commit_outcome(key, 0, 0, outcome, attempt=2)
        assert store.lease_candidate(key, 0, 0, "worker 3") == 3
        store.commit_outcome(key, 0, 0, outcome, attempt=3)
        with pytest.raises(Late, match="has an outcome"):
            store.lease_candidate(key, 0, 0, "worker 4")
    assert store.candidates(key)[0].state == "DONE"


class _Repeats(InProcessEvaluator):
    """Tells every outcome again when the next one is there, and ends with a worker that tells nonsense."""

    def train(self, work, supply, begun=unheard):
        last = None
        for index, outcome in super().train(work, supply, begun):
            yield index, outcome
            if last is not None:
                yield last
            last = index, Failed(work[index].candidate.id, "error", "of another attempt")


class _IsTakenOver(InProcessEvaluator):
    """Another process takes the lease while the first child is trained."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def train(self, work, supply, begun=unheard):
        for result in super().train(work, supply, begun):
            with Store.open(self.url) as other, other.writing() as connection:
                leases.take(connection, ELSEWHERE, "resuming")
            yield result


class _LosesWorkers(Simulated):
    """Every child's first worker is lost; `look` is called before the second one begins."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__(2)
        self.look = look

    def train_from(self, source, supply, begun=unheard):
        def twice(index, worker, seat=None, /):
            begun(index, worker, seat)
            begun(index, None)
            self.look()
            begun(index, "another", seat)

        return super().train_from(source, supply, twice)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_child_whose_worker_was_lost_is_stale_until_another_begins(tmp_path: FilePath, asynchronous: bool) -> None:
    seen: list[list[tuple[int, str | None]]] = []

    def look() -> None:
        (key,) = [segment.key for run in store.runs() for segment in run.segments]
        seen.append([(r.attempt, r.worker) for r in store.candidates(key) if r.state == "STALE"])

    settings = replace(ASYNC, asynchronous=asynchronous)
    with simulated(str(tmp_path / "alone.db"), ["a"], settings, Simulated(2)) as alone:
        undisturbed = meaning(alone)
    with new_system(str(tmp_path / "m.db"), "a") as store:
        begin(store, ("a",), settings)
        evolve_simulated(store, _LosesWorkers(look))
        assert [len(stale) for stale in seen] == [1] * 12
        assert {attempt for ((attempt, _),) in seen} == {1}
        key = store.runs()[0].segments[0].key
        assert {(r.attempt, r.worker, r.state in ("DONE", "FAILED")) for r in store.candidates(key)} == {
            (2, "another", True)
        }
        assert meaning(store) == undisturbed


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_tasks(tmp_path_factory.mktemp("data"))


@pytest.mark.slow
def test_a_run_survives_late_results(tmp_path: FilePath, tasks: Any) -> None:
    one = {"low": tasks["low"]}
    with grown(tmp_path / "alone.db", one) as store:
        undisturbed = meaning(store)
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, one, Engine(workers="1")) as search:
            evolve(replace(search, evaluator=_Repeats()))
        assert meaning(store) == undisturbed
        late = [event for event in store.events(run.id) if event.kind == "late result rejected"]
        assert len(late) == 2  # of generations of 2, 2 and 1 children
        assert "too late" in late[0].data["reason"]


@pytest.mark.slow
def test_a_run_that_was_taken_over_stops_and_the_other_ends_it(tmp_path: FilePath, tasks: Any) -> None:
    one = {"low": tasks["low"]}
    with grown(tmp_path / "alone.db", one) as store:
        undisturbed = meaning(store)
    url = str(tmp_path / "m.db")
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])

        with pytest.raises(Superseded), working(store, run, one, Engine(workers="1")) as search:
            evolve(replace(search, evaluator=_IsTakenOver(url)))
    with Store.open(url) as other:
        with other.writing() as connection:
            leases.take(connection, GONE, "resuming")  # so that nobody waits for it
        heard: list[Any] = []
        go_on(other, one, listener=heard.append)
        assert meaning(other) == undisturbed
        assert "taking over" in next(event.text for event in heard if isinstance(event, Notice))


@pytest.mark.slow
@pytest.mark.chaos
def test_a_killed_holder_is_followed_at_once_by_another_process(database: str) -> None:
    new_store(database, "a").close()
    script = """
import os, signal, sys
from mutant.storage.holding import holding
from mutant.storage.store import Store
with Store.open(sys.argv[1]) as store, holding(store, sys.argv[2], told=print):
    if sys.argv[2] == "first":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    python(script, database, "first").communicate(timeout=60)
    said = finished(python(script, database, "second"))
    assert "first) is gone: taking over" in said
    assert "Waiting" not in said, "it must not wait for the expiry, nor for a beat"
