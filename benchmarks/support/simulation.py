"""Runs whose children are trained in no time: fake training, and all else as it is. Nothing here needs JAX."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from support.rows import root_of

from mutant.answers import Answers, Images
from mutant.component import Component
from mutant.dataset import Dataset, Split
from mutant.outcome import Cost, Outcome, Trained
from mutant.path import Part, Path
from mutant.position import derive
from mutant.search.config import Settings
from mutant.search.evaluator import HERE, Begun, Chain, Evaluator, Flops, Listed, Source, Supply, Work, unheard
from mutant.search.growth import begin
from mutant.search.progress import Listener, silent
from mutant.search.recorded import recorded_config
from mutant.search.setup import Search
from mutant.search.supply import StoreSupply
from mutant.storage.holding import holding
from mutant.storage.records import SystemInfo
from mutant.storage.store import Store
from mutant.tasks.task import Split as TaskSplit
from mutant.tasks.task import Task


def made_up(item: Work) -> Trained:
    """An outcome of real form: eight numbers for every part that would be trained, a quality by the child's seed."""
    candidate, plan = item.candidate, item.blueprint
    made: dict[str, Component] = {}
    parts: list[Part] = []
    for part in plan.parts:
        if not part.trainable and part.source is not None:
            parts.append(part.source)
            continue
        kernel = np.frombuffer(derive(candidate.id, part.slot).to_bytes(8, "big"), np.uint8).astype(np.float32)
        new = Component(part.spec, {"kernel": kernel})
        made[new.digest] = new
        parts.append(Part(part.slot, new.spec, new.digest, 8, part.depth, candidate.id, candidate.task))
    quality = derive(candidate.seed, "quality") / 2**63
    path = Path(
        candidate.id, candidate.task, candidate.parent, tuple(parts), plan.hyperparameters, candidate.mutations,
        dict(plan.probabilities), quality, 1e6,
    )  # fmt: skip
    return Trained(path, made, {}, (quality,), Cost(1e-3, 1, 1e6))


class NoOp:
    """An evaluator in this process whose children take `seconds`, none by default."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        while (taken := source.take(HERE)) is not None:
            begun(taken[0], HERE)
            time.sleep(self._seconds)
            yield taken[0], made_up(taken[1])

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return Answers(np.ones((len(images), 2), np.float32), "made up", {}, (1,))

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return tuple((1e5,) * len(specs) for specs, _ in chains)

    def close(self) -> None:
        pass


class NoData(StoreSupply):
    """Components from the store; every data set is two black images."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, {})

    def dataset(self, task: str, image_size: int) -> Dataset:
        black = np.zeros((2, image_size, image_size, 3), np.uint8)
        split = Split(f"{task}/{image_size}", black, np.zeros(2, np.int32))
        return Dataset(split, split, 2)

    def expect(self, task: str, image_size: int) -> None:
        pass


def new_system(url: str) -> Store:
    root, components = root_of()
    return Store.create(url, SystemInfo("toy", "toy", "none", "made", "", 64, 0, "benchmark"), root, components)


def task_named(name: str) -> Task:
    splits = tuple(TaskSplit(split, 10, f"{derive(split):064x}", "made") for split in ("train", "validation", "test"))
    return Task(name, "sample:digits", ("a", "b"), splits, f"{derive(name):064x}")


@contextmanager
def run_of(
    store: Store, tasks: Sequence[str], settings: Settings, evaluator: Evaluator, listener: Listener = silent
) -> Iterator[Search]:
    """A run over new tasks, ready to be worked off, under the lease."""
    run = begin(store, tasks, settings, new=[task_named(name) for name in tasks])
    with holding(store, "benchmark"):
        yield Search(store, run, recorded_config(run), evaluator, cast(Any, NoData(store)), listener)
