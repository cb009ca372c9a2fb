"""Presets: whole sets of settings, each named after the paper that it follows, and our own default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mutant.assignment import Training
from mutant.hyperparameters import DATA_HYPERPARAMETERS, LISTS
from mutant.rules import MutationRules

FirstChildren = Literal["sampled", "each path unmutated", "each path and depth"]

_TRIED = ("optimizer",)
"""What may be named in `mutable`, and has not paid so far."""
_OURS = ("trained_blocks", *_TRIED)
_PAPER = (*(name for name in LISTS if name not in _OURS), "image_size")
_UP_TO_MU2NET = tuple(name for name in _PAPER if name != "jpeg_quality_delta")


@dataclass(frozen=True)
class Preset:
    """Defaults of a run.

    `first_children`: muNet's first children of a segment clone each other task's best path unmutated, newest first;
    `each path and depth` has the root without some of its top blocks before them.
    `scale_factor` is s and `compute_factor` s_c of the score, per the root's own parameters and forward FLOPs.
    `start` overrides the hyperparameters' defaults. `halving` is the eta of early stopping; 0: off. In every
    `deep_every`-th generation one child trains the best path's top `deep_blocks` blocks; 0: in none.
    """

    name: str
    source: str
    rules: MutationRules
    training: Training
    children: int
    generation_size: int
    visits: int
    scale_factor: float = 1.0
    compute_factor: float = 1.0
    first_children: FirstChildren = "sampled"
    start: Mapping[str, float] = field(default_factory=dict[str, float])
    halving: int = 0
    deep_every: int = 0
    deep_blocks: int = 6


def _ours(name: str, source: str, *, trained_blocks: int, reach: int, deep_every: int = 0) -> Preset:
    return Preset(
        name,
        source,
        MutationRules(
            start=0.2,
            mutable=tuple(name for name in LISTS if name not in (*DATA_HYPERPARAMETERS, *_TRIED)),
            reach=reach,
            clones="top blocks",
        ),
        Training(2_048, validations=4, batch=32, augmented_views=4, head_start="probe"),
        children=12,
        generation_size=4,
        visits=1,
        scale_factor=0.9,
        first_children="each path and depth",
        start={"learning_rate": 0.02, "trained_blocks": trained_blocks},
        deep_every=deep_every,
    )


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        _ours(
            "mutant",
            "this project: probes depths and paths, trains the best one deep, heads and adapters of the others",
            trained_blocks=0,
            reach=5,
            deep_every=2,
        ),
        _ours(
            "mutant-deep",
            "the same, but all children train eight blocks to begin with: more accurate, several times the time",
            trained_blocks=8,
            reach=11,
        ),
        Preset(
            "munet",
            "muNet, arXiv 2205.10937: constant mutation probability 0.1, first children clone every task's best path",
            MutationRules(probability="constant", mutable=_UP_TO_MU2NET, always_cloned=(), inherit_trace=False),
            Training(examples_per_validation=51_200, validations=5, batch=512),
            children=64,
            generation_size=8,
            visits=2,
            first_children="each path unmutated",
        ),
        Preset(
            "mu2net",
            "µ2Net, arXiv 2205.12755: one evolvable mutation probability per path, 0.10 to 0.30",
            MutationRules(
                probability="per path",
                probabilities=tuple(round(0.10 + 0.02 * i, 2) for i in range(11)),
                mutable=_UP_TO_MU2NET,
                always_cloned=(),
            ),
            Training(examples_per_validation=51_200, validations=4, batch=512),
            children=32,
            generation_size=8,
            visits=2,
        ),
        Preset(
            "mu2net-plus",
            "µ2Net+, arXiv 2209.07326: a probability learned per action, encoder norm always cloned, compute scored",
            MutationRules(mutable=_PAPER),
            Training(examples_per_validation=51_200, validations=30, batch=256),
            children=64,
            generation_size=8,
            visits=2,
            scale_factor=0.99,
            compute_factor=0.99,
        ),
    )
}
DEFAULT = "mutant"
