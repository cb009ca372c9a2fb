"""Metrics of continual learning over the accuracy matrix; docs/metrics.md has their definitions and sources.

A metric that is not defined is None with a reason, never a number that stands for something else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mutant.storage.matrix import Matrix, accuracy_matrix
from mutant.storage.store import Store

FULL = "full"
"""The baseline that the gain is counted from: the whole root fine-tuned at the task's own budget."""
Row = Sequence[float]


@dataclass(frozen=True)
class Metric:
    """A value, or None and why; `tasks` of the system take part in it."""

    value: float | None
    reason: str = ""
    tasks: int = 0


@dataclass(frozen=True)
class MetricsReport:
    """The matrix and what follows from it. Accuracies 0 to 1; differences are differences of accuracies.

    `gains` holds the gain over full fine-tuning of each task that has that baseline and was tested.
    """

    matrix: Matrix
    average_accuracy: Metric
    average_incremental_accuracy: Metric
    backward_transfer: Metric
    forgetting: Metric
    gain_over_fine_tuning: Metric
    gains: Mapping[str, float] = field(default_factory=dict[str, float])


def metrics(store: Store) -> MetricsReport:
    """The metrics of a system as it stands."""
    full = {b.task: b.test_accuracy for b in store.baselines() if b.name == FULL and b.test_accuracy is not None}
    return report(accuracy_matrix(store), full)


def report(matrix: Matrix, full: Mapping[str, float]) -> MetricsReport:
    """All metrics of `matrix`; `full` is the test accuracy of full fine-tuning by task."""
    now = dict(zip(matrix.tasks, matrix.accuracies[-1], strict=True)) if matrix.accuracies else {}
    gains = {task: value - full[task] for task, value in now.items() if value is not None and task in full}
    return MetricsReport(
        matrix,
        _over(matrix, matrix.accuracies[-1:], average_accuracy),
        _over(matrix, matrix.accuracies, average_incremental_accuracy),
        _change(matrix, backward_transfer),
        _change(matrix, forgetting),
        _gain(matrix, gains),
        gains,
    )


def average_accuracy(rows: Sequence[Row]) -> float:
    """Mean of the last row (arXiv 1706.08840, equation 2).

    >>> average_accuracy([[0.9], [0.9, 0.7]])
    0.8
    """
    return _mean(rows[-1])


def average_incremental_accuracy(rows: Sequence[Row]) -> float:
    """Mean over the steps of the average accuracy on the tasks seen by then (iCaRL, arXiv 1611.07725, section 4.1).

    >>> average_incremental_accuracy([[1.0], [1.0, 0.5]])
    0.875
    """
    return _mean([_mean(row) for row in rows])


def backward_transfer(rows: Sequence[Row]) -> float:
    """Mean of the last accuracy minus the first, over the tasks seen before the last step (arXiv 1706.08840, eq. 3).

    >>> backward_transfer([[0.75], [0.5, 0.75]])
    -0.25
    """
    return _mean([rows[-1][task] - column[0] for task, column in _columns(rows)])


def forgetting(rows: Sequence[Row]) -> float:
    """Mean of the best earlier accuracy minus the last, over the same tasks (arXiv 1801.10112, section 4.1).

    >>> forgetting([[0.5], [0.75, 0.5], [0.25, 0.5, 1.0]])
    0.25
    """
    return _mean([max(column) - rows[-1][task] for task, column in _columns(rows)])


def _columns(rows: Sequence[Row]) -> list[tuple[int, list[float]]]:
    """(task, its accuracies before the last step) of every task seen before the last step."""
    return [(task, [row[task] for row in rows[:-1] if task < len(row)]) for task in range(len(rows[-2]))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _over(matrix: Matrix, rows: Sequence[Sequence[float | None]], metric: Callable[[Sequence[Row]], float]) -> Metric:
    """The metric of `rows`, or why it is not defined."""
    if not rows:
        return Metric(None, "no task has a finished path yet")
    known = [[value for value in row if value is not None] for row in rows]
    missing = {task for row in rows for task, value in zip(matrix.tasks, row, strict=False) if value is None}
    if missing:
        return Metric(None, f"not every path was tested: {_named(task for task in matrix.tasks if task in missing)}")
    return Metric(metric(known), tasks=len(rows[-1]))


def _change(matrix: Matrix, metric: Callable[[Sequence[Row]], float]) -> Metric:
    """A metric of how tasks changed since they were first learnt."""
    if len(matrix.steps) < 2:
        return Metric(None, "it needs a second step: no task was learnt before another one, or visited again")
    found = _over(matrix, matrix.accuracies, metric)
    return found if found.value is None else Metric(found.value, tasks=len(matrix.accuracies[-2]))


def _gain(matrix: Matrix, gains: Mapping[str, float]) -> Metric:
    if gains:
        without = [task for task in matrix.tasks if task not in gains]
        reason = f"without {_named(without)}: no such baseline, or not tested" if without else ""
        return Metric(_mean(list(gains.values())), reason, len(gains))
    return Metric(None, "no task has a fine-tuned baseline; run one with: mutant baseline")


def _named(tasks: Iterable[str]) -> str:
    names = list(tasks)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
