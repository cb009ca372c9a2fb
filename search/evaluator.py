"""Evaluators: who trains the candidates. The protocol, what they draw on, and the one that works in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mutant.answers import Answers, Images, answer
from mutant.assignment import Assignment, Training
from mutant.blueprint import Blueprint
from mutant.component import Arrays, Component, Spec
from mutant.dataset import Dataset
from mutant.outcome import Failed, Outcome
from mutant.path import Candidate, Path


@dataclass(frozen=True)
class Work:
    """One candidate to train: plain values, which say by digest what else is needed. `stop_below`: see `Assignment`."""

    candidate: Candidate
    blueprint: Blueprint
    training: Training
    stop_below: tuple[float | None, ...] = ()

    def assignment(self, components: Mapping[str, Component], traces: Mapping[str, Arrays]) -> Assignment:
        """This work with what it needs at hand."""
        return Assignment(self.candidate, self.blueprint, components, traces, self.training, self.stop_below)

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


Chain = tuple[tuple[Spec, ...], int]
"""The components of a path by their specs, bottom first, and the image size in pixels."""
Flops = tuple[float, ...]
Begun = Callable[[int, str], None]
"""Hears that a worker begins to train the candidate of an index; again when it begins anew elsewhere."""


def unheard(_: int, __: str) -> None:
    """For those who need not know who trains what."""


class Supply(Protocol):
    """Where an evaluator gets frozen components, traces and data from."""

    def component(self, digest: str) -> Component: ...

    def trace(self, digest: str) -> Arrays: ...

    def dataset(self, task: str, image_size: int) -> Dataset: ...


class Evaluator(Protocol):
    """Trains candidates. What it returns does not depend on how many workers it has or in which order they finish."""

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        """(index in `work`, outcome) of every candidate, as they finish; `begun` hears when each is begun."""
        ...

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        """Logits of a path for prepared images [n, S, S, 3], computed where the training is."""
        ...

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        """Forward FLOPs per image of each component of each chain, counted where the training is (`mutant.cost`)."""
        ...

    def close(self) -> None: ...


class InProcessEvaluator:
    """Trains one candidate after the other here: for one worker, tests and debugging."""

    def __init__(self, cache_bytes: int = 1 << 30) -> None:
        from mutant.prefix import PrefixCache

        self._cache = PrefixCache(cache_bytes)

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        from mutant.train import train

        for index, item in enumerate(work):
            begun(index, "this process")
            try:
                components = {digest: supply.component(digest) for digest in item.digests}
                traces = {digest: supply.trace(digest) for digest in item.traces}
                dataset = supply.dataset(*item.dataset)
            except MemoryError as error:
                yield index, Failed(item.candidate.id, "out of memory", f"preparing its data: {error}")
                continue
            yield index, train(item.assignment(components, traces), dataset, self._cache)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        from mutant.cost import component_flops

        return tuple(component_flops(*chain) for chain in chains)

    def close(self) -> None:
        pass
