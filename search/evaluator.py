"""Evaluators: who trains the candidates. The protocol, what they draw on, and the one that works in this process."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mutant.activations.homes import home_of
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images, answer
from mutant.assignment import Assignment, Training
from mutant.blueprint import Blueprint
from mutant.component import Arrays, Component, Spec
from mutant.dataset import Dataset
from mutant.outcome import Failed, Outcome
from mutant.path import Candidate, Path
from mutant.recorder import Recorder, seat
from mutant.spans import Seat

if TYPE_CHECKING:
    from mutant.pipeline import Crew


@dataclass(frozen=True)
class Work:
    """One candidate to train: plain values, which say by digest what else is needed. `stop_below`: see `Assignment`.

    `flops` and `seconds` are what it is predicted to take, 0 where nobody did; they decide who trains it, never how.
    """

    candidate: Candidate
    blueprint: Blueprint
    training: Training
    wanted: tuple[tuple[str, ...], ...] = ()
    """Frozen prefixes that others of the generation have, with the same data."""
    stop_below: tuple[float | None, ...] = ()
    flops: float = 0.0
    seconds: float = 0.0

    def assignment(self, components: Mapping[str, Component], traces: Mapping[str, Arrays]) -> Assignment:
        """This work with what it needs at hand."""
        return Assignment(
            self.candidate, self.blueprint, components, traces, self.training, self.wanted, self.stop_below
        )

    @property
    def prefix(self) -> tuple[str, ...]:
        """Digests of the components below the first trainable one, bottom first."""
        below = self.blueprint.parts[: self.blueprint.frozen_prefix]
        return tuple(part.source.digest for part in below if part.source is not None)

    @property
    def digests(self) -> frozenset[str]:
        """Components that the child shares or starts from."""
        return frozenset(part.source.digest for part in self.blueprint.parts if part.source is not None)

    @property
    def traces(self) -> frozenset[str]:
        """Momentum traces that the child starts from."""
        if not self.training.inherit_trace:
            return frozenset()
        sources = (part.source for part in self.blueprint.parts if part.trainable)
        return frozenset(source.trace for source in sources if source is not None and source.trace)

    @property
    def dataset(self) -> tuple[str, int]:
        return self.candidate.task, self.blueprint.hyperparameters.image_size


HERE = "this process"
Chain = tuple[tuple[Spec, ...], int]
"""The components of a path by their specs, bottom first, and the image size in pixels."""
Flops = tuple[float, ...]


class Begun(Protocol):
    """Hears that a worker begins to train the candidate of an index, and where the worker is, as soon as that is known;
    that it has none any more (None), because the worker was lost, and then that it begins anew elsewhere."""

    def __call__(self, index: int, worker: str | None, seat: Seat | None = None, /) -> None: ...


def unheard(_: int, __: str | None, ___: Seat | None = None, /) -> None:
    """For those who need not know who trains what."""


class Supply(Protocol):
    """Where an evaluator gets frozen components, traces and data from."""

    def components(self, digests: Iterable[str]) -> Mapping[str, Component]: ...

    def trace(self, digest: str) -> Arrays: ...

    def dataset(self, task: str, image_size: int) -> Dataset: ...


class Source(Protocol):
    """Where an evaluator gets candidates from, one whenever a worker is free."""

    def take(self, worker: str) -> tuple[int, Work] | None:
        """The next one for a worker that is free, with its index; None: there is none now.

        An evaluator asks again after every outcome, and is done when there is none and nothing is being trained.
        """
        ...

    def ahead(self) -> Work | None:
        """Who is to be taken next, where that is known."""
        ...

    @property
    def around(self) -> Sequence[Work]:
        """The generation that is being trained: what is shared among them is worth keeping."""
        ...


class Listed:
    """A generation of candidates as a source, in the order of the trie of their prefixes."""

    def __init__(self, work: Sequence[Work]) -> None:
        self.around = work
        self._waiting = deque(trie_order(work))

    def take(self, worker: str) -> tuple[int, Work] | None:
        if not self._waiting:
            return None
        index = self._waiting.popleft()
        return index, self.around[index]

    def ahead(self) -> Work | None:
        return self.around[self._waiting[0]] if self._waiting else None


def trie_order(work: Sequence[Work]) -> tuple[int, ...]:
    """Indices of `work`, the same data together and then as in the trie of prefixes: the shallow one first."""
    return tuple(sorted(range(len(work)), key=lambda index: (work[index].dataset, work[index].prefix, index)))


class Evaluator(Protocol):
    """Trains candidates. What it returns does not depend on how many workers it has or in which order they finish."""

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        """(index in `work`, outcome) of every candidate, as they finish; `begun` hears when each is begun."""
        ...

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        """The same for candidates that are not known before: the next one is asked for when a worker is free, and after
        the outcome before was taken."""
        ...

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        """Logits of a path for prepared images [n, S, S, 3], computed where the training is."""
        ...

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        """Forward FLOPs per image of each component of each chain, counted where the training is (`mutant.cost`)."""
        ...

    def close(self) -> None: ...


class InProcessEvaluator:
    """Trains one candidate after the other here: for one worker, tests and debugging.

    `home` names the directory of the run's activations on this host; without one the cache is this evaluator's own.
    `crew` holds the groups of a child whose gradients do not travel end to end; without one they are here, too.
    """

    def __init__(
        self,
        cache: CacheLimits = CacheLimits(),
        home: str | None = None,
        told: Callable[[str], None] = lambda text: None,
        crew: "Crew | None" = None,
    ) -> None:
        from mutant.activations.cache import ActivationCache

        self._crew = crew
        self.cache = ActivationCache(cache, None if home is None else home_of(home), told)

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        while (taken := source.take(HERE)) is not None:
            index, item = taken
            begun(index, HERE, seat())
            recorder = Recorder()
            try:
                components = supply.components(item.digests)
                traces = {digest: supply.trace(digest) for digest in item.traces}
                dataset = supply.dataset(*item.dataset)
            except MemoryError as error:
                yield index, Failed(item.candidate.id, "out of memory", f"preparing its data: {error}")
                continue
            after = source.ahead()
            if after is not None and after.dataset == item.dataset:
                self.cache.read_ahead(after.prefix, (dataset.train, dataset.validation))
            yield index, self._trained(item.assignment(components, traces), dataset, recorder)

    def _trained(self, assignment: Assignment, dataset: Dataset, recorder: Recorder) -> Outcome:
        from mutant.train import train

        return train(assignment, dataset, self.cache, self._crew, recorder=recorder)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        from mutant.cost import component_flops

        return tuple(component_flops(*chain) for chain in chains)

    def close(self) -> None:
        self.cache.close()
