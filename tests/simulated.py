"""Runs whose children are trained in no time and without JAX, by workers that are not there: all else is real."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from storage_samples import component, part, sample_info, sample_task

from mutant.answers import Answers, Images
from mutant.component import Arrays, Component
from mutant.dataset import Dataset, Split
from mutant.hyperparameters import Hyperparameters
from mutant.outcome import Cost, Failed, Outcome, Trained
from mutant.path import Part, Path
from mutant.position import derive
from mutant.search.config import Settings
from mutant.search.evaluator import Begun, Chain, Flops, Listed, Source, Supply, Work, unheard
from mutant.search.evolve import evolve
from mutant.search.growth import begin
from mutant.search.recorded import recorded_config
from mutant.search.setup import Search
from mutant.storage.holding import holding
from mutant.storage.store import Store

ASYNC = Settings(preset="mutant", children=12, generation_size=4, validations=4, asynchronous=True, halving=2)


def made_up(item: Work) -> Trained:
    """What training might give: a few numbers for each trained part, accuracies that depend on the seed alone."""
    candidate, plan = item.candidate, item.blueprint
    made: dict[str, Component] = {}
    parts: list[Part] = []
    for place in plan.parts:
        if not place.trainable and place.source is not None:
            parts.append(place.source)
            continue
        kernel = np.random.default_rng(derive(candidate.id, place.slot)).normal(size=8).astype(np.float32)
        new = Component(place.spec, {"kernel": kernel})
        made[new.digest] = new
        parts.append(Part(place.slot, new.spec, new.digest, 8, place.depth, candidate.id, candidate.task))
    accuracies = np.random.default_rng(candidate.seed).random(item.training.validations).tolist()
    for done, bound in enumerate(item.stop_below):
        if bound is not None and max(accuracies[: done + 1]) < bound:
            accuracies = accuracies[: done + 1]
            break
    path = Path(
        candidate.id, candidate.task, candidate.parent, tuple(parts), plan.hyperparameters, candidate.mutations,
        dict(plan.probabilities), max(accuracies), 1e6,
    )  # fmt: skip
    return Trained(path, made, {}, tuple(accuracies), Cost(1.0, 8, 1e6))


class Simulated:
    """So many workers, of whom one after the other ends, in an order that `rng` draws; every ninth child fails.

    `strike` counts the outcomes after which it is interrupted.
    """

    def __init__(self, workers: int = 1, seed: int = 0, strike: int | None = None) -> None:
        self.workers, self.rng, self.strike = workers, random.Random(seed), strike
        self.most = 0

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        running: list[tuple[int, Work]] = []
        while True:
            while len(running) < self.workers and (taken := source.take(f"worker {len(running)}")) is not None:
                begun(taken[0], f"worker {len(running)}")
                running.append(taken)
            self.most = max(self.most, len(running))
            if not running:
                return
            index, item = running.pop(self.rng.randrange(len(running)))
            if self.strike is not None:
                if self.strike == 0:
                    raise KeyboardInterrupt
                self.strike -= 1
            failed = item.candidate.seed % 9 == 0
            yield index, Failed(item.candidate.id, "error", "by chance") if failed else made_up(item)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return Answers(np.ones((len(images), 3), np.float32), "made up", {}, (1,))

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return tuple((1e5,) * len(specs) for specs, _ in chains)

    def close(self) -> None:
        pass


class Supplied:
    """Components from the store, and a data set of two images."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def components(self, digests: Iterable[str]) -> dict[str, Component]:
        return self._store.components(digests)

    def trace(self, digest: str) -> Arrays:
        return self._store.trace(digest)

    def dataset(self, task: str, image_size: int) -> Dataset:
        split = Split(f"{task}/{image_size}", np.zeros((2, image_size, image_size, 3), np.uint8), np.zeros(2, np.int32))
        return Dataset(split, split, 3)

    def expect(self, task: str, image_size: int) -> None:
        pass


def new_system(url: str, *tasks: str) -> Store:
    """A system with a root of six blocks."""
    slots = ["embedding", *(f"block_{i:02d}" for i in range(6)), "norm"]
    made = {slot: component(f"toy/{slot}", derive(slot)) for slot in slots}
    depths = {f"block_{i:02d}": i + 1 for i in range(6)}
    parts = tuple(part(slot, of, depth=depths.get(slot, 0)) for slot, of in made.items())
    root = Path(f"{derive('root'):064x}", None, None, parts, Hyperparameters(image_size=16), flops=1e6)
    store = Store.create(url, sample_info(), root, made.values())
    for name in tasks:
        store.add_task(sample_task(name))
    return store


def go_on(store: Store, evaluator: Simulated, listener: Any = lambda _: None) -> None:
    """Work off the unfinished run, until it ends or is interrupted."""
    run = store.unfinished_run()
    assert run is not None
    search = Search(store, run, recorded_config(run), evaluator, Supplied(store), listener)  # type: ignore[arg-type]
    with holding(store, "a simulation"):
        evolve(search)


def simulated(url: str, tasks: Sequence[str], settings: Settings = ASYNC, *evaluators: Simulated) -> Store:
    """A run over `tasks`, worked off by one evaluator after the other; all but the last are interrupted."""
    store = new_system(url, *tasks)
    begin(store, tuple(tasks), settings)
    for evaluator in evaluators:
        if store.unfinished_run() is None:
            break
        try:
            go_on(store, evaluator)
        except KeyboardInterrupt:
            assert evaluator.strike == 0
    return store
