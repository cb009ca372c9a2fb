"""`mutant bench`: methods side by side at one budget, resumed where it stopped, and what is told of them."""

import re
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from cli_calls import call, done, refused
from growing import Saboteur, digits_file

from mutant.search.bench.methods import ABLATIONS, method
from mutant.search.bench.report import computed_on, write_report
from mutant.search.bench.running import MOST_CHILDREN, Cell, order, run_settings
from mutant.search.bench.summary import Spread, compared, summarize
from mutant.search.config import Settings
from mutant.search.presets import DEFAULT, PRESETS
from mutant.search.suites.suite import read_suite
from mutant.storage.results import CellResult, Results, TaskResult
from mutant.tasks.errors import UserError

METHODS = ("evolution", "two-visits", "random", "full", "freeze-1", "adapters-8", "head", "logistic")


def suite_file(directory: Path) -> Path:
    tasks = {name: digits_file(directory, classes) for name, classes in {"low": (0, 1, 2), "high": (7, 8, 9)}.items()}
    lines = [
        'root = "random:vit-ti16"', "image_size = 16", "blocks = 2", 'budget = "4children"',
        f"methods = {list(METHODS)}", "[settings]", "generation_size = 2", "validations = 1",
        "examples_per_validation = 32", "batch = 16", "[tasks]",
        *(f'{name} = "arrays:{file}"' for name, file in tasks.items()),
    ]  # fmt: skip
    file = directory / "small.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite_file(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def finished(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("finished") / "bench"
    done("bench", suite, "--dir", directory, "--workers", 1)
    return directory


def cells_of(directory: Path) -> dict[tuple[str, int], CellResult]:
    results = Results.open(directory / "results.db")
    try:
        return {(cell.method, cell.repeat): cell for cell in results.cells()}
    finally:
        results.close()


def test_every_method_is_measured_on_every_task_at_the_budget(finished: Path) -> None:
    cells = cells_of(finished)
    assert {name for name, _ in cells} == set(METHODS)
    for (name, _), cell in cells.items():
        assert [task.task for task in cell.tasks] == ["low", "high"]
        assert cell.processor
        assert (cell.processor_seconds or 0.0) > 0
        for task in cell.tasks:
            assert 0 <= task.test_accuracy <= 1
            assert task.test_examples > 0
            if name != "logistic":
                assert (task.children, task.failed) == (4, 0)
                assert task.flops > 0
                assert task.device_seconds > 0
    full, head, freeze = (cells[name, 0] for name in ("full", "head", "freeze-1"))
    assert full.total_parameters == sum(task.n_parameters for task in full.tasks)
    for narrow in (head, freeze):
        accounted = [task.accounted_parameters for task in narrow.tasks]
        assert sum(accounted) == pytest.approx(narrow.total_parameters)
        assert max(accounted) < min(task.accounted_parameters for task in full.tasks)


def test_the_report_tells_the_results(finished: Path) -> None:
    markdown = (finished / "report.md").read_text(encoding="utf-8")
    page = (finished / "report.html").read_text(encoding="utf-8")
    for (name, _), cell in cells_of(finished).items():
        average = sum(task.test_accuracy for task in cell.tasks) / 2
        assert re.search(rf"^\| {name} \|.* \| {100 * average:.2f} \|", markdown, re.MULTILINE)
        assert f"<td>{100 * average:.2f}</td>" in page
        assert cell.digest[:12] in markdown
        assert cell.digest[:12] in page
    assert "the best baseline" in markdown
    assert f"mutant bench small.toml --data DIR --budget 4children --methods {','.join(sorted(METHODS))}" in markdown
    assert page.count("<svg") == 2
    assert "<script" not in page


def test_interrupted_and_resumed_is_undisturbed(
    suite: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fail in (2, 11, 3):
        with monkeypatch.context() as patch:
            saboteur = Saboteur({fail: KeyboardInterrupt()})
            patch.setattr("mutant.search.crews.InProcessEvaluator", lambda *_, one=saboteur: one)
            called = call("bench", suite, "--dir", tmp_path / "bench", "--workers", 1)
            assert called.code == 130
            assert "same command" in called.err
    done("bench", suite, "--dir", tmp_path / "bench", "--workers", 1)
    before, after = cells_of(finished), cells_of(tmp_path / "bench")
    assert any(cell.processor_seconds is None for cell in after.values()), "of a cell that was resumed it is not known"
    assert {key: cell.digest for key, cell in after.items()} == {key: cell.digest for key, cell in before.items()}
    accuracies = {key: [t.test_accuracy for t in cell.tasks] for key, cell in after.items()}
    assert accuracies == {key: [t.test_accuracy for t in cell.tasks] for key, cell in before.items()}


def test_repeats_and_methods_are_added_to_what_is_there(suite: Path, tmp_path: Path) -> None:
    arguments = ("bench", suite, "--dir", tmp_path / "b", "--workers", 1, "--json", "--methods")
    (one,) = done(*arguments, "head").json
    assert (one["name"], one["repeats"], one["accuracy"]["deviation"]) == ("head", 1, None)
    two = done(*arguments, "head,shuffled", "--repeats", 2)
    assert "repeat 0" not in two.err.replace("shuffled, repeat 0", "")
    assert {(m["name"], m["repeats"]) for m in two.json} == {("head", 2), ("shuffled", 2)}
    assert cells_of(tmp_path / "b")["head", 0].digest != cells_of(tmp_path / "b")["head", 1].digest


def test_another_benchmark_in_the_directory_is_refused(suite: Path, finished: Path) -> None:
    told = refused("bench", suite, "--dir", finished, "--budget", "5children")
    assert "budget 4children, not 5children" in told
    assert "not munet" not in refused("bench", suite, "--dir", finished, "--preset", "munte")
    assert "--dir" in refused("bench", suite, "--dir", finished, "--preset", "munet")


def test_a_system_that_began_with_other_settings_is_not_gone_on_with(suite: Path, tmp_path: Path) -> None:
    """As when a preset's defaults have changed since it was interrupted."""
    arguments = ("bench", suite, "--dir", tmp_path, "--workers", 1, "--methods")
    done(*arguments, "no-scale")
    systems = tmp_path / "systems"
    (systems / "no-scale-0.db").rename(systems / "evolution-0.db")
    told = refused(*arguments, "evolution")
    assert "began with scale_factor 1.0, and now it would be 0.9" in told
    assert "rm '" in told
    (systems / "evolution-0.db").unlink()
    done(*arguments, "evolution")


def test_bad_input_is_told(suite: Path, tmp_path: Path) -> None:
    assert "'samples'" in refused("bench", "sampels")
    assert "'full'" in refused("bench", suite, "--dir", tmp_path / "b", "--methods", "ful")
    assert "names none" in refused("bench", suite, "--dir", tmp_path / "b", "--methods", ",")
    assert "no budget" in refused("bench", suite, "--dir", tmp_path / "b", "--budget", "much")
    assert "4 blocks" not in refused("bench", suite, "--dir", tmp_path / "b", "--methods", "freeze-9", "--workers", 1)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "not a directory" in refused("bench", suite, "--dir", tmp_path / "file")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "results.db").write_text("no database at all " * 100, encoding="utf-8")
    assert "--dir" in refused("bench", suite, "--dir", tmp_path / "c")


def test_the_suites_are_listed() -> None:
    assert {one["suite"] for one in done("bench", "--json").json} >= {"samples", "decathlon-mini"}
    assert "mutant bench SUITE" in done("bench").out


def test_tasks_are_shuffled_by_the_repeat() -> None:
    names = tuple(f"t{i}" for i in range(8))
    orders = [tuple(order(names, Cell(method("shuffled"), repeat))) for repeat in range(3)]
    assert len(set(orders)) == 3
    assert all(tuple(sorted(one)) == names for one in orders)
    assert order(names, Cell(method("evolution"), 1)) == names


def test_an_ablation_differs_from_the_search_in_one_thing() -> None:
    suite = read_suite("samples")
    plain = run_settings(suite, Cell(method("evolution"), 0))
    for name in ABLATIONS:
        given = run_settings(suite, Cell(method(name), 0))
        differing = {field.name for field in fields(given) if getattr(given, field.name) != getattr(plain, field.name)}
        assert len(differing) <= 1 or name in ("no-scale", "two-visits"), name
        assert differing or name == "shuffled" or given.visits == 1, name


@pytest.mark.parametrize("preset", [None, "munet"])
def test_visits_share_the_children_of_a_task(preset: str | None) -> None:
    suite = replace(read_suite("samples"), preset=preset)
    found = [
        configured(run_settings(suite, Cell(method(name), 0))) for name in ("one-visit", "two-visits", "evolution")
    ]
    assert len({visits * children for visits, children in found}) == 1
    assert [visits for visits, _ in found][:2] == [1, 2]
    assert found[2] == found[0 if preset is None else 1]
    few = replace(suite, settings=Settings(children=7, visits=1))
    assert configured(run_settings(few, Cell(method("two-visits"), 0))) == (2, 3)


def configured(settings: Settings) -> tuple[int, int]:
    """Visits, and the children of each."""
    preset = PRESETS[settings.preset or DEFAULT]
    return settings.visits or preset.visits, settings.children or preset.children


def test_a_search_has_the_children_of_its_preset_and_a_baseline_goes_on() -> None:
    suite = read_suite("samples")
    children = {name: run_settings(suite, Cell(method(name), 0)).children for name in ("evolution", "random", "full")}
    assert children == {"evolution": None, "random": None, "full": MOST_CHILDREN}


def result(name: str, repeat: int, group: str, accuracies: list[float], accounted: float, seconds: float) -> CellResult:
    tasks = [
        TaskResult(name, repeat, f"t{i}", i, a, a, 10, accounted, 10, 5.0, 4, 0, 10, 3.0, seconds, seconds, "p")
        for i, a in enumerate(accuracies)
    ]
    return CellResult(name, repeat, group, 100, "d", 1.0, None, tuple(tasks))


def test_the_summary_is_counted_by_hand() -> None:
    cells = [
        result("evolution", 0, "search", [0.8, 0.6], 40.0, 2.0),
        result("evolution", 1, "search", [0.9, 0.7], 60.0, 2.0),
        result("full", 0, "baseline", [0.7, 0.7], 100.0, 4.0),
        result("head", 0, "baseline", [0.5, 0.5], 10.0, 1.0),
        result("logistic", 0, "witness", [1.0, 1.0], 10.0, 1.0),
    ]
    methods = {one.name: one for one in summarize(cells)}
    evolution = methods["evolution"]
    assert evolution.accuracy.mean == pytest.approx(0.75)
    assert evolution.accuracy.deviation == pytest.approx(0.0707, abs=1e-4)
    assert evolution.by_task["t0"].mean == pytest.approx(0.85)
    assert evolution.accounted.mean == 50.0
    assert evolution.device_seconds.mean == 4.0
    found = compared(tuple(methods.values()), "evolution")
    assert found is not None
    assert found.baseline == "full"
    assert found.points == pytest.approx(5.0)
    assert found.parameters_saved == pytest.approx(0.5)
    assert found.device_time == pytest.approx(0.5)
    assert (found.wins, found.tasks) == (1, 2)
    assert found.as_the_paper


def test_equal_results_give_equal_reports(tmp_path: Path) -> None:
    cells = [result("evolution", 0, "search", [0.8], 4e5, 2.0), result("full", 0, "baseline", [0.7], 4e6, 2.0)]
    files: list[list[bytes]] = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append([file.read_bytes() for file in write_report(cells, {"suite": "s"}, tmp_path / name)])
    assert files[0] == files[1]
    with pytest.raises(UserError, match="nothing to report"):
        write_report([], {}, tmp_path)


def test_processes_that_begin_a_benchmark_together_share_its_results(tmp_path: Path) -> None:
    def begin(number: int) -> Mapping[str, str]:
        results = Results.open(tmp_path / f"{number // 8}.db")
        try:
            results.begin({"suite": "it", "by": str(number)})
            return results.settings()
        finally:
            results.close()

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(begin, range(80)))
    assert all(found[number] == found[number - number % 8] for number in range(80))
    assert all(told["suite"] == "it" for told in found)


def test_results_of_the_first_version_are_read_and_go_on(tmp_path: Path) -> None:
    file, cell = tmp_path / "results.db", result("full", 0, "baseline", [0.5, 0.6], 10.0, 1.0)
    results = Results.open(file)
    results.record(cell)
    results.close()
    with closing(sqlite3.connect(file)) as older:
        older.executescript(
            "ALTER TABLE cells DROP COLUMN processor; ALTER TABLE cells DROP COLUMN processor_seconds;"
            "PRAGMA user_version = 1"
        )
    results = Results.open(file)
    newer = replace(cell, repeat=1, processor="a", processor_seconds=4.0, tasks=())
    results.record(newer)
    assert list(results.cells()) == [cell, newer]
    results.close()


def test_the_report_tells_what_was_computed_where(tmp_path: Path) -> None:
    one = result("evolution", 0, "search", [0.8], 4e5, 2.0)
    cells = [replace(one, processor="a", processor_seconds=3.0), replace(one, repeat=1, processor="a")]
    assert computed_on(cells) == "Computed on a."
    (summary,) = summarize(cells)
    assert summary.processor_seconds == Spread(3.0)
    elsewhere = [*cells, replace(one, repeat=2)]
    assert computed_on(elsewhere).startswith(
        "Computed, with the repeats, on a: evolution (0, 1); on a processor that was not noted: evolution (2). Digests"
    )
    write_report(elsewhere, {"suite": "s"}, tmp_path)
    assert "on a processor that was not noted: evolution (2)" in (tmp_path / "report.html").read_text()
    assert "| 3 s |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(("name", "group"), [("scale-0.9", "scale"), ("no-deep", "ablation"), ("logistic", "witness")])
def test_a_method_alone_has_a_report_whatever_its_kind(name: str, group: str, tmp_path: Path) -> None:
    write_report([result(name, 0, group, [0.8], 4e5, 2.0)], {"suite": "s"}, tmp_path)
    assert f"<!-- {name} -->" in (tmp_path / "tasks.svg").read_text()  # matplotlib's comment on a text's outlines


def test_a_cell_is_kept_with_all_its_tasks_or_not_at_all(tmp_path: Path) -> None:
    results = Results.open(tmp_path / "results.db")
    cell = result("full", 0, "baseline", [0.5, 0.6], 10.0, 1.0)
    twice: Any = CellResult("head", 0, "baseline", 1, "d", 1.0, None, (cell.tasks[0], cell.tasks[0]))
    results.record(cell)
    with pytest.raises(Exception, match="UNIQUE"):
        results.record(twice)
    assert list(results.cells()) == [cell]
    results.close()


def test_the_sweep_of_scale_factors_has_a_picture_of_its_own(tmp_path: Path) -> None:
    others = [result("evolution", 0, "search", [0.8], 4e5, 2.0), result("full", 0, "baseline", [0.7], 3e6, 2.0)]
    scales = [result(f"scale-{s}", 0, "scale", [a], 1e6 * s, 2.0) for s, a in ((0.98, 0.82), (0.3, 0.7))]
    names = {file.name for file in write_report([*others, *scales[:1]], {"suite": "s"}, tmp_path)}
    assert "scale.svg" not in names
    assert drawn(tmp_path / "sizes.svg") == {"evolution", "full", "scale-0.98"}
    names = {file.name for file in write_report([*others, *scales], {"suite": "s"}, tmp_path)}
    assert "scale.svg" in names
    assert drawn(tmp_path / "scale.svg") == {"full", "scale-0.98", "scale-0.3"}
    assert drawn(tmp_path / "sizes.svg") == {"evolution", "full"}
    assert "(scale.svg)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<svg") == 3


def drawn(picture: Path) -> set[str]:
    """The methods that a picture names: matplotlib writes a comment beside a text's outlines."""
    return {
        name for name in ("evolution", "full", "scale-0.98", "scale-0.3") if f"<!-- {name} -->" in picture.read_text()
    }


def test_a_sweep_alone_is_drawn_in_both_pictures(tmp_path: Path) -> None:
    cells = [result(f"scale-{s}", 0, "scale", [a], 1e6 * s, 2.0) for s, a in ((0.98, 0.82), (0.3, 0.7))]
    write_report(cells, {"suite": "s"}, tmp_path)
    assert drawn(tmp_path / "sizes.svg") == drawn(tmp_path / "scale.svg") == {"scale-0.98", "scale-0.3"}


def test_results_that_cannot_be_used_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutant.storage.results.LOCK_SECONDS", 0.1)
    file = tmp_path / "results.db"
    results = Results.open(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        cell = result("full", 0, "baseline", [0.7], 4e6, 2.0)
        for write in (lambda: results.begin({"suite": "s"}), lambda: results.record(cell)):
            with pytest.raises(UserError, match=r"Cannot use the results in '.*': .*locked"):
                write()
    assert (results.cells(), results.settings()) == ([], {})
    results.close()
