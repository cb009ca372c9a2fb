"""Clocks around what the loop is made of, so that training and keeping are told apart within one run."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mutant.answers import Answers, Images
from mutant.component import Arrays, Component
from mutant.dataset import Dataset
from mutant.outcome import Outcome, Trained
from mutant.path import Path
from mutant.search.evaluator import Begun, Chain, Evaluator, Flops, Listed, Source, Supply, Work, unheard
from mutant.storage.store import Store


@dataclass
class Clock:
    """Seconds by name."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self(name):
                return call(*arguments, **named)

        return timed


class Took(NamedTuple):
    """Seconds by the clock, and of this process's own processor time: on a busy machine the second tells more, of what
    is computed in this process."""

    wall: float
    cpu: float


def best_of(repeats: int, call: Callable[[], object], enough: float = 5.0) -> Took:
    """The shortest of several calls; one call is enough where it takes longer than `enough` seconds."""
    found: list[Took] = []
    while len(found) < repeats:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append(Took(time.perf_counter() - wall, time.process_time() - cpu))
        if found[-1].wall > enough:
            break
    return Took(min(took.wall for took in found), min(took.cpu for took in found))


class TimedStore:
    """A store whose methods are timed by their names."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._clock.around(name, found) if callable(found) else found


class Memory:
    """A supply that has all in memory: what training draws on where nothing is kept in a database."""

    def __init__(
        self, components: Mapping[str, Component], traces: Mapping[str, Arrays], datasets: Callable[[str, int], Dataset]
    ) -> None:
        self._components, self._traces, self._datasets = components, traces, datasets

    def components(self, digests: Iterable[str]) -> dict[str, Component]:
        return {digest: self._components[digest] for digest in digests}

    def trace(self, digest: str) -> Arrays:
        return self._traces[digest]

    def dataset(self, task: str, image_size: int) -> Dataset:
        return self._datasets(task, image_size)


class Recorder:
    """An evaluator that remembers, list by list, what it was asked to train, and all that came of it."""

    def __init__(self, inner: Evaluator) -> None:
        self._inner = inner
        self.asked: list[Sequence[Work]] = []
        self.components: dict[str, Component] = {}
        self.traces: dict[str, Arrays] = {}

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        if work:
            self.asked.append(work)
        yield from self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        for index, outcome in self._inner.train_from(source, supply, begun):
            assert isinstance(outcome, Trained), outcome
            self.components.update(outcome.components)
            self.traces.update(outcome.traces)
            yield index, outcome

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return self._inner.answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return self._inner.flops(chains)

    def close(self) -> None:
        self._inner.close()
