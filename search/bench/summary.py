"""What a benchmark's results say: each method's mean and spread over repeats, on each task and on average."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from mutant.storage.results import CellResult, TaskResult


@dataclass(frozen=True)
class Spread:
    """Mean over repeats, and the standard deviation (n - 1) where there are two or more."""

    mean: float
    deviation: float | None = None

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """
        >>> Spread.of([0.5]), Spread.of([1.0, 3.0]).mean
        (Spread(mean=0.5, deviation=None), 2.0)
        """
        return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class MethodSummary:
    """A method over its repeats. `accuracy` is the average over tasks on their test splits; `by_task` each task's.

    `accounted` is per task, `total_parameters` of all tasks together, `flops` a forward pass on average over tasks;
    `device_seconds`, `processor_seconds` (None: not known), `training_flops` and `children` of all tasks together;
    `energy` in joules where it is known.
    """

    name: str
    group: str
    repeats: int
    accuracy: Spread
    validation: Spread
    by_task: Mapping[str, Spread]
    accounted: Spread
    total_parameters: Spread
    flops: Spread
    device_seconds: Spread
    training_flops: Spread
    children: Spread
    energy: Spread | None
    processor_seconds: Spread | None = None


def summarize(cells: Sequence[CellResult]) -> tuple[MethodSummary, ...]:
    """Every method, the best average accuracy first."""
    names = dict.fromkeys(cell.method for cell in cells)
    found = [_method([cell for cell in cells if cell.method == name]) for name in names]
    return tuple(sorted(found, key=lambda one: -one.accuracy.mean))


def _method(cells: Sequence[CellResult]) -> MethodSummary:
    tasks = dict.fromkeys(task.task for cell in cells for task in cell.tasks)

    def averaged(value: Callable[[TaskResult], float]) -> Spread:
        return Spread.of([fmean(value(task) for task in cell.tasks) for cell in cells])

    def summed(value: Callable[[TaskResult], float]) -> Spread:
        return Spread.of([sum(value(task) for task in cell.tasks) for cell in cells])

    processor = [cell.processor_seconds for cell in cells if cell.processor_seconds is not None]
    energies = [cell.energy_joules for cell in cells if cell.energy_joules is not None]
    return MethodSummary(
        name=cells[0].method,
        group=cells[0].group,
        repeats=len(cells),
        accuracy=averaged(lambda task: task.test_accuracy),
        validation=averaged(lambda task: task.validation_accuracy),
        by_task={
            name: Spread.of([task.test_accuracy for cell in cells for task in cell.tasks if task.task == name])
            for name in tasks
        },
        accounted=averaged(lambda task: task.accounted_parameters),
        total_parameters=Spread.of([float(cell.total_parameters) for cell in cells]),
        flops=averaged(lambda task: task.flops_per_example),
        device_seconds=summed(lambda task: task.device_seconds),
        training_flops=summed(lambda task: task.flops),
        children=summed(lambda task: task.children),
        energy=Spread.of(energies) if len(energies) == len(cells) else None,
        processor_seconds=Spread.of(processor) if processor else None,
    )


@dataclass(frozen=True)
class Comparison:
    """A search against the baseline of the best average accuracy: points of accuracy won, share of parameters saved,
    device time over the baseline's; `wins` counts the tasks on which its mean is higher, of `tasks`.
    """

    search: str
    baseline: str
    points: float
    parameters_saved: float
    device_time: float
    wins: int
    tasks: int

    @property
    def as_the_paper(self) -> bool:
        """Whether it wins by as much as muNet did (arXiv 2205.10937): 2.39 points and 47%, with no more device time."""
        return self.points >= 2.39 and self.parameters_saved >= 0.47 and self.device_time <= 1.0


def compared(methods: Sequence[MethodSummary], search: str) -> Comparison | None:
    """The search `search` against the best baseline; None while one of them is missing."""
    ours = next((one for one in methods if one.name == search), None)
    best = max((one for one in methods if one.group == "baseline"), key=lambda one: one.accuracy.mean, default=None)
    if ours is None or best is None:
        return None
    tasks = ours.by_task.keys() & best.by_task.keys()
    return Comparison(
        search=ours.name,
        baseline=best.name,
        points=100 * (ours.accuracy.mean - best.accuracy.mean),
        parameters_saved=1 - ours.accounted.mean / best.accounted.mean,
        device_time=ours.device_seconds.mean / best.device_seconds.mean if best.device_seconds.mean else 0.0,
        wins=sum(ours.by_task[name].mean > best.by_task[name].mean for name in tasks),
        tasks=len(tasks),
    )
