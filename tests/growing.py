"""Small systems that are grown for real: a tiny root, scikit-learn's digits, the store, the loop."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from places import placement
from sklearn.datasets import load_digits
from tiny import world

from mutant.outcome import Outcome
from mutant.search.config import Settings
from mutant.search.evaluator import Begun, InProcessEvaluator, Listed, Source, Supply, Work, unheard
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, working
from mutant.search.progress import Listener, silent
from mutant.storage.digest import digest
from mutant.storage.records import SystemInfo
from mutant.storage.store import Store
from mutant.tasks.load import LoadedTask, load

SMALL = Settings(children=5, generation_size=2, validations=2, examples_per_validation=64, batch=16, reach=2)


def digits_file(directory: FilePath, classes: Sequence[int], n: int = 120) -> FilePath:
    """An .npz of `n` of scikit-learn's digits of some classes."""
    digits: Any = load_digits()
    chosen = np.flatnonzero(np.isin(digits.target, list(classes)))[:n]
    file = directory / f"digits-{''.join(map(str, classes))}.npz"
    np.savez(file, train_images=(digits.images[chosen] * 15).astype(np.uint8), train_labels=digits.target[chosen])
    return file


def small_tasks(directory: FilePath) -> dict[str, LoadedTask]:
    return {
        name: load(f"arrays:{digits_file(directory, classes)}", name=name)
        for name, classes in {"low": (0, 1, 2), "high": (7, 8, 9)}.items()
    }


def small_store(file: FilePath | str) -> Store:
    """A system without tasks; a `Place` says where its weights are to lie."""
    here = world(3)
    info = SystemInfo("tiny", "vit", "none", "made for tests", "", 16, 0, "test", settings={"image_step": 8})
    place = file if isinstance(file, str) else str(file)
    return Store.create(place, info, here.root, here.components.values(), placement(place))


@contextmanager
def grown(
    file: FilePath | str,
    tasks: Mapping[str, LoadedTask],
    settings: Settings = SMALL,
    *,
    workers: str = "1",
    listener: Listener = silent,
) -> Iterator[Store]:
    """A system grown over `tasks` from nothing to the end."""
    with small_store(file) as store:
        begin(store, tuple(tasks), settings, new=[task.task for task in tasks.values()])
        go_on(store, tasks, workers=workers, listener=listener)
        yield store


def go_on(store: Store, tasks: Mapping[str, LoadedTask], *, workers: str = "1", listener: Listener = silent) -> None:
    run = store.unfinished_run()
    assert run is not None
    with working(store, run, tasks, Engine(workers=workers, listener=listener)) as search:
        evolve(search)


def resumed(store: Store, tasks: Mapping[str, LoadedTask], interrupted_at: Sequence[int]) -> None:
    """The unfinished run to its end, interrupted before so many children of each try."""
    for calls in interrupted_at:
        run = store.unfinished_run()
        if run is None:
            return
        with working(store, run, tasks, Engine(workers="1")) as search:
            try:
                evolve(replace(search, evaluator=Saboteur({calls: KeyboardInterrupt()})))
            except KeyboardInterrupt:
                assert store.unfinished_run() is not None
    if store.unfinished_run() is not None:
        go_on(store, tasks)


def meaning(store: Store) -> str:
    """Digest of everything in the database but times and durations."""
    return digest(store)


class Saboteur(InProcessEvaluator):
    """Trains in this process, but lets chosen calls go wrong."""

    def __init__(self, fail: Mapping[int, BaseException | Outcome]) -> None:
        super().__init__()
        self.fail = dict(fail)
        self.calls = 0

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        while (taken := source.take("saboteur")) is not None:
            index, item = taken
            for _, outcome in self.train([item], supply, lambda _, worker, *__: begun(index, worker)):  # noqa: B023
                yield index, outcome

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        for index, item in enumerate(work):
            begun(index, "saboteur")
            self.calls += 1
            trouble = self.fail.get(self.calls)
            if isinstance(trouble, BaseException):
                raise trouble
            if trouble is not None:
                yield index, trouble
                continue
            ((_, outcome),) = list(super().train_from(Listed([item]), supply))
            yield index, outcome
