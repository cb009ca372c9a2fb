"""Whatever is added or evolved later, and however, every old task's outputs stay what they were, to the bit."""

from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from growing import SMALL, go_on, small_store, small_tasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mutant.network import predict_logits
from mutant.search.config import Settings
from mutant.search.growth import begin
from mutant.search.metrics import metrics
from mutant.storage.records import Evaluation
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.tasks.load import LoadedTask

CHANGES = st.builds(
    lambda **given: replace(SMALL, children=2, generation_size=1, validations=1, examples_per_validation=32, **given),
    preset=st.sampled_from(["mutant", "munet", "mu2net-plus"]),
    seed=st.integers(0, 5),
    reach=st.sampled_from([0, 1, 3]),
    scale_factor=st.sampled_from([1.0, 0.5]),
    cross_task=st.booleans(),
)
STEPS = st.lists(st.tuples(st.sampled_from(["low", "high"]), CHANGES), min_size=2, max_size=3)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedTask]:
    return small_tasks(tmp_path_factory.mktemp("tasks"))


def outputs(store: Store, tasks: dict[str, LoadedTask]) -> dict[str, tuple[str, bytes]]:
    """By task: the path that answers for it, and its logits on images of which none is in its golden probe."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in store.pool().paths:
        assert path.task is not None
        images = tasks[path.task].test.images(path.hyperparameters.image_size)
        components = store.components(part.digest for part in path.parts)
        found[path.task] = (path.id, predict_logits(path, components, images).tobytes())
    return found


def check_sequence(file: FilePath, tasks: dict[str, LoadedTask], steps: list[tuple[str, Settings]]) -> None:
    with small_store(file) as store:
        before: dict[str, tuple[str, bytes]] = {}
        rows: list[tuple[float | None, ...]] = []
        for number, (name, changes) in enumerate(steps):
            known = name in {task.name for task in store.tasks()}
            begin(store, (name,), changes, new=[] if known else [tasks[name].task])
            go_on(store, tasks)
            after = outputs(store, tasks)
            for other in before.keys() - {name}:
                assert after[other] == before[other]
            if name in before and after[name][0] == before[name][0]:
                assert after[name] == before[name]
            _evaluated(store, name, number)
            matrix = metrics(store).matrix
            assert matrix.accuracies[: len(rows)] == tuple(rows)
            rows, before = list(matrix.accuracies), after
        report = verify(store, predict_logits, everything=True)
        assert [task.verdict for task in report.tasks] == ["identical"] * len(store.tasks())
        for name in before:
            winners = [s.winner for run in store.runs() for s in run.segments if s.task == name]
            place = matrix.tasks.index(name)
            column = [row[place] for row in matrix.accuracies if len(row) > place]
            assert len(set(column)) <= len(set(winners))


def _evaluated(store: Store, name: str, number: int) -> None:
    """A made-up accuracy of the path that won, another one for each path."""
    best = store.best(name)
    assert best is not None
    if not any(e.path == best.id for e in store.evaluations(name)):
        store.record_evaluation(Evaluation(best.id, name, "test", number / 7, 7, "f" * 64))


def test_a_sequence_changes_no_old_task(tmp_path: FilePath, tasks: dict[str, LoadedTask]) -> None:
    small = replace(SMALL, children=2, generation_size=1, validations=1, examples_per_validation=32, reach=0)
    check_sequence(tmp_path / "m.db", tasks, [("low", small), ("high", small), ("low", replace(small, seed=3))])


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(STEPS)
def test_random_sequences_change_no_old_task(
    tmp_path_factory: pytest.TempPathFactory, tasks: dict[str, LoadedTask], steps: list[tuple[str, Settings]]
) -> None:
    check_sequence(tmp_path_factory.mktemp("sequence") / "m.db", tasks, steps)
