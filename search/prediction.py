"""What children will cost, before they train: the count that is recorded afterwards, and a guess of the seconds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mutant.assignment import Training
from mutant.blueprint import Blueprint
from mutant.counting import examples_of, trained_flops
from mutant.dataset import augmentation
from mutant.path import Path, is_block
from mutant.search.evaluator import Chain, Flops
from mutant.tasks.task import Task

FLOPS_PER_SECOND = 20e9
"""Training rate of one core that is assumed until a run's own children were measured."""


Count = Callable[[Sequence[Chain]], tuple[Flops, ...]]
"""Forward FLOPs per image of each component of each chain: an evaluator's `flops`, or a rough guess."""


@dataclass(frozen=True)
class Prediction:
    """Counted FLOPs of a child: `flops` of what it trains, with all its validations, is exactly what is recorded
    afterwards unless it is stopped early or fails; `prefix_flops` of frozen activations that no other child has left.
    """

    flops: float
    prefix_flops: float = 0.0

    def seconds(self, rate: float) -> float:
        return (self.flops + self.prefix_flops) / rate


@dataclass(frozen=True)
class Sizes:
    """Examples of a task that the search sees."""

    train: int
    validation: int

    @staticmethod
    def of(task: Task) -> "Sizes":
        return Sizes(task.split("train").examples, task.split("validation").examples)


def predict_flops(plan: Blueprint, flops: Sequence[float], training: Training, sizes: Sizes) -> float:
    """Counted FLOPs of training a child with all its validations; `flops` is each part's forward pass for an image."""
    return trained_flops(
        flops,
        plan.frozen_prefix,
        examples=examples_of(training, sizes.train),
        validation_examples=sizes.validation * training.validation_passes,
    )


def predict_children(
    plans: Sequence[Blueprint], own: Iterable[Path], count: Count, training: Training, sizes: Sizes
) -> tuple[Prediction, ...]:
    """The children of a generation in order. A frozen prefix counts once: for the first child that needs it, and not
    at all where one of the task's `own` paths in the pool had it.
    """
    chains = list(dict.fromkeys(_chain(plan) for plan in plans))
    counted = dict(zip(chains, count(chains), strict=True))
    at_hand = {_prefix_of(path) for path in own}
    found: list[Prediction] = []
    for plan in plans:
        flops = counted[_chain(plan)]
        prefix = _prefix(plan)
        found.append(
            Prediction(
                predict_flops(plan, flops, training, sizes), _prefix_flops(plan, flops, training, sizes, at_hand)
            )
        )
        at_hand.add(prefix)
    return tuple(found)


def rough_count(root: Path) -> Count:
    """A guess where nobody has counted yet, without JAX: the root's own FLOPs evenly over its blocks.

    Heads, adapters and norms are small beside blocks, and count nothing; FLOPs grow with the area of the image.
    """
    blocks = [part.spec for part in root.parts if is_block(part.slot)] or [part.spec for part in root.parts]
    each, size = root.flops / len(blocks), root.hyperparameters.image_size

    def count(chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return tuple(tuple(each * (s / size) ** 2 if spec in blocks else 0.0 for spec in specs) for specs, s in chains)

    return count


_Held = tuple[int, tuple[str, ...]]


def _chain(plan: Blueprint) -> Chain:
    return plan.chain, plan.hyperparameters.image_size


def _prefix(plan: Blueprint) -> _Held:
    parts = plan.parts[: plan.frozen_prefix]
    return plan.hyperparameters.image_size, tuple(part.source.digest for part in parts if part.source is not None)


def _prefix_of(path: Path) -> _Held:
    return path.hyperparameters.image_size, tuple(_frozen(path))


def _frozen(path: Path) -> Iterator[str]:
    for part in path.parts:
        if part.trained_by == path.id:
            return
        yield part.digest


def _prefix_flops(
    plan: Blueprint, flops: Sequence[float], training: Training, sizes: Sizes, at_hand: Iterable[_Held]
) -> float:
    """FLOPs of the activations below the cut; the deepest shallower prefix at hand is extended (`mutant.prefix`).

    Augmented images are new in every visit, so that their activations are never at hand.
    """
    size, digests = _prefix(plan)
    held = max((len(d) for s, d in at_hand if s == size and d == digests[: len(d)]), default=0)
    extended = sum(flops[held : plan.frozen_prefix])
    if augmentation(plan.hyperparameters).active:
        return sum(flops[: plan.frozen_prefix]) * examples_of(training, sizes.train) + extended * sizes.validation
    return extended * (sizes.train + sizes.validation)
