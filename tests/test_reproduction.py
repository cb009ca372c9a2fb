"""Making children: what the rules allow, the ordered lists, the learned probabilities, replay from the root."""

from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, conv_chain, vit_chain, world

from mutant.blueprint import blueprint
from mutant.hyperparameters import DATA_HYPERPARAMETERS, LISTS, Hyperparameters, image_sizes, neighbour
from mutant.mutation import (
    MUTATIONS,
    Clone,
    DropTopBlock,
    InsertAdapter,
    NewHead,
    RemoveAdapter,
    RestoreTopBlock,
    SetHyperparameter,
    SetProbability,
    describe,
    from_dict,
    to_dict,
)
from mutant.path import HEAD, Part, Path
from mutant.position import Position
from mutant.reproduction import DataDraw, draw_data_hyperparameters, mutate, unmutated
from mutant.rules import EVERY_ACTION, MutationRules
from mutant.search.presets import PRESETS

ROOT = world(4).root
CONV_ROOT = world(4, conv_chain(4)).root
ALL = MutationRules(start=1.0, probability="constant")


def grown(ancestry, mutations, *, task="a", name="child"):
    """The path that training would give, with made-up digests for what it trains."""
    plan = blueprint(ancestry, mutations)
    parts = tuple(
        part.source
        if part.source is not None and not part.trainable
        else Part(part.slot, part.spec, f"{name}/{part.slot}", 1, part.depth, trained_by=name, task=task)
        for part in plan.parts
    )
    return Path(name, task, ancestry[0].id, parts, plan.hyperparameters, tuple(mutations), dict(plan.probabilities))


def lineage(seed, root, rules, generations, tasks=("a", "a", "b")):
    """A random line of descent from the root: [newest, ..., root]."""
    line = [root]
    for generation in range(generations):
        task = tasks[generation % len(tasks)]
        rng = np.random.default_rng([seed, generation])
        data = draw_data_hyperparameters(line[0], rules, rng)
        edits = mutate(line, task=task, classes=CLASSES, rules=rules, rng=rng, data=data)
        line.insert(0, grown(line, edits, task=task, name=f"{seed}/{generation}"))
    return line


@given(st.integers(0, 10_000), st.sampled_from(sorted(PRESETS)), st.booleans(), st.floats(0.05, 1))
def test_every_child_is_a_sound_path(seed, preset, conv, start):
    rules = replace(PRESETS[preset].rules, start=start)
    line = lineage(seed, CONV_ROOT if conv else ROOT, rules, 4)
    for child, parent in pairwise(line):
        assert child.parts[-1].slot == HEAD
        assert child.slots[HEAD].trained_by == child.id
        assert child.parts[-1].spec["features_in"] == child.parts[-2].spec["features"]
        assert 0 <= child.depth <= line[-1].depth
        assert all(part.depth <= child.depth for part in child.parts)
        cloned = {m.slot for m in child.mutations if isinstance(m, Clone)}
        inserted = {f"adapter_{m.block:02d}" for m in child.mutations if isinstance(m, InsertAdapter)}
        assert {part.slot for part in child.trained_here()} == cloned | inserted | {HEAD}
        for part in child.parts:
            if part.trained_by != child.id:
                assert any(part == ancestor.slots.get(part.slot) for ancestor in line)
        if parent.task != child.task:
            assert any(isinstance(m, NewHead) for m in child.mutations)
        for name, values in LISTS.items():
            assert getattr(child.hyperparameters, name) in values
        assert child.hyperparameters.image_size in image_sizes(16)
        assert all(value in rules.probabilities for value in child.probabilities.values())


@given(st.integers(0, 10_000), st.booleans())
def test_a_path_is_replayed_from_the_root_by_its_mutations(seed, conv):
    line = lineage(seed, CONV_ROOT if conv else ROOT, MutationRules(start=0.4), 5)
    replayed = [line[-1]]
    for original in reversed(line[:-1]):
        edits = [from_dict(to_dict(mutation)) for mutation in original.mutations]
        replayed.insert(0, grown(replayed, edits, task=original.task or "", name=original.id))
    assert replayed == line
    assert [path.version for path in replayed] == [path.version for path in line]


@given(st.integers(0, 1000))
def test_the_same_position_draws_the_same_child(seed):
    drawn = [
        mutate(
            [ROOT],
            task="a",
            classes=2,
            rules=MutationRules(start=0.3),
            rng=Position(seed, "a", 1, 2, 3).generator("mutations"),
            data=DataDraw({}),
        )
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    other = Position(seed, "a", 1, 2, 4).derive("mutations")
    assert other != Position(seed, "a", 1, 2, 3).derive("mutations")
    assert Position(seed, "a", 1, 2, 3).derive("parent") != Position(seed, "a", 1, 2, 3).derive("mutations")


def test_with_probability_one_everything_that_applies_is_done():
    edits = mutate([ROOT], task="a", classes=5, rules=ALL, rng=np.random.default_rng(0), data=DataDraw({}))
    cloned = {m.slot for m in edits if isinstance(m, Clone)}
    slots = {part.slot for part in ROOT.parts}
    dropped = {m.block for m in edits if isinstance(m, DropTopBlock)}
    assert cloned == slots - {f"block_{b:02d}" for b in dropped}
    assert {m.block for m in edits if isinstance(m, InsertAdapter)} == set(range(4)) - dropped
    assert NewHead(5) in edits


def test_with_probability_zero_a_child_gets_its_head_alone():
    rules = MutationRules(probability="constant", start=0.0, always_cloned=())
    edits = mutate([ROOT], task="a", classes=5, rules=rules, rng=np.random.default_rng(0), data=DataDraw({}))
    assert edits == (NewHead(5),) == unmutated([ROOT], task="a", classes=5, rules=rules)
    plus = MutationRules(probability="constant", start=0.0)
    edits = mutate([ROOT], task="a", classes=5, rules=plus, rng=np.random.default_rng(0), data=DataDraw({}))
    assert edits == (Clone("norm"), NewHead(5)) == unmutated([ROOT], task="a", classes=5, rules=plus)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_actions_are_drawn_as_often_as_the_preset_says(preset):
    rules = PRESETS[preset].rules
    counts = Counter(
        type(mutation).__name__ + getattr(mutation, "name", getattr(mutation, "slot", ""))
        for seed in range(2_000)
        for mutation in mutate(
            [ROOT], task="a", classes=2, rules=rules, rng=np.random.default_rng(seed), data=DataDraw({})
        )
    )
    top = ROOT.depth - 1
    kept = 2_000 - counts["DropTopBlock"]
    each_slot = pytest.approx(rules.start * 2_000, abs=80)
    assert counts[f"Cloneblock_{top:02d}"] == (each_slot if rules.clones == "each slot" else kept)
    assert counts["SetHyperparameterlearning_rate"] / 2_000 == pytest.approx(rules.start, abs=0.04)
    assert bool(counts["SetProbability"]) == (rules.probability != "constant")
    assert counts["Clonenorm"] == 2_000 if "norm" in rules.always_cloned else counts["Clonenorm"] < 600


@given(st.integers(0, 1000), st.sampled_from(LISTS["trained_blocks"]), st.none() | st.integers(0, 4))
def test_top_blocks_are_cloned_together(seed, trained, reach):
    rules = MutationRules(clones="top blocks", reach=reach, mutable=(), always_cloned=())
    parent = replace(ROOT, hyperparameters=ROOT.hyperparameters.with_value("trained_blocks", trained))
    rng = np.random.default_rng(seed)
    edits = mutate([parent], task="a", classes=5, rules=rules, rng=rng, data=DataDraw({}))
    parts = blueprint([parent], edits).parts
    blocks = [part for part in parts if part.slot.startswith("block_")]
    lowest = max(len(blocks) - trained, ROOT.depth - (ROOT.depth if reach is None else reach))
    assert [part.trainable for part in blocks] == [index >= lowest for index in range(len(blocks))]
    assert all(part.trainable for part in parts if part.slot in ("top", "norm", HEAD))
    everything = trained >= len(blocks) and reach is None
    below = [part for part in parts if part.slot in ("embedding", "class_token", "position")]
    assert all(part.trainable == everything for part in below)
    inserted = {edit.block for edit in edits if isinstance(edit, InsertAdapter)}
    assert all(block < len(blocks) - trained for block in inserted)


@given(st.integers(0, 1000), st.integers(0, 4), st.integers(1, 4))
def test_reach_limits_what_may_change_to_the_roots_top_blocks(seed, reach, generations):
    rules = MutationRules(start=0.6, probability="constant", reach=reach)
    for child in lineage(seed, ROOT, rules, generations)[:-1]:
        assert child.depth >= ROOT.depth - reach
        allowed = {f"block_{i:02d}" for i in range(ROOT.depth - reach, ROOT.depth)}
        allowed |= {f"adapter_{i:02d}" for i in range(ROOT.depth - reach, ROOT.depth)} | {"norm", HEAD}
        assert {part.slot for part in child.parts if part.task is not None} <= allowed


def test_the_probabilities_of_data_hyperparameters_are_learned_too():
    rules = replace(PRESETS["mu2net-plus"].rules, start=0.3)
    moved = set()
    for seed in range(60):
        drawn = draw_data_hyperparameters(ROOT, rules, np.random.default_rng(seed))
        rng = np.random.default_rng([seed, 1])
        child = grown([ROOT], mutate([ROOT], task="a", classes=2, rules=rules, rng=rng, data=drawn))
        moved |= {m.action for m in child.mutations if isinstance(m, SetProbability)}
        assert all(child.probabilities[m.action] == m.value for m in drawn.learned)
    assert {"flip", "image_size", "crop_area_min"} <= moved


def test_a_head_comes_back_with_the_top_it_was_trained_on():
    first = grown([CONV_ROOT], (NewHead(3),), name="first")
    dropped = grown([first, CONV_ROOT], (DropTopBlock(3), NewHead(3)), name="dropped")
    rules = MutationRules(start=0.0, probability="constant", always_cloned=())
    line = [dropped, first, CONV_ROOT]
    restored = grown(line, (RestoreTopBlock(3), Clone(HEAD)), name="restored")
    assert blueprint(line, restored.mutations).parts[-1].source == first.slots[HEAD]
    edits = mutate(line, task="a", classes=3, rules=rules, rng=np.random.default_rng(0), data=DataDraw({}))
    assert edits == (Clone(HEAD),)


def test_one_evolvable_value_per_path_in_mu2net():
    rules = replace(PRESETS["mu2net"].rules, start=0.3)
    moved = set()
    for seed in range(50):
        edits = mutate([ROOT], task="a", classes=2, rules=rules, rng=np.random.default_rng(seed), data=DataDraw({}))
        moved |= {m for m in edits if isinstance(m, SetProbability)}
    assert moved == {SetProbability(EVERY_ACTION, 0.28)}


def test_a_head_is_never_taken_from_another_task():
    own = grown([ROOT], (NewHead(3),), task="a", name="own")
    rules = MutationRules(start=0.0, probability="constant", always_cloned=())
    draw = {"rules": rules, "rng": np.random.default_rng(0), "data": DataDraw({})}
    assert mutate([own, ROOT], task="a", classes=3, **draw) == (Clone(HEAD),)
    assert mutate([own, ROOT], task="b", classes=3, **draw) == (NewHead(3),)
    assert mutate([own, ROOT], task="a", classes=4, **draw) == (NewHead(4),)


def test_an_adapter_can_be_removed_again():
    own = grown([ROOT], (InsertAdapter(2, 16), NewHead(3)), name="own")
    assert "adapter_02" in own.slots
    gone = grown([own, ROOT], (RemoveAdapter(2), Clone(HEAD)), name="gone")
    assert "adapter_02" not in gone.slots
    with pytest.raises(ValueError, match="adapter_02"):
        blueprint([own, ROOT], (RemoveAdapter(2), Clone("adapter_02"), Clone(HEAD)))


def test_data_hyperparameters_are_shared_by_a_generation_and_left_alone_by_the_default_preset():
    plus, ours = PRESETS["mu2net-plus"].rules, PRESETS["mutant"].rules
    drawn = draw_data_hyperparameters(ROOT, replace(plus, start=1.0), np.random.default_rng(1))
    assert set(drawn.values) == set(DATA_HYPERPARAMETERS)
    assert draw_data_hyperparameters(ROOT, ours, np.random.default_rng(1)) == DataDraw({})
    edits = mutate([ROOT], task="a", classes=2, rules=plus, rng=np.random.default_rng(2), data=drawn)
    child = grown([ROOT], edits)
    assert {name: getattr(child.hyperparameters, name) for name in drawn.values} == drawn.values


@given(st.sampled_from(sorted(LISTS)), st.lists(st.booleans(), max_size=30))
def test_a_walk_stays_in_its_list(name, ups):
    values = LISTS[name]
    value = getattr(Hyperparameters(), name)
    for up in ups:
        index = values.index(value)
        value = neighbour(values, value, up=up)
        assert abs(values.index(value) - index) <= 1


def test_mutations_survive_json_and_are_described():
    examples = [
        SetHyperparameter("momentum", None),
        SetHyperparameter("adapter_width", 8),
        Clone("norm"),
        InsertAdapter(3, 8),
        RemoveAdapter(3),
        DropTopBlock(3),
        RestoreTopBlock(3),
        NewHead(10),
        SetProbability("clone norm", 0.12),
    ]
    assert {type(example).__name__ for example in examples} == set(MUTATIONS)
    for mutation in examples:
        again = from_dict(to_dict(mutation))
        assert again == mutation
        assert [type(getattr(again, f.name)) for f in fields(again)] == [
            type(getattr(mutation, f.name)) for f in fields(mutation)
        ]
        assert describe(mutation)


def test_depth_of_a_plain_vit_counts_blocks():
    assert world(2, vit_chain(2)).root.depth == 2
