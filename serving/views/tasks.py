"""The tasks of a system: what each reached, what it costs, and how much of it is shared."""

from collections.abc import Mapping
from dataclasses import dataclass

from mutant.path import Path
from mutant.pool import Pool, accounted_parameters, shared_share
from mutant.serving.views.colours import Badge, badges
from mutant.storage.records import ENERGY
from mutant.storage.store import Store
from mutant.tasks.task import Task

HEAD_ONLY = "head-only"
TEST = "test"


@dataclass(frozen=True)
class SystemView:
    """The system: what it was grown from, and the size of all that answers.

    `parameters` counts every component once, `parameters_used` only those that some task answers with (a path may leave
    parts of the root out), `parameters_apart` what as many separate models would have. `image_size` in pixels.
    """

    root: str
    family: str
    image_size: int
    parameters: int
    parameters_used: int
    parameters_apart: int
    depth: int


@dataclass(frozen=True)
class TaskView:
    """One task. Accuracies and shares 0 to 1; None where not measured, or where nothing has been learnt yet.

    `path` is the id of the model that answers and `version` the digest of what it computes. `flops` are those of one
    image, `seconds` the training time of all its children, `energy_joules` what that training drew.
    """

    task: str
    number: int
    colour: str
    classes: list[str]
    validation_accuracy: float | None
    test_accuracy: float | None
    head_only_test_accuracy: float | None
    accounted_parameters: float | None
    parameters: int | None
    shared: float | None
    flops: float | None
    depth: int | None
    seconds: float
    energy_joules: float | None
    path: str | None
    version: str | None


@dataclass(frozen=True)
class TasksView:
    """The tasks in order of arrival, and the names of removed ones that can be asked back."""

    system: SystemView
    tasks: list[TaskView]
    removed: list[str]


@dataclass(frozen=True)
class _Measured:
    """What was measured, by task: tests of paths that answer, head-only baselines, seconds and joules of training."""

    tests: Mapping[str, float]
    head_only: Mapping[str, float | None]
    seconds: Mapping[str, float]
    joules: Mapping[str, float]


def tasks_view(store: Store) -> TasksView:
    """Everything about the tasks of a system, by a fixed number of queries."""
    pool, marks, active = store.pool(), badges(store), store.tasks()
    measured = _Measured(
        tested(store, pool),
        {b.task: b.test_accuracy for b in store.baselines() if b.name == HEAD_ONLY},
        store.training_seconds(),
        _energy(store),
    )
    best = {path.task: path for path in pool.paths}
    views = [_task(task, best.get(task.name), pool, marks[task.name], measured) for task in active]
    return TasksView(_system(store, pool), views, _removed(store, {task.name for task in active}))


def tested(store: Store, pool: Pool) -> Mapping[str, float]:
    """The test accuracy of each task's best path, where it was measured."""
    best = {path.id for path in pool.paths}
    return {e.task: e.accuracy for e in store.evaluations() if e.split == TEST and e.path in best}


def _energy(store: Store) -> Mapping[str, float]:
    """Joules that machines drew while each task was evolved there, where that was measured."""
    found: dict[str, float] = {}
    for event in store.events(kind=ENERGY):
        found[event.data["task"]] = found.get(event.data["task"], 0.0) + event.data["joules"]
    return found


def _system(store: Store, pool: Pool) -> SystemView:
    info = store.info
    used = {part.digest: part.n_parameters for path in pool.paths for part in path.parts}
    sizes = used | {part.digest: part.n_parameters for part in pool.root.parts}
    return SystemView(
        root=info.root,
        family=info.family,
        image_size=info.image_size,
        parameters=sum(sizes.values()),
        parameters_used=sum(used.values()),
        parameters_apart=sum(path.n_parameters for path in pool.paths),
        depth=pool.root.depth,
    )


def _task(task: Task, path: Path | None, pool: Pool, badge: Badge, measured: _Measured) -> TaskView:
    return TaskView(
        task=task.name,
        number=badge.number,
        colour=badge.colour,
        classes=list(task.class_names),
        validation_accuracy=path.quality if path else None,
        test_accuracy=measured.tests.get(task.name) if path else None,
        head_only_test_accuracy=measured.head_only.get(task.name),
        accounted_parameters=accounted_parameters(path.parts, task.name, pool) if path else None,
        parameters=path.n_parameters if path else None,
        shared=shared_share(path) if path else None,
        flops=path.flops if path else None,
        depth=path.depth if path else None,
        seconds=measured.seconds.get(task.name, 0.0),
        energy_joules=measured.joules.get(task.name),
        path=path.id if path else None,
        version=path.version if path else None,
    )


def _removed(store: Store, active: set[str]) -> list[str]:
    """Removed tasks that once had a winner here: those known only from an import's lineage have none."""
    won = {segment.task for run in store.runs() for segment in run.segments if segment.winner is not None}
    return [task.name for task in store.tasks(removed=True) if task.name in won - active]
