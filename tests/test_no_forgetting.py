"""Whatever is added, evolved, removed, brought back or collected later, every other task's outputs stay what they were,
to the bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import pytest
from growing import SMALL, digits_file, go_on, small_store, small_tasks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mutant.network import predict_logits
from mutant.search.config import Settings
from mutant.search.growth import begin
from mutant.search.metrics import metrics
from mutant.storage.collection import gc
from mutant.storage.records import Evaluation
from mutant.storage.refusals import Collected
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.tasks.load import LoadedTask, load


class Tasks(dict[str, LoadedTask]):
    """Loaded tasks by name; a failure shows their names, and not a megabyte of images."""

    def __repr__(self) -> str:
        return f"Tasks({', '.join(self)})"


@dataclass(frozen=True)
class Grow:
    """Add the task, or evolve the one that is there; one that was removed is brought back first, if it can be."""

    task: str
    settings: Settings


@dataclass(frozen=True)
class Remove:
    """Remove one of the tasks that are there: that of this number, counted round."""

    number: int


@dataclass(frozen=True)
class BringBack:
    """Bring one of the removed tasks back: that of this number, counted round."""

    number: int


@dataclass(frozen=True)
class Collect:
    """Drop the weights that nobody needs."""


Step = Grow | Remove | BringBack | Collect

CHANGES = st.builds(
    lambda **given: replace(SMALL, children=2, generation_size=1, validations=1, examples_per_validation=32, **given),
    preset=st.sampled_from(["mutant", "munet", "mu2net-plus"]),
    seed=st.integers(0, 5),
    reach=st.sampled_from([0, 1, 3]),
    scale_factor=st.sampled_from([1.0, 0.5]),
    cross_task=st.booleans(),
)
WHOLE = (Phase.explicit, Phase.reuse, Phase.generate)
"""A sequence takes seconds: one that fails is shown as it is."""
SLOW_AND_SHARED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
"""Every sequence asks the one fixture for a new database."""
CARES = st.builds(Remove, st.integers(0, 2)) | st.builds(BringBack, st.integers(0, 2)) | st.builds(Collect)


def sequences(names: Sequence[str], least: int, most: int) -> st.SearchStrategy[list[Step]]:
    """From `least` to `most` times a task grows; after each time up to three steps that train nothing."""
    grows = st.builds(Grow, st.sampled_from(names), CHANGES)
    rounds = st.lists(st.tuples(grows, st.lists(CARES, max_size=3)), min_size=least, max_size=most)
    return rounds.map(lambda chosen: [step for grow, cares in chosen for step in (grow, *cares)])


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    directory = tmp_path_factory.mktemp("tasks")
    middle = load(f"arrays:{digits_file(directory, (4, 5, 6))}", name="middle")
    return Tasks({**small_tasks(directory), "middle": middle})


Outputs = dict[str, tuple[str, bytes]]


def outputs(store: Store, tasks: Tasks) -> Outputs:
    """By task: the path that answers for it, and its logits on images of which none is in its golden probe."""
    found: Outputs = {}
    for path in store.pool().paths:
        assert path.task is not None
        images = tasks[path.task].test.images(path.hyperparameters.image_size)
        components = store.components(part.digest for part in path.parts)
        found[path.task] = (path.id, predict_logits(path, components, images).tobytes())
    return found


class Observed:
    """A system that steps are done to; after each, whatever it was not about answers as before, to the bit."""

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self.store, self.tasks = store, tasks
        self.answers: Outputs = {}
        self.removed: Outputs = {}
        self.rows: dict[tuple[int, int], dict[str, float | None]] = {}
        self.done: list[type[Step]] = []
        """The steps that found something to do."""

    def step(self, step: Step) -> None:
        match step:
            case Grow(task, settings):
                self._grow(task, settings)
            case Remove(number) if self.answers:
                name = list(self.answers)[number % len(self.answers)]
                remove(self.store, name, force=True)
                self.removed[name] = self.answers.pop(name)
                self.done.append(Remove)
            case BringBack(number) if self.removed:
                self._bring_back(list(self.removed)[number % len(self.removed)])
            case Collect():
                if gc(self.store).dropped:
                    self.done.append(Collect)
            case _:
                return
        assert outputs(self.store, self.tasks) == self.answers

    def _grow(self, name: str, settings: Settings) -> None:
        if name in self.removed and not self._bring_back(name):
            return
        before = self.answers.get(name)
        begin(self.store, (name,), settings, new=[] if before else [self.tasks[name].task])
        go_on(self.store, self.tasks)
        now = outputs(self.store, self.tasks)[name]
        if before is not None and now[0] == before[0]:
            assert now == before
        self.answers[name] = now
        _evaluated(self.store, name, len(self.done))
        self.done.append(Grow)
        self._compare_rows()

    def _compare_rows(self) -> None:
        """A row of the matrix says what it said before of the tasks that are there, and nothing of removed ones."""
        matrix = metrics(self.store).matrix
        now = {
            (step.run, step.segment): dict(zip(matrix.tasks, row, strict=False))
            for step, row in zip(matrix.steps, matrix.accuracies, strict=True)
        }
        assert self.removed.keys().isdisjoint(matrix.tasks)
        for key, row in self.rows.items():
            if key in now:
                assert {name: row[name] for name in row if name not in self.removed}.items() <= now[key].items()
        for key, row in now.items():
            self.rows[key] = self.rows.get(key, {}) | row

    def _bring_back(self, name: str) -> bool:
        """Whether it could be brought back: only a collection since it was removed can stand in the way."""
        try:
            undo(self.store, name)
        except Collected:
            assert Collect in self.done
            return False
        self.answers[name] = self.removed.pop(name)
        self.done.append(BringBack)
        return True

    def check_all(self) -> None:
        """What `verify` and the metrics say in the end."""
        report = verify(self.store, predict_logits, everything=True)
        assert report.ok
        assert {task.task for task in report.tasks} == self.answers.keys()
        assert all(task.verdict == "identical" for task in report.tasks)
        matrix = metrics(self.store).matrix
        for place, name in enumerate(matrix.tasks):
            winners = {s.winner for run in self.store.runs() for s in run.segments if s.task == name}
            assert len({row[place] for row in matrix.accuracies if len(row) > place}) <= len(winners)


def _evaluated(store: Store, name: str, number: int) -> None:
    """A made-up accuracy of the path that won, another one for each path."""
    best = store.best(name)
    assert best is not None
    if not any(e.path == best.id for e in store.evaluations(name)):
        store.record_evaluation(Evaluation(best.id, name, "test", number / 100, 100, "f" * 64))


def check_sequence(file: FilePath | str, tasks: Tasks, steps: Sequence[Step]) -> list[type[Step]]:
    """Do the steps to a new system; those that found something to do."""
    with small_store(file) as store:
        observed = Observed(store, tasks)
        for step in steps:
            observed.step(step)
        observed.check_all()
        return observed.done


def test_a_sequence_changes_no_old_task(tmp_path: FilePath, tasks: Tasks) -> None:
    small = replace(SMALL, children=2, generation_size=1, validations=1, examples_per_validation=32, reach=0)
    grows = [Grow("low", small), Grow("high", small), Grow("low", replace(small, seed=3))]
    steps: list[Step] = [grows[0], Collect(), grows[1], Remove(0), BringBack(0), grows[2], Remove(1), Collect()]
    assert check_sequence(tmp_path / "m.db", tasks, steps) == [type(step) for step in steps]


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=4, phases=WHOLE, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(sequences(("low", "high"), 2, 3))
def test_random_sequences_change_no_old_task(
    tmp_path_factory: pytest.TempPathFactory, tasks: Tasks, steps: list[Step]
) -> None:
    check_sequence(tmp_path_factory.mktemp("sequence") / "m.db", tasks, steps)


@pytest.mark.lengthy
@pytest.mark.timeout(3600)
@settings(max_examples=20, phases=WHOLE, suppress_health_check=SLOW_AND_SHARED, deadline=None)
@given(steps=sequences(("low", "middle", "high"), 3, 6))
def test_long_random_sequences_change_no_old_task(
    new_database: Callable[[], str], tasks: Tasks, steps: list[Step]
) -> None:
    check_sequence(new_database(), tasks, steps)
