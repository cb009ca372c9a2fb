"""Metrics of continual learning, against matrices computed by hand and systems whose evaluations are known."""

from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

import pytest
from cli_calls import QUICK, call, done
from growing import digits_file
from hypothesis import given
from hypothesis import strategies as st
from storage_samples import grow, grow_segment, new_store

from mutant.search.metrics import MetricsReport, metrics, report
from mutant.storage.matrix import Matrix, Step, accuracy_matrix
from mutant.storage.records import Baseline, Evaluation
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store


def matrix(after: str, rows: Sequence[Sequence[float | None]]) -> Matrix:
    """`after` names the task of each step by a letter."""
    tasks = tuple(dict.fromkeys(after))
    steps = tuple(Step(1, i, task, after[:i].count(task), ()) for i, task in enumerate(after))
    return Matrix(tasks, steps, tuple(tuple(row) for row in rows))


def values(found: MetricsReport) -> list[float | None]:
    four = (found.average_accuracy, found.average_incremental_accuracy, found.backward_transfer, found.forgetting)
    return [metric.value for metric in four]


@pytest.mark.parametrize(
    ("after", "rows", "expected"),
    [
        # ACC = (.5 + .7 + .6) / 3; mean of .9, (.8 + .7) / 2 and ACC; BWT = ((.5 - .9) + (.7 - .7)) / 2;
        # F = ((.9 - .5) + (.7 - .7)) / 2
        ("abc", [[0.9], [0.8, 0.7], [0.5, 0.7, 0.6]], [0.6, (0.9 + 0.75 + 0.6) / 3, -0.2, 0.2]),
        # a falls and comes back above where it was, and was best in between: BWT and forgetting are no opposites
        ("abc", [[0.5], [0.9, 0.4], [0.7, 0.4, 0.1]], [0.4, (0.5 + 0.65 + 0.4) / 3, 0.1, 0.1]),
        # b is visited again and gets better: a real backward transfer, and negative forgetting
        ("abb", [[0.8], [0.8, 0.5], [0.8, 0.75]], [0.775, (0.8 + 0.65 + 0.775) / 3, 0.125, -0.125]),
        # routes that do not change
        ("abab", [[0.3], [0.3, 0.7], [0.3, 0.7], [0.3, 0.7]], [0.5, (0.3 + 0.5 * 3) / 4, 0.0, 0.0]),
    ],
)
def test_against_matrices_computed_by_hand(after: str, rows: list[list[float]], expected: list[float]) -> None:
    assert values(report(matrix(after, rows), {})) == pytest.approx(expected, abs=1e-15)


ACCURACY = st.integers(0, 997).map(lambda right: right / 997)


@given(st.lists(ACCURACY, min_size=2, max_size=8))
def test_unchanged_routes_have_no_transfer_and_no_forgetting_exactly(accuracies: list[float]) -> None:
    rows = [accuracies[: i + 1] for i in range(len(accuracies))]
    found = report(matrix("abcdefgh"[: len(rows)], rows), {})
    assert (found.backward_transfer.value, found.forgetting.value) == (0.0, 0.0)


def test_what_is_not_defined_says_why() -> None:
    nothing = report(Matrix((), (), ()), {"a": 0.5})
    assert values(nothing) == [None] * 4
    assert "no task" in nothing.average_accuracy.reason
    one = report(matrix("a", [[0.5]]), {})
    assert values(one) == [0.5, 0.5, None, None]
    assert "second step" in one.backward_transfer.reason
    assert "mutant baseline" in one.gain_over_fine_tuning.reason
    untested = report(matrix("ab", [[None], [0.5, 0.5]]), {})
    assert values(untested) == [0.5, None, None, None]
    assert untested.forgetting.reason == "not every path was tested: a"


def test_the_gain_is_over_the_tasks_that_have_the_baseline() -> None:
    found = report(matrix("ab", [[0.5], [0.5, 0.75]]), {"b": 0.5, "gone": 1.0})
    assert (found.gain_over_fine_tuning.value, found.gain_over_fine_tuning.tasks) == (0.25, 1)
    assert found.gains == {"b": 0.25}
    assert "without a" in found.gain_over_fine_tuning.reason


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with new_store(database, "a", "b", "c") as opened:
        yield opened


def test_the_matrix_of_a_system_follows_who_was_active(store: Store) -> None:
    first, other = grow(store, "a", "b")
    run = store.begin_run({"children": 2}, ["a", "c"])
    second = grow_segment(store, run.segments[0].key, "a", first, seed=7)
    store.finish_segment(run.segments[1].key, None, None)
    store.finish_run(run.id)
    for path, accuracy in ((first, 0.5), (other, 0.25), (second, 0.75)):
        assert path.task is not None
        store.record_evaluation(Evaluation(path.id, path.task, "test", accuracy, 100, "f" * 64))
        store.record_evaluation(Evaluation(path.id, path.task, "validation", 0.0, 100, "f" * 64))
    found = accuracy_matrix(store)
    assert found.tasks == ("a", "b")
    assert found.pathless == ("c",)
    assert found.accuracies == ((0.5,), (0.5, 0.25), (0.75, 0.25))
    assert [(s.run, s.segment, s.task, s.visit) for s in found.steps] == [
        (1, 0, "a", 0),
        (1, 1, "b", 0),
        (2, 0, "a", 1),
    ]
    assert found.steps[-1].active == (second.id, other.id)
    store.record_baseline(Baseline("head-only", "a", 0.9, 0.9, 3))
    store.record_baseline(Baseline("full", "b", 0.9, 0.5, 3))
    whole = metrics(store)
    assert whole.backward_transfer.value == 0.125
    assert whole.gain_over_fine_tuning.value == -0.25


def test_a_removed_task_counts_no_more(store: Store) -> None:
    for path, accuracy in zip(grow(store, "a", "b"), (0.5, 0.25), strict=True):
        store.record_evaluation(Evaluation(path.id, str(path.task), "test", accuracy, 100, "f" * 64))
    remove(store, "a", force=True)
    found = accuracy_matrix(store)
    assert (found.tasks, found.accuracies, found.pathless) == (("b",), ((0.25,),), ("c",))
    assert [step.task for step in found.steps] == ["b"]
    undo(store, "a")
    assert accuracy_matrix(store).accuracies == ((0.5,), (0.5, 0.25))


@pytest.mark.slow
def test_a_real_system_is_reported_and_compared_at_the_same_budget(tmp_path: FilePath) -> None:
    db = tmp_path / "m.db"
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    assert done("report", "metrics", "--db", db).out.count("not defined") == 5
    assert "no task to compare" in call("baseline", "--db", db).err
    file = digits_file(tmp_path, (0, 1))
    arguments = (*QUICK, "--visits", 2, "--workers", 1, "--name", "low", "--db", db)
    done("add", f"arrays:{file}", *arguments)
    found = done("report", "metrics", "--db", db, "--json").json
    assert len(found["matrix"]["accuracies"]) == 2
    assert None not in found["matrix"]["accuracies"][0]  # the first visit's winner was tested too
    assert found["backward_transfer"]["value"] is not None
    full = done("baseline", "low", "--workers", 1, "--db", db, "--json")
    (baseline,) = full.json
    assert full.err.count("low ") == 4
    with Store.open(str(db), read_only=True) as store:
        spent = [r.cost.examples for s in store.runs()[0].segments for r in store.candidates(s.key)]
        root = store.root()
    assert baseline["cost"]["examples"] == sum(spent)
    assert baseline["n_parameters"] > root.n_parameters
    gain = done("report", "metrics", "--db", db, "--json").json["gain_over_fine_tuning"]
    assert gain["value"] == found["matrix"]["accuracies"][-1][0] - baseline["test_accuracy"]
    told = done("report", "metrics", "--db", db).out
    assert "gain over full fine-tuning" in told
    assert call("baseline", "low", "--kind", "none", "--db", db).code == 2
