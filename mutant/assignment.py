"""What a worker is given to train one candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mutant.backprop import END_TO_END
from mutant.blueprint import Blueprint
from mutant.component import Arrays, Component
from mutant.path import Candidate

HeadStart = Literal["zero", "probe"]
Averaging = Literal["none", "greedy"]


@dataclass(frozen=True)
class Training:
    """How long a child trains: `validations` times at most `examples_per_validation` examples, then a validation.

    `augmented_views`: with augmentation each example has so many fixed views, whose activations are kept like those of
    other images; 0 augments it anew at every visit, and keeps nothing.
    `head_start`: a new head starts from zeros, or from a linear probe of what its path gives (`mutant.probe`).
    `averaging`: what is kept is the best validation, or the average of the best ones (`mutant.averaging`).
    `inherit_trace`: a clone starts with the momentum of its source (µ2Net), else with none (muNet).
    `backprop` says how far gradients travel back among at most `groups` groups of the suffix (`mutant.backprop`).
    """

    examples_per_validation: int = 51_200
    validations: int = 4
    batch: int = 32
    inherit_trace: bool = True
    augmented_views: int = 0
    head_start: HeadStart = "zero"
    backprop: str = END_TO_END
    groups: int = 4
    averaging: Averaging = "none"

    @property
    def validation_passes(self) -> int:
        """How often the validation examples are looked at, at most: averaging looks at each snapshot but the best."""
        return self.validations + (self.validations - 1 if self.averaging == "greedy" else 0)


@dataclass(frozen=True, eq=False)
class Assignment:
    """One candidate with everything its training needs but the data: plan, shared components and traces by digest.

    `wanted`: the frozen prefixes (component digests) that are wanted with the same data, which decides only what is
    kept on the way.
    `stop_below[v - 1]` is the accuracy that the child must have reached after validation v to be trained further (None
    or nothing: it is, whatever it reached).
    """

    candidate: Candidate
    blueprint: Blueprint
    components: Mapping[str, Component]
    traces: Mapping[str, Arrays]
    training: Training
    wanted: tuple[tuple[str, ...], ...] = ()
    stop_below: tuple[float | None, ...] = ()

    def hopeless(self, validation: int, best: float) -> bool:
        """Whether to stop after the `validation`-th validation, from 1, with the `best` accuracy so far."""
        bound = self.stop_below[validation - 1] if validation <= len(self.stop_below) else None
        return bound is not None and best < bound
