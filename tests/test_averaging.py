"""The average of a child's best validations: never worse than the best one, and counted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import CacheLimits
from mutant.assignment import Assignment, Training
from mutant.averaging import averaged, greedy
from mutant.cost import training_flops
from mutant.mutation import Clone, NewHead, SetHyperparameter
from mutant.outcome import Trained
from mutant.search.config import Settings, settings_from
from mutant.tasks.errors import UserError
from mutant.train import train

Snapshot = list[dict[str, Any]]


def snapshot(*values: float) -> Snapshot:
    return [{"kernel": np.array([value, 1 / 3], np.float32)} for value in values]


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=6))
def test_it_is_never_below_the_best_and_asks_once_for_each_other(pairs: list[tuple[int, int]]) -> None:
    validations, told = [one / 10 for one, _ in pairs], [each / 10 for _, each in pairs]
    asked: list[int] = []

    def accuracy(_: Sequence[Any]) -> float:
        asked.append(len(asked))
        return told[len(asked) - 1]

    reached, average = greedy(validations, [snapshot(float(i)) for i in range(len(pairs))], accuracy)
    assert len(asked) == len(pairs) - 1
    assert reached == max(validations + [t for t in told[: len(asked)] if t >= max(validations)])
    assert average[0]["kernel"].dtype == np.float32
    assert average[0]["kernel"][1] == np.float32(1 / 3), "what is equal in all stays as it is"


def test_the_best_come_first_and_one_that_makes_it_worse_is_left_out() -> None:
    seen: list[float] = []

    def accuracy(parts: Sequence[Any]) -> float:
        seen.append(float(parts[0]["kernel"][0]))
        return 0.9 if seen[-1] == 6.0 else 0.1

    reached, average = greedy([0.5, 0.8, 0.7], [snapshot(9.0), snapshot(8.0), snapshot(4.0)], accuracy)
    assert (reached, float(average[0]["kernel"][0])) == (0.9, 6.0)
    assert seen == [6.0, 7.0]


def test_what_is_equal_in_any_number_of_snapshots_keeps_its_bits() -> None:
    array = np.random.default_rng(0).normal(size=1_000).astype(np.float32)
    for count in range(1, 12):
        (mean,) = averaged([[{"x": array}]] * count)
        assert mean["x"].tobytes() == array.tobytes()


def child(**settings: Any) -> Assignment:
    here, rate = world(), SetHyperparameter("learning_rate", 0.2)
    edits = [rate, Clone("norm"), Clone("block_00"), NewHead(CLASSES)]
    return here.assignment(here.root, edits, training=Training(16, 5, 16, **settings))


def trained(assignment: Assignment) -> Trained:
    outcome = train(assignment, stripes(), ActivationCache(CacheLimits(1 << 24, 0)))
    assert isinstance(outcome, Trained), outcome
    return outcome


@pytest.mark.slow
def test_a_child_keeps_the_average_and_is_charged_for_trying() -> None:
    plain, mixed = trained(child()), trained(child(averaging="greedy"))
    assert mixed.validations == plain.validations
    assert mixed.path.quality >= plain.path.quality == max(plain.validations)
    assert mixed.path.version != plain.path.version, "these five were better together"
    assert trained(child(averaging="greedy")).path.version == mixed.path.version
    assert mixed.traces.keys() == plain.traces.keys()
    plan = child().blueprint
    counted = [training_flops(plan, 16, examples=80, validation_examples=24 * passes) for passes in (5, 9)]
    assert [plain.cost.flops, mixed.cost.flops] == counted


def test_a_child_that_is_stopped_early_is_not_averaged() -> None:
    hopeless = (None, 1.1, None, None, None)
    stopped = [trained(replace(child(averaging=how), stop_below=hopeless)) for how in ("none", "greedy")]
    assert stopped[0].path.version == stopped[1].path.version
    assert stopped[0].cost.flops == stopped[1].cost.flops


def test_it_is_a_setting_and_a_typo_is_told() -> None:
    assert settings_from({"averaging": "greedy"}, where="a test") == Settings(averaging="greedy")
    with pytest.raises(UserError, match="greedy"):
        settings_from({"averaging": "gredy"}, where="a test")
