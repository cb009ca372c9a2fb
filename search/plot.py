"""Pictures of a system: the grown model, and quality against size. They need the extra `plot`."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from mutant.path import Path
from mutant.pool import Pool, accounted_parameters
from mutant.search.baselines import HEAD_ONLY
from mutant.storage.records import CandidateRecord
from mutant.storage.store import Store
from mutant.tasks.errors import UserError, missing_extra

if TYPE_CHECKING:
    from mutant.search.drawing_model import Column
    from mutant.search.drawing_quality import Series


def plot_model(store: Store, file: str | os.PathLike[str], *, tasks: Sequence[str] | None = None) -> FilePath:
    """Draw the grown model of all tasks, or of `tasks`, into a .png, .svg or .pdf file; returns the file.

    Depth runs upwards; each task is a column with a coloured route; a box is one component, in the colour and with the
    number of the task that trained it (grey: the pretrained root), as wide as the tasks that share it.

    Raises `UserError` for an unknown task or a file that cannot be written, `MissingExtra` without matplotlib.
    """
    _need_matplotlib()
    from mutant.search.drawing import checked, save
    from mutant.search.drawing_model import draw

    target, pool, numbers = checked(FilePath(file)), store.pool(), _numbers(store)
    wanted = list(pool.tasks) if tasks is None else [store.task(name).name for name in tasks]
    missing = [name for name in wanted if name not in pool.tasks] if tasks is not None else []
    if missing:
        raise _unfinished(missing[0])
    columns = _columns(store, pool, wanted, numbers)
    return save(draw(f"Grown from {store.info.root}", pool.root, columns, numbers), target)


def plot_quality(store: Store, file: str | os.PathLike[str], *, task: str | None = None) -> FilePath:
    """Draw quality against accounted parameters, and by generation, of every trained child; returns the file.

    One task or all; parameters are accounted against the pool as it is now. Raises like `plot_model`.
    """
    _need_matplotlib()
    from mutant.search.drawing import checked, save
    from mutant.search.drawing_quality import draw

    target, pool, numbers = checked(FilePath(file)), store.pool(), _numbers(store)
    wanted = [each.name for each in store.tasks()] if task is None else [store.task(task).name]
    series = [each for name in wanted if (each := _series(store, pool, name, numbers[name])).trials]
    if not series:
        if task is not None:
            raise _unfinished(task)
        raise UserError("No child has been trained yet.", hint="Add a task: mutant add URI")
    return save(draw(f"Quality against size, grown from {store.info.root}", series), target)


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None


def _unfinished(task: str) -> UserError:
    return UserError(f"Task {task!r} has nothing to draw yet.", hint="Go on with its run: mutant resume")


def _numbers(store: Store) -> dict[str, int]:
    """Each task's place in the order of arrival, from 1; removed ones keep theirs, others may use what they trained."""
    return {task.name: number for number, task in enumerate(store.tasks(removed=True), 1)}


def _columns(store: Store, pool: Pool, wanted: Sequence[str], numbers: dict[str, int]) -> "list[Column]":
    from mutant.layout import neighbours_first
    from mutant.search.drawing_model import Column

    return [
        Column(
            name := path.task or "",
            numbers[name],
            path,
            _tested(store, path),
            accounted_parameters(path.parts, name, pool),
        )
        for path in neighbours_first([path for path in pool.paths if path.task in wanted])
    ]


def _tested(store: Store, path: Path) -> float | None:
    found = [e.accuracy for e in store.evaluations(path.task) if e.path == path.id and e.split == "test"]
    return found[-1] if found else None


def _series(store: Store, pool: Pool, task: str, number: int) -> "Series":
    from mutant.search.drawing_quality import Series, Trial

    paths, best = {path.id: path for path in store.paths(task=task)}, store.best(task)
    trials: list[Trial] = []
    states: Counter[str] = Counter()
    for generation, record in _children(store, task):
        states[record.state] += 1
        if record.path is not None:
            path = paths[record.path]
            won = best is not None and best.id == path.id
            trials.append(Trial(accounted_parameters(path.parts, task, pool), path.quality, generation, won))
    return Series(task, number, tuple(trials), states["FAILED"], _head_only(store, pool, task))


def _children(store: Store, task: str) -> Iterator[tuple[int, CandidateRecord]]:
    """The task's children with their generation, counted over all its segments."""
    before = 0
    for segment in sorted(
        (segment for run in store.runs() for segment in run.segments if segment.task == task), key=lambda s: s.visit
    ):
        records = store.candidates(segment.key)
        yield from ((before + record.generation, record) for record in records)
        before += max((record.generation + 1 for record in records), default=0)


def _head_only(store: Store, pool: Pool, task: str) -> tuple[float, float] | None:
    for baseline in store.baselines(task):
        if baseline.name == HEAD_ONLY:
            head = baseline.n_parameters - pool.root.n_parameters
            return accounted_parameters(pool.root.parts, task, pool) + head, baseline.validation_accuracy
    return None
