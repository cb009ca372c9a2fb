"""The optimizer as a hyperparameter: `signum` moves every coordinate equally far, and SGD is what it was."""

from typing import Any

import numpy as np
import pytest
from tiny import CLASSES, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import CacheLimits
from mutant.assignment import Training
from mutant.hyperparameters import LISTS, Hyperparameters, neighbour
from mutant.mutation import Clone, InsertAdapter, NewHead, SetHyperparameter
from mutant.outcome import Trained
from mutant.schedule import learning_rates
from mutant.search.presets import PRESETS
from mutant.sgd import SIGN_STEP
from mutant.train import train


def moved(optimizer: str, momentum: float = 0.9, steps: int = 1) -> tuple[dict[str, np.ndarray], float]:
    """How far each array of a child's trained parts went, and the greatest learning rate."""
    here = world()
    edits = [
        SetHyperparameter("optimizer", optimizer), SetHyperparameter("momentum", momentum),
        Clone("block_00"), InsertAdapter(0, 8), Clone("norm"), NewHead(CLASSES),
    ]  # fmt: skip
    work = here.assignment(here.root, edits, training=Training(16 * steps, 1, 16, head_start="probe"))
    outcome = train(work, stripes(), ActivationCache(CacheLimits(1 << 24, 0)))
    assert isinstance(outcome, Trained), outcome
    assert outcome.path.hyperparameters.optimizer == optimizer
    found: dict[str, np.ndarray] = {}
    for part in outcome.path.parts:
        before: Any = here.root.slots.get(part.slot)
        if before is not None and before.digest != part.digest and part.slot != "head":
            old = work.components[before.digest].arrays
            new = outcome.components[part.digest].arrays
            found |= {f"{part.slot}/{name}": np.asarray(new[name]) - np.asarray(old[name]) for name in new}
    return found, float(learning_rates(outcome.path.hyperparameters, steps, 1).max())


@pytest.mark.slow
def test_under_signum_every_coordinate_moves_equally_far_or_not_at_all() -> None:
    found, rate = moved("signum")
    assert {name.split("/")[0] for name in found} == {"block_00", "norm"}
    moves = np.concatenate([array.ravel() for array in found.values()])
    step = np.abs(moves) / (rate * SIGN_STEP)
    far = np.isclose(step, 1, atol=0.05)
    assert (far | (step == 0)).all(), step[~far & (step != 0)]
    assert far.mean() > 0.9


@pytest.mark.slow
def test_a_coordinate_of_sgd_moves_with_its_gradient() -> None:
    found, rate = moved("sgd")
    moves = np.abs(np.concatenate([array.ravel() for array in found.values()]))
    assert moves.std() > 0.2 * moves.mean()
    assert np.sqrt((moves**2).sum()) < 1.01 * rate, "the gradient's norm is clipped to 1"


def test_it_may_move_where_it_is_named_and_is_left_out_of_the_presets() -> None:
    assert LISTS["optimizer"] == ("sgd", "signum")
    assert neighbour(LISTS["optimizer"], Hyperparameters().optimizer, up=True) == "signum"
    assert [name for name, preset in PRESETS.items() if "optimizer" in preset.rules.mutable] == []
