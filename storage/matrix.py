"""The accuracy matrix R of a system, derived from its finished segments and its stored evaluations."""

from dataclasses import dataclass

from mutant.storage import catalog, facts, runs
from mutant.storage.schema import SegmentRow
from mutant.storage.store import Store

TEST = "test"


@dataclass(frozen=True)
class Step:
    """One visit of a task, as a row of R: `active` holds for every task seen so far the path that answers for it."""

    run: int
    segment: int
    task: str
    visit: int
    active: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """R[i][j]: test accuracy (0 to 1) on task j of the path that answers for j after step i.

    Tasks stand in the order of their first visits. Row i is as long as the number of tasks seen by then; None stands
    where that path was never tested. `pathless` are the tasks of which no segment ended with a path.
    """

    tasks: tuple[str, ...]
    steps: tuple[Step, ...]
    accuracies: tuple[tuple[float | None, ...], ...]
    pathless: tuple[str, ...] = ()


def accuracy_matrix(store: Store) -> Matrix:
    """The matrix of the tasks that were not removed, from one state of the database.

    An unchanged route has the same accuracy by identity.
    """
    with store.reading() as connection:
        here = [task.name for task in catalog.load_tasks(connection)]
        segments = runs.load_segments(connection, SegmentRow.state == "finished")
        measured = {(e.path, e.task): e.accuracy for e in facts.load_evaluations(connection) if e.split == TEST}
    known = frozenset(here)
    active: dict[str, str] = {}
    steps: list[Step] = []
    accuracies: list[tuple[float | None, ...]] = []
    for segment in segments:
        if segment.winner is None or segment.task not in known:  # every child failed, or the task was removed
            continue
        active[segment.task] = segment.winner
        steps.append(Step(segment.run, segment.index, segment.task, segment.visit, tuple(active.values())))
        accuracies.append(tuple(measured.get((path, task)) for task, path in active.items()))
    pathless = tuple(name for name in here if name not in active)
    return Matrix(tuple(active), tuple(steps), tuple(accuracies), pathless)
