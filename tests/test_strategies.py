"""What is compared with the search: independent children of the root, each trained on what its strategy says."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import world

from mutant.blueprint import blueprint
from mutant.mutation import SetHyperparameter
from mutant.path import HEAD, NORM, adapter_slot, block_slot, is_adapter, slot_index
from mutant.position import Position
from mutant.rules import MutationRules
from mutant.search.independent import independent_child
from mutant.search.strategies import SPACE, Strategy, check_fits, parse_strategy
from mutant.tasks.errors import UserError

ROOT = world(3).root
STRATEGIES = ("random", "full", "freeze-0", "freeze-2", "adapters-8", "head")


def trained(strategy: str, nth: int = 0) -> Sequence[str]:
    edits = independent_child(ROOT, parse_strategy(strategy), MutationRules(), Position(0, "a"), nth=nth, classes=4)
    return [part.slot for part in blueprint([ROOT], edits).parts if part.trainable]


def settings_of(strategy: str, seed: int, nth: int) -> dict[str, object]:
    position = Position(seed, "a", child=nth)
    edits = independent_child(ROOT, parse_strategy(strategy), MutationRules(), position, nth=nth, classes=4)
    moved = {edit.name: edit.value for edit in edits if isinstance(edit, SetHyperparameter)}
    assert len(moved) == sum(isinstance(edit, SetHyperparameter) for edit in edits)
    return {**ROOT.hyperparameters.to_dict(), **moved}


def test_each_strategy_trains_what_it_says() -> None:
    slots = [part.slot for part in ROOT.parts]
    assert trained("full") == [*slots, HEAD]
    assert trained("head") == [HEAD]
    above = [slot for slot in slots if (slot_index(slot) or 0) >= 2 or slot in ("top", NORM)]
    assert trained("freeze-2") == [*above, HEAD]
    assert block_slot(2) in above
    assert block_slot(1) not in above
    adapters = trained("adapters-8")
    assert [slot for slot in adapters if is_adapter(slot)] == [adapter_slot(i) for i in range(ROOT.depth)]
    assert {slot for slot in adapters if not is_adapter(slot)} <= {NORM, HEAD}


def test_random_children_have_the_mutations_of_the_search() -> None:
    assert len({tuple(trained("random", nth)) for nth in range(30)}) > 1


@given(strategy=st.sampled_from(STRATEGIES), seed=st.integers(0, 1000))
def test_the_first_child_has_the_defaults_and_every_learning_rate_comes_once(strategy: str, seed: int) -> None:
    rates = parse_strategy(strategy).learning_rates
    first = settings_of(strategy, seed, 0)
    if strategy != "random":  # whose other mutations may move what nobody draws
        assert first == {**ROOT.hyperparameters.to_dict(), "learning_rate": rates[0]}
    drawn = [settings_of(strategy, seed, nth) for nth in range(len(rates))]
    assert sorted(one["learning_rate"] for one in drawn) == sorted(rates)  # type: ignore[type-var]
    for one in drawn[1:]:
        assert all(one[name] in values for name, values in SPACE.items())


@given(strategy=st.sampled_from(STRATEGIES), nth=st.integers(0, 40))
def test_a_child_depends_on_its_place_alone(strategy: str, nth: int) -> None:
    assert settings_of(strategy, 3, nth) == settings_of(strategy, 3, nth)


@given(strategy=st.sampled_from((*STRATEGIES, "evolution")))
def test_a_strategy_is_read_as_it_is_written(strategy: str) -> None:
    assert parse_strategy(strategy).text == strategy


@given(st.text(max_size=20))
def test_other_texts_are_refused(text: str) -> None:
    try:
        assert parse_strategy(text).text == text
    except UserError as error:
        assert error.hint


@pytest.mark.parametrize(
    ("text", "near"),
    [("ful", "'full'"), ("freeze", "'freeze-12'"), ("adapters-0", "'adapters-32'"), ("full-3", "'full'")],
)
def test_the_nearest_strategy_is_named(text: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        parse_strategy(text)
    assert near in str(error.value.hint)


def test_no_more_blocks_are_frozen_than_there_are() -> None:
    check_fits(Strategy("freeze", ROOT.depth), ROOT)
    with pytest.raises(UserError) as error:
        check_fits(Strategy("freeze", ROOT.depth + 1), ROOT)
    assert f"'freeze-{ROOT.depth}'" in str(error.value.hint)
