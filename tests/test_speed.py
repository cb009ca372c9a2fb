"""The speed of a search as it is reported, against sums by hand."""

from pathlib import Path as FilePath

import pytest
from cli_calls import done
from storage_samples import grow, new_store

from mutant.peak import measured_peak
from mutant.search.speed import speeds
from mutant.storage.effort import Effort, efforts


def test_rates_of_segments_and_runs() -> None:
    parts = [
        Effort(1, 0, "a", 1, 4, 10.0, 100, 2e9),
        Effort(1, 1, "b", 1, 2, 30.0, 50, 6e9),
        Effort(2, 0, "a", 2, 1, 0.0, 0, 0.0),
    ]
    found = speeds(parts, 4e8)
    assert [(s.run, s.segment, s.task, s.visit) for s in found] == [
        (1, 0, "a", 1), (1, 1, "b", 1), (1, None, "all", None), (2, 0, "a", 2), (2, None, "all", None),
    ]  # fmt: skip
    assert [s.share for s in found] == [0.5, 0.5, 0.5, None, None]
    assert [s.children_per_minute for s in found] == [24.0, 4.0, 9.0, None, None]
    assert (found[2].children, found[2].examples, found[2].flops_per_second) == (6, 150, 2e8)
    assert speeds(parts, None)[0].share is None


def test_efforts_are_the_sums_of_what_was_committed(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a", "b") as store:
        assert efforts(store) == ()
        grow(store, "a", "b", children=3)
        records = [r for s in store.runs()[0].segments for r in store.candidates(s.key)]
        found = efforts(store)
        assert [(e.task, e.children, e.flops) for e in found] == [("a", 3, 3e9), ("b", 3, 3e9)]
        assert sum(e.seconds for e in found) == pytest.approx(sum(r.cost.seconds for r in records))
        assert sum(e.examples for e in found) == sum(r.cost.examples for r in records)


def test_the_report_of_a_system(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        grow(store, "a")
    db = tmp_path / "mutant.db"
    found = done("report", "speed", "--db", db, "--json").json
    assert [(s["task"], s["children"]) for s in found["speeds"]] == [("a", 2), ("all", 2)]
    assert found["speeds"][0]["share"] == found["speeds"][0]["flops_per_second"] / found["peak"]["flops_per_second"]
    told = done("report", "speed", "--db", db).out
    assert "float32" in told
    assert "children/min" in told


def test_the_peak_is_that_of_float32_on_a_cpu() -> None:
    peak = measured_peak(0.05)
    assert peak.dtype == "float32"
    assert peak.flops_per_second > 1e8
    assert peak.device.startswith("cpu")
