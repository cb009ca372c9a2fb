"""What is shown while a run goes on: bars on a terminal, a line per child elsewhere. All of it on stderr."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mutant.cli.display import console, tell
from mutant.cli.words import amount, duration, first_few, percent, plural, short
from mutant.tasks.errors import printable

if TYPE_CHECKING:
    from mutant.mutation import Mutation
    from mutant.outcome import Outcome
    from mutant.search.progress import BudgetSpent
    from mutant.search.progress import Progress as Event
    from mutant.search.workers import Crew
    from mutant.storage.effort import Effort
    from mutant.storage.store import Store
    from mutant.tasks.task import Task


READING = "Reading the data"
MEASURING = "Measuring on the test splits, with a head on the frozen root to compare where one is wanted"


class Watch(Protocol):
    """Hears about the crew once, then about everything that the loop tells."""

    def told(self, crew: "Crew") -> None: ...

    def heard(self, event: "Event") -> None: ...


@contextmanager
def watching(store: "Store", *, fresh: bool) -> Generator[Watch]:
    """The watch that suits stderr, for as long as the block lasts. `fresh`: the tasks are new, so tell all of them."""
    shown = console(stderr=True)
    if not shown.is_terminal:
        tell(READING)
        yield Lines(store, fresh=fresh)
        return
    bars = Bars(store, shown, fresh=fresh)
    with bars.progress:
        try:
            yield bars
        finally:
            bars.close()


def announce(store: "Store", crew: "Crew", *, fresh: bool) -> Iterator[str]:
    """What the run that begins will work on, as it was resolved, and who works on it."""
    run = store.unfinished_run()
    segments = () if run is None else run.segments
    names = dict.fromkeys(segment.task for segment in segments)
    for name in names:
        yield from describe_task(store.task(name)) if fresh else (brief(store.task(name)),)
    number = "Workers" if crew.workers is None else plural(crew.workers, "worker")
    where = "in this process" if crew.workers == 1 else "on Ray"
    yield f"{number}: {where if crew.reason == 'as asked' else crew.reason}"


def describe_task(task: "Task") -> Iterator[str]:
    """A task as it was resolved: classes, splits with counts and origins, fingerprint, licence, notes."""
    yield f"Task {task.name}: {plural(len(task.class_names), 'class', 'classes')} from {task.uri}"
    yield f"  {'classes':<10} {first_few(task.class_names)}"
    for split in task.splits:
        yield f"  {split.name:<10} {split.examples:>8,}  {split.origin}"
    version = f", version {_clipped(task.source_version)}" if task.source_version else ""
    yield f"  content {short(task.fingerprint)}{version}, licence: {task.licence or 'unknown'}"
    for note in task.notes:
        yield f"  note: {note}"


def brief(task: "Task") -> str:
    """A task that is known already, in a line."""
    splits = ", ".join(f"{split.examples:,} {split.name}" for split in task.splits)
    return f"Task {task.name}: {plural(len(task.class_names), 'class', 'classes')}, {splits}"


def _clipped(text: str, *, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def changes(mutations: "tuple[Mutation, ...]") -> str:
    """The mutations of a child that make it another model, in short words."""
    from mutant.mutation import NewHead, SetProbability, describe

    telling = [describe(m) for m in mutations if not isinstance(m, NewHead | SetProbability)]
    return ", ".join(telling) or "a new head only"


def describe_outcome(outcome: "Outcome", validations: int = 0) -> str:
    """One child's accuracy, time and changes, or why it failed; and when it was stopped before all `validations`."""
    from mutant.outcome import Failed

    if isinstance(outcome, Failed):
        return f"failed after {duration(outcome.cost.seconds)} ({outcome.kind}): {printable(outcome.reason)}"
    path = outcome.path
    done = len(outcome.validations)
    stopped = f"; stopped after {done} of {plural(validations, 'validation')}" if done < validations else ""
    return f"{percent(path.quality):>6}  {duration(outcome.cost.seconds):>7}  {changes(path.mutations)}{stopped}"


def describe_effort(effort: "Effort") -> str:
    """What a segment's children took of their workers' time, and what had to be compiled for them."""
    compiled = f"{plural(effort.compilations, 'program')} compiled, {duration(effort.compile_seconds)}"
    waited = f"the device waited {percent(effort.wait_seconds / effort.seconds)}" if effort.seconds else ""
    return "; ".join(part for part in (f"{duration(effort.seconds)} of training", compiled, waited) if part)


def describe_spent(event: "BudgetSpent") -> str:
    """That a budget ends a segment, and what was spent of it."""
    return f"the budget of {amount(event.budget, event.unit)} ends it: {amount(event.spent, event.unit)} spent"


class Lines:
    """A line per child."""

    def __init__(self, store: "Store", *, fresh: bool) -> None:
        self._store, self._fresh = store, fresh
        self._done = self._children = 0
        self._last = False

    def told(self, crew: "Crew") -> None:
        for line in announce(self._store, crew, fresh=self._fresh):
            tell(line)

    def heard(self, event: "Event") -> None:
        from mutant.search import progress as events

        match event:
            case events.Notice():
                tell(event.text)
            case events.SegmentStarted():
                self._done, self._children = event.done, event.children
                self._last = event.segment + 1 == event.segments
                go_on = f", {event.done} done before" if event.done else ""
                tell(
                    f"Segment {event.segment + 1} of {event.segments}: {event.task}, {_children(event.children)}{go_on}"
                )
            case events.ChildFinished():
                self._done += 1
                described = describe_outcome(event.outcome, event.validations)
                tell(f"  {event.task} {self._done}/{self._children}  {described}")
            case events.GenerationFinished(best=best) if best is not None:
                quality, score = percent(best.quality), f"{event.best_score:.4f}"
                tell(f"  generation {event.generation + 1}: {event.retained} retained, best {quality}, score {score}")
            case events.BudgetSpent():
                tell(f"  {event.task}: {describe_spent(event)}")
            case events.SegmentFinished(winner=winner):
                tell(f"  {event.task}: {_end(None if winner is None else winner.quality, self._done)}")
                if event.effort is not None:
                    tell(f"  {event.task}: {describe_effort(event.effort)}")
                if self._last:
                    tell(MEASURING)
            case _:
                pass


def _children(number: int) -> str:
    return plural(number, "child", "children")


def _end(quality: float | None, done: int) -> str:
    if quality is None:
        return "no child could be trained; see: mutant status"
    return f"best of {_children(done)} has a validation accuracy of {percent(quality)}"


class Bars:
    """A bar per segment: children done, the best so far, time gone and to come."""

    def __init__(self, store: "Store", shown: Console, *, fresh: bool) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[so_far]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=shown,
            expand=True,
        )
        self._store, self._fresh = store, fresh
        self._bar: TaskID | None = None
        self._best: float | None = None
        self._score: float | None = None
        self._last = False
        self._waiting: TaskID | None = self._add(READING, total=None)

    def close(self) -> None:
        """Take away the bar of what has no end in sight; those of the segments stay on the screen."""
        self._stop_waiting()

    def told(self, crew: "Crew") -> None:
        self._stop_waiting()
        for line in announce(self._store, crew, fresh=self._fresh):
            self._print(line)
        self._waiting = self._add("Starting", total=None)

    def heard(self, event: "Event") -> None:
        from mutant.outcome import Failed
        from mutant.search import progress as events

        match event:
            case events.Notice():
                self._print(event.text)
            case events.SegmentStarted():
                self._stop_waiting()
                self._best = self._score = None
                self._last = event.segment + 1 == event.segments
                self._bar = self._add(event.task, total=event.children, completed=event.done)
                self._update()
            case events.ChildFinished(outcome=outcome):
                if isinstance(outcome, Failed):
                    self._print(f"{event.task}: a child {describe_outcome(outcome)}")
                else:
                    self._best = max(self._best or 0.0, outcome.path.quality)
                self._update(advance=1)
            case events.GenerationFinished(best=best):
                if best is not None:
                    self._best, self._score = best.quality, event.best_score
                self._update()
            case events.BudgetSpent():
                self._print(f"{event.task}: {describe_spent(event)}")
            case events.SegmentFinished(winner=winner):
                self._end(event.task, None if winner is None else winner.quality)
                if event.effort is not None:
                    self._print(f"{event.task}: {describe_effort(event.effort)}")
            case events.ChildBegun():
                pass

    def _add(self, what: str, *, total: int | None, completed: int = 0) -> TaskID:
        return self.progress.add_task(what, total=total, completed=completed, so_far="")

    def _update(self, *, advance: int = 0) -> None:
        assert self._bar is not None
        self.progress.update(self._bar, advance=advance)
        bar = next(task for task in self.progress.tasks if task.id == self._bar)
        so_far = f"{bar.completed:.0f}/{bar.total:.0f}  best {percent(self._best)}"
        score = "" if self._score is None else f"  score {self._score:.4f}"
        self.progress.update(self._bar, so_far=so_far + score)

    def _end(self, task: str, quality: float | None) -> None:
        bar = next(bar for bar in self.progress.tasks if bar.id == self._bar)
        self._best = quality
        self.progress.update(bar.id, total=bar.completed)  # fewer than planned when the budget is spent
        self._update()
        if quality is None:
            self._print(f"{task}: {_end(None, int(bar.completed))}")
        if self._last:
            self._waiting = self._add("Measuring", total=None)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self.progress.remove_task(self._waiting)
            self._waiting = None

    def _print(self, text: str) -> None:
        self.progress.console.print(text)
