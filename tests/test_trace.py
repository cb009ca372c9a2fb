"""Where the time of children goes: spans as workers measure them, kept with outcomes, told as a trace."""

import itertools
import json
from collections import defaultdict
from pathlib import Path as FilePath
from typing import Any, get_args

import pytest
from cli_calls import done, refused
from growing import SMALL, grown, resumed, small_store, small_tasks
from hypothesis import given
from hypothesis import strategies as st
from storage_samples import grow, new_store, planned, trained

from mutant.recorder import Recorder
from mutant.search.growth import begin
from mutant.spans import MOST_SPANS, Account, Seat, Span, SpanKind, coarse, flattened
from mutant.storage.holding import holding
from mutant.storage.store import Store
from mutant.storage.worked import timings, workers

KINDS = get_args(SpanKind)
TICKS = st.integers(0, 1000).map(lambda tick: tick / 64)


@st.composite
def phases(draw: Any) -> list[Span]:
    """Spans without a gap, as a recorder makes them."""
    ends = sorted(draw(st.sets(TICKS, min_size=2)))
    kinds: list[Any] = draw(
        st.lists(st.sampled_from(["wait", "train", "validate"]), min_size=len(ends), max_size=len(ends))
    )
    return [Span(kind, a, b - a) for kind, a, b in zip(kinds, ends, ends[1:], strict=False)]


INSIDE = st.lists(st.builds(Span, st.sampled_from(["compile", "activations"]), TICKS, TICKS), max_size=8)


def inside(spans: list[Span] | tuple[Span, ...], at: float) -> set[str]:
    return {span.kind for span in spans if span.start <= at < span.end}


@given(phases(), INSIDE)
def test_what_happens_inside_takes_its_part_and_time_stays_whole(before: list[Span], within: list[Span]) -> None:
    after = flattened(before, within)
    assert after[0].start == before[0].start
    assert after[-1].end == before[-1].end
    assert all(a.end == b.start and a.kind != b.kind for a, b in itertools.pairwise(after))
    for tick in range(1000):
        at = (tick + 0.5) / 64
        (phase,) = inside(before, at) or {""}
        found = inside(within, at)
        if phase:
            carved = "compile" if "compile" in found else phase
            if "activations" in found and carved == phase != "train":
                carved = "activations"
            assert inside(after, at) == {carved}


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(1e-6, 1.0)), min_size=1, max_size=3000))
def test_many_spans_become_few_of_the_same_time(given_: list[tuple[Any, float]]) -> None:
    spans, at = [], 0.0
    for kind, seconds in given_:
        spans.append(Span(kind, at, seconds))
        at = spans[-1].end
    few = coarse(spans)
    assert len(few) <= 2 * MOST_SPANS + 1
    assert sum(span.seconds for span in few) == pytest.approx(at)
    assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(few))


def test_a_recorder_is_not_moved_by_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr("time.time", lambda: 0.0)
    recorder.phase("train")
    spans = recorder.spans()
    assert spans[0].start > 1e9
    assert all(span.seconds >= 0 for span in spans)


# Traces of runs


def trace(file: FilePath) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The spans of a trace file and its names, each event with the fields that the format asks for."""
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["displayTimeUnit"] in ("ms", "ns")
    spans = [event for event in document["traceEvents"] if event["ph"] == "X"]
    names = [event for event in document["traceEvents"] if event["ph"] == "M"]
    assert len(spans) + len(names) == len(document["traceEvents"])
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert (type(event["pid"]), type(event["tid"])) == (int, int)
    assert all(type(span[key]) is int and span[key] >= 0 for span in spans for key in ("ts", "dur"))
    assert {name["name"] for name in names} == {"process_name", "thread_name"}
    assert all(isinstance(name["args"]["name"], str) for name in names)
    threads = {(name["pid"], name["tid"]) for name in names if name["name"] == "thread_name"}
    assert {(span["pid"], span["tid"]) for span in spans} <= threads
    return spans, names


def check(store: Store, file: FilePath) -> dict[str, dict[str, Any]]:
    """Rows in which no spans overlap, and children whose spans sum up to what was recorded; the children by name."""
    spans, _ = trace(file)
    rows: dict[tuple[int, int, str], list[dict[str, Any]]] = defaultdict(list)
    for span in spans:
        rows[span["pid"], span["tid"], span["cat"]].append(span)
    for row in rows.values():
        row.sort(key=lambda span: span["ts"])
        assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in itertools.pairwise(row))
    children = {span["name"]: span for span in spans if span["cat"] == "child"}
    run = store.runs()[-1]
    records = [(segment.task, r) for segment in run.segments for r in store.candidates(segment.key)]
    assert set(children) == {f"{task} {r.generation}.{r.child}" for task, r in records}
    for task, record in records:
        child = children[f"{task} {record.generation}.{record.child}"]
        own = [
            span for span in rows[child["pid"], child["tid"], "phase"]
            if child["ts"] <= span["ts"] and span["ts"] + span["dur"] <= child["ts"] + child["dur"]
        ]  # fmt: skip
        assert sum(span["dur"] for span in own) == child["dur"], "no time is untold"
        seconds = {kind: sum(span["dur"] for span in own if span["name"] == kind) / 1e6 for kind in KINDS}
        told = sum(seconds.values()) - seconds["load"]
        assert told == pytest.approx(record.cost.seconds, rel=0.02, abs=0.1)
        assert seconds["compile"] <= 1.02 * record.cost.compile_seconds + 0.1
        assert seconds["train"] + seconds["validate"] > 0, "what is short goes with what follows it"
        assert child["args"]["parent"] == record.candidate.parent
        assert child["args"]["FLOPs"] == record.cost.flops
        assert child["args"]["outcome"] == "trained"
    return children


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_tasks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, tasks: Any) -> FilePath:
    """A system grown in one process."""
    file = tmp_path_factory.mktemp("grown") / "m.db"
    with grown(file, tasks):
        pass
    return file


def test_a_run_in_one_process_is_one_row(database: FilePath, tmp_path: FilePath) -> None:
    told = done("report", "trace", "--out", tmp_path / "t.json", "--db", database, "--json").json
    with Store.open(str(database), read_only=True) as store:
        children = check(store, tmp_path / "t.json")
    assert len(children) == told["children"] == 10
    assert told["left_out"] == 0
    assert len(told["rows"]) == 1
    assert told["rows"][0].endswith("this process, cpu")
    assert {"load", "prepare", "train", "validate", "pack", "commit"} <= set(told["seconds"])
    spans, _ = trace(tmp_path / "t.json")
    commits = [span["args"]["child"] for span in spans if span["name"] == "commit"]
    assert sorted(commits) == sorted(children), "that of a segment's last child is kept with the segment's end"


@pytest.mark.slow
def test_a_run_on_two_ray_workers_is_two_rows(tasks: Any, tmp_path: FilePath) -> None:
    with grown(tmp_path / "m.db", tasks, workers="2") as store:
        told = done("report", "trace", "--out", tmp_path / "t.json", "--db", tmp_path / "m.db", "--json").json
        check(store, tmp_path / "t.json")
        assert {row.partition(": ")[2] for row in told["rows"]} == {"worker 0, cpu", "worker 1, cpu"}
        at_work = workers(store, 1)
        assert [worker.name for worker in at_work] == ["worker 0", "worker 1"]
        assert sum(worker.done for worker in at_work) == 10
        assert len({worker.seat.pid for worker in at_work if worker.seat is not None}) == 2


@pytest.mark.slow
def test_a_run_that_was_resumed_is_one_trace(tasks: Any, tmp_path: FilePath) -> None:
    with small_store(tmp_path / "m.db") as store:
        begin(store, tuple(tasks), SMALL, new=[task.task for task in tasks.values()])
        resumed(store, tasks, [3, 4])
        done("report", "trace", "--out", tmp_path / "t.json", "--db", tmp_path / "m.db")
        check(store, tmp_path / "t.json")


def test_a_child_that_is_being_trained_lasts_until_now(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store, holding(store, "a test"):
        key = store.begin_run({}, ["a"]).segments[0].key
        store.plan_generation(key, 0, [planned("a", store.root(), child) for child in range(2)])
        store.lease_candidate(key, 0, 1, "worker 7", Seat("far", 12, "gpu A100"))
        told = done("report", "trace", "--out", tmp_path / "t.json", "--db", tmp_path / "mutant.db", "--json").json
        assert told["rows"] == ["far: worker 7, gpu A100"]
        (span,), _ = trace(tmp_path / "t.json")
        assert (span["name"], span["args"]["outcome"]) == ("a 0.1", "running")


def test_times_that_overlap_because_a_clock_was_set_get_another_row(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store, holding(store, "a test"):
        key = store.begin_run({}, ["a"]).segments[0].key
        plans = [planned("a", store.root(), child) for child in range(3)]
        store.plan_generation(key, 0, plans)
        for plan, start in zip(plans, (100.0, 102.0, 101.5), strict=True):
            attempt = store.lease_candidate(key, 0, plan.child, "worker 0")
            outcome = trained(plan, store.root())
            object.__setattr__(outcome, "account", Account(Seat("here", 1, "cpu"), (Span("train", start, 2.0),)))
            store.commit_outcome(key, 0, plan.child, outcome, attempt=attempt)
        assert [timing.child for timing in timings(store, 1)] == [0, 2, 1]
        told = done("report", "trace", "--out", tmp_path / "t.json", "--db", tmp_path / "mutant.db", "--json").json
        assert told["rows"] == ["here: worker 0, cpu", "here: worker 0 (2), cpu"]


def test_children_of_whom_nobody_told_are_left_out_and_counted(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        grow(store, "a")
    said = done("report", "trace", "--out", tmp_path / "t.json", "--db", tmp_path / "mutant.db").out
    assert "Left out, because nobody recorded their times: 2 children" in said
    assert trace(tmp_path / "t.json")[0] == []


def test_without_a_run_or_a_place_to_write_the_trace_says_so(database: FilePath, tmp_path: FilePath) -> None:
    new_store(tmp_path).close()
    assert "There is no run yet" in refused("report", "trace", "--db", tmp_path / "mutant.db")
    assert "There is no run 9" in refused("report", "trace", "--run", 9, "--db", database)
    nowhere = tmp_path / "no" / "t.json"
    assert "No such file" in refused("report", "trace", "--out", nowhere, "--db", database)
