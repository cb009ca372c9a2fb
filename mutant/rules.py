"""Mutation rules: what may change in a child, and how the probability of each change is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mutant.hyperparameters import DATA_HYPERPARAMETERS, LISTS, HyperparameterValue, image_sizes
from mutant.path import NORM, slot_index

ProbabilityRule = Literal["constant", "per path", "per action"]
CloneRule = Literal["each slot", "top blocks"]
EVERY_ACTION = "*"


@dataclass(frozen=True)
class MutationRules:
    """The settings of a preset that concern mutation.

    `probability`: `constant` (muNet: `start` for ever), `per path` (µ2Net: one evolvable value) or `per action`
    (µ2Net+: one learned value per action); the latter two move in the ordered list `probabilities`.
    `clones`: each slot is cloned with a probability of its own, as in the papers, or the path's `trained_blocks` top
    blocks are cloned with all that stands among and above them (`top blocks`).
    `mutable` names the hyperparameters that may move; `always_cloned` the slots that every child trains a copy of;
    `reach` is how many of the root's top encoder blocks may be cloned, given an adapter or dropped (None: all, and
    the embeddings too, as in the papers); `image_step` in pixels spaces the list of image sizes.
    """

    probability: ProbabilityRule = "per action"
    start: float = 0.1
    probabilities: tuple[float, ...] = tuple(round(0.02 * i, 2) for i in range(1, 16))
    mutable: tuple[str, ...] = tuple(LISTS)
    always_cloned: tuple[str, ...] = (NORM,)
    reach: int | None = None
    inherit_trace: bool = True
    clones: CloneRule = "each slot"
    image_step: int = 16
    largest_image: int = 384

    def values(self, name: str) -> tuple[HyperparameterValue, ...]:
        """The ordered list that hyperparameter `name` moves in."""
        return image_sizes(self.image_step, self.largest_image) if name == "image_size" else LISTS[name]

    @property
    def model_hyperparameters(self) -> tuple[str, ...]:
        return tuple(name for name in self.mutable if name not in DATA_HYPERPARAMETERS)

    @property
    def data_hyperparameters(self) -> tuple[str, ...]:
        return tuple(name for name in self.mutable if name in DATA_HYPERPARAMETERS)

    def probability_of(self, action: str, learned: Mapping[str, float]) -> float:
        key = EVERY_ACTION if self.probability == "per path" else action
        return self.start if self.probability == "constant" else learned.get(key, self.start)

    def reaches(self, slot: str, depth: int) -> bool:
        """Whether `slot` may be cloned, adapted or dropped under `reach`; `depth` is the root's number of blocks."""
        if self.reach is None:
            return True
        index = slot_index(slot)
        return slot in ("top", NORM) if index is None else index >= depth - self.reach
