"""Baselines at the search's own budget: for each task as many children, trained as long, but without a search."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mutant.outcome import Outcome
from mutant.search.baselines import KINDS, Plan, train_baseline
from mutant.search.growth import Engine, reload, working
from mutant.storage.records import Baseline, Run
from mutant.storage.store import Store
from mutant.tasks.errors import UserError, unknown

Heard = Callable[[str, int, int, Outcome], None]
"""Called with the task, how many candidates are done of how many, and the latest outcome."""


def compare(store: Store, tasks: Sequence[str], kind: str, engine: Engine, heard: Heard) -> tuple[Baseline, ...]:
    """Train and record the baseline `kind` for each task (none named: every one with a finished path).

    A task of which no candidate could be trained is left out. Raises UserError before anything is trained.
    """
    if kind not in KINDS:
        raise unknown("kind of baseline", kind, list(KINDS), see="mutant baseline --help")
    wanted = [store.task(name).name for name in tasks] or [t.name for t in store.tasks() if store.best(t.name)]
    if not wanted:
        raise UserError("There is no task to compare.", hint="Add one: mutant add URI")
    runs = {name: same_budget(store, name) for name in wanted}
    found: list[Baseline] = []
    for name, task in reload(store, wanted).items():
        with working(store, runs[name], {name: task}, engine) as search:
            done = _Count(name, search.config.children, heard)
            plan = Plan(KINDS[kind], search.config.training, search.config.children, search.config.seed)
            baseline = train_baseline(plan, store.root(), task, search.evaluator, search.supply, done)
        if baseline is not None:
            store.record_baseline(baseline)
            found.append(baseline)
    return tuple(found)


def same_budget(store: Store, task: str) -> Run:
    """The latest run on the task, with as many children as all finished segments of the task had together.

    Raises UserError when no segment of the task is finished.
    """
    runs = [(run, s) for run in store.runs() for s in run.segments if s.task == task and s.state == "finished"]
    if not runs:
        hint = "Finish its run first: mutant resume, or mutant evolve " + task
        raise UserError(f"Task {task!r} has no finished segment yet, so no budget to compare at.", hint=hint)
    children = sum(len(store.candidates(segment.key)) for _, segment in runs)
    latest = runs[-1][0]
    return replace(latest, config={**latest.config, "tasks": [task], "visits": 1, "children": children})


class _Count:
    """Tells each outcome of one task with its number."""

    def __init__(self, task: str, of: int, heard: Heard) -> None:
        self._task, self._of, self._heard, self._done = task, of, heard, 0

    def __call__(self, _: int, outcome: Outcome) -> None:
        self._done += 1
        self._heard(self._task, self._done, self._of, outcome)
