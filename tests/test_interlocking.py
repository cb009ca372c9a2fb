"""Interlocking backpropagation: which loss each group follows, against plain autodiff and end-to-end training."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, World, conv_chain, stripes, vit_chain, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import CacheLimits
from mutant.assignment import Assignment, Training
from mutant.backprop import MOST_GROUPS, NAMED, parse_backprop
from mutant.component import Component, is_buffer
from mutant.families import apply, initial
from mutant.feed import Feed
from mutant.groups import Groups, cut, grouped
from mutant.interlocking import auxiliary_place, interlocked, interlocking_program
from mutant.mutation import Clone, InsertAdapter, Mutation, NewHead
from mutant.network import forward
from mutant.outcome import Failed, Trained
from mutant.path import adapter_slot, block_slot
from mutant.pipeline import Here
from mutant.schedule import learning_rates
from mutant.search.config import RunConfig, Settings, read_settings, run_config, settings_from
from mutant.sgd import Child, State, training_program
from mutant.stage import Setup
from mutant.state import initial_state, starting_arrays
from mutant.tasks.errors import UserError
from mutant.template import fitted
from mutant.train import train

HEAD = NewHead(CLASSES)
CHAINS = {"vit": vit_chain(3), "efficientnet": conv_chain(3)}
ALL: tuple[Mutation, ...] = (
    *(Clone(f"block_0{i}") for i in range(3)), InsertAdapter(1, 8), Clone("norm"), HEAD,
)  # fmt: skip
SOME: tuple[Mutation, ...] = (Clone("block_00"), InsertAdapter(1, 8), HEAD)
FROM_THE_IMAGES: tuple[Mutation, ...] = (Clone("embedding"), Clone("block_02"), HEAD)
STEPS, BATCH = 3, 16


def work(here: World, edits: Sequence[Mutation], backprop: str, groups: int = 3, validations: int = 1) -> Assignment:
    training = Training(STEPS * BATCH, validations, BATCH, backprop=backprop, groups=groups)
    return here.assignment(here.root, edits, training=training)


# The setting


@given(st.integers(1, MOST_GROUPS))
def test_a_window_has_one_name(window: int) -> None:
    found = parse_backprop(f"{window}-wise")
    assert found.window == window
    assert parse_backprop(found.text) == found
    assert (found.text in NAMED) == (window <= 2)


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("pairwize", "'pairwise'"),
        ("End-to-end", "'end-to-end'"),
        ("lokal", "'local'"),
        ("0-wise", "'local'"),
        ("1001-wise", "'1000-wise'"),
        ("n-wise", "'3-wise'"),
        ("٣-wise", "'3-wise'"),
        ("", "end-to-end, local, pairwise and N-wise"),
    ],
)
def test_another_word_is_refused_with_the_nearest(text: str, close: str) -> None:
    with pytest.raises(UserError) as refusal:
        settings_from({"backprop": text}, where="a test")
    assert repr(text) in str(refusal.value)
    assert close in str(refusal.value)


def test_the_setting_is_stored_with_the_run(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('backprop = "2-wise"\ngroups = 3\n')
    config = run_config(read_settings(file), ("a",), reference_parameters=10.0, reference_flops=10.0)
    assert (config.training.backprop, config.training.groups) == ("pairwise", 3)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    usual = run_config(Settings(), ("a",), reference_parameters=10.0, reference_flops=10.0).training
    assert (usual.backprop, usual.groups) == ("end-to-end", 4)
    old = config.to_dict()
    del old["training"]["backprop"], old["training"]["groups"]  # a run of a version without them
    assert RunConfig.from_dict(old).training == replace(config.training, backprop="end-to-end", groups=4)


# Groups


@st.composite
def suffixes(draw: st.DrawFn) -> list[str | None]:
    """Slots of a template in order: blocks and adapters from some block on, passed over or not, then norm and head."""
    depth = draw(st.integers(1, 12))
    first = draw(st.sampled_from(["block", "adapter", "images"]))
    slots: list[str | None] = ["embedding", "position_embedding"] if first == "images" else []
    for block in range(depth):
        dropped = block > 0 and draw(st.booleans())
        slots.append(None if dropped or (block == 0 and first == "adapter") else block_slot(block))
        has = (block == 0 and first == "adapter") or (not dropped and draw(st.booleans()))
        slots.append(adapter_slot(block) if has else None)
    return [*slots, "norm", "head"]


@given(suffixes(), st.integers(1, 15))
def test_groups_are_even_and_begin_at_blocks(slots: list[str | None], most: int) -> None:
    starts = cut(slots, most)
    units = sum(slot is not None and slot.startswith("block_") for slot in slots)
    units += next(slot for slot in slots if slot is not None).startswith("adapter_")
    assert len(starts) == min(most, units)
    assert starts[0] == 0
    sizes = []
    for start, stop in zip(starts, (*starts[1:], len(slots)), strict=True):
        own = [slot for slot in slots[start:stop] if slot is not None]
        blocks = sum(slot.startswith("block_") for slot in own)
        sizes.append(blocks + own[0].startswith("adapter_"))
        assert start == 0 or own[0].startswith("block_")
    assert max(sizes) - min(sizes) <= 1
    assert cut(slots, most) == cut(slots, min(most, units))


@given(st.integers(1, 20), st.integers(1, 25))
def test_every_group_follows_the_loss_furthest_ahead_in_its_window(count: int, window: int) -> None:
    within = parse_backprop(f"{window}-wise").within(count)
    groups = Groups(tuple(range(count)), within, count)
    followed = {group: loss for loss in groups.losses for group in groups.followers(loss)}
    assert followed == {group: min(group + window - 1, count - 1) for group in range(count)}
    assert sum(len(groups.followers(loss)) for loss in groups.losses) == count
    assert groups.end_to_end == (window >= count)
    assert len(groups.losses) == max(1, count - window + 1)


# The program


def taught(task: Assignment, *, plain: bool = False) -> tuple[Groups, State, list[Any], np.ndarray[Any, Any]]:
    """The groups, the state of the places and of the heads after some steps, and the losses."""
    suffix = fitted(task.blueprint)
    groups = grouped(suffix, task.training)
    main, buffers = initial_state(task, suffix)
    child = Child(suffix.numbers, suffix.trained, np.float32(0.9), np.bool_(False))
    program = training_program(suffix.template) if plain else interlocking_program(suffix.template, groups)
    state: Any = main if plain else interlocked(suffix, groups, main)
    losses: list[Any] = []
    with Feed(task, stripes(), ActivationCache(CacheLimits(0, 0)), suffix.inputs).chunks() as chunks:
        for _, chunk in chunks:
            state, some = program(state, buffers, child, chunk)
            losses.append(np.asarray(some)[: int(chunk.steps)])
    main, heads = (state, []) if plain else (state.main, state.heads.values)
    return groups, jax.tree.map(np.array, main), jax.tree.map(np.array, heads), np.concatenate(losses)


def as_bytes(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.slow
@pytest.mark.parametrize("family", CHAINS)
@pytest.mark.parametrize(
    ("edits", "groups"),
    [(ALL, 2), (ALL, 3), (SOME, 3), (FROM_THE_IMAGES, 3)],
    ids=["all of two", "all", "some", "from the images"],
)
def test_a_window_of_all_groups_is_end_to_end_training_to_the_bit(
    family: str, edits: Sequence[Mutation], groups: int
) -> None:
    task = work(world(3, CHAINS[family]), edits, f"{groups}-wise", groups)
    found, state, heads, losses = taught(task)
    assert found.count == groups
    assert heads == []
    _, expected, _, expected_losses = taught(task, plain=True)
    assert as_bytes(state) == as_bytes(expected)
    assert losses.tobytes() == expected_losses.tobytes()


def by_plain_autodiff(task: Assignment, window: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The suffix's arrays and the heads' after the same steps: `jax.grad` of every whole loss, and what follows it."""
    plan = task.blueprint
    parts, chain = plan.parts[plan.frozen_prefix :], plan.chain[plan.frozen_prefix :]
    starts = cut([part.slot for part in parts], task.training.groups)
    count, ends = len(starts), [*starts[1:], len(parts)]
    group_of = [sum(start <= i for start in starts) - 1 for i in range(len(parts))]
    follows = [min(group + window - 1, count - 1) for group in range(count)]
    arrays = [starting_arrays(task, part) for part in parts]
    fixed: list[Any] = [
        {n: a for n, a in own.items() if is_buffer(n) or not part.trainable}
        for part, own in zip(parts, arrays, strict=True)
    ]
    values: Any = [
        {n: jnp.asarray(a) for n, a in own.items() if n not in f} for own, f in zip(arrays, fixed, strict=True)
    ]
    template = fitted(plan).template
    specs = [
        replace_classes(auxiliary_place(template, grouped(fitted(plan), task.training), loss).spec)
        for loss in range(count - 1)
    ]
    heads: Any = [jax.tree.map(jnp.asarray, initial(spec, np.random.default_rng(0))) for spec in specs]

    def loss(values: Any, heads: Any, index: int, x: jax.Array, y: jax.Array) -> jax.Array:
        end = ends[index]
        emitted = forward(chain[:end], [{**f, **v} for f, v in zip(fixed[:end], values[:end], strict=True)], x)
        logits = emitted if index == count - 1 else apply(specs[index], heads[index], emitted)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    traces, head_traces = jax.tree.map(jnp.zeros_like, (values, heads))
    rates = learning_rates(plan.hyperparameters, STEPS, 1)
    batches = list(rows(task))
    for step, (x, y) in enumerate(batches):
        slopes = [gradient(values, heads, index, x, y) for index in range(count)]
        followed: Any = [slopes[follows[group_of[i]]][0][i] for i in range(len(parts))]
        norms = [
            optax.tree.norm([g for i, g in enumerate(followed) if follows[group_of[i]] == index])
            for index in range(count)
        ]
        for i in range(len(parts)):
            scale = 1 / jnp.maximum(1.0, norms[follows[group_of[i]]])
            traces[i] = jax.tree.map(lambda t, g, s=scale: 0.9 * t + s * g, traces[i], followed[i])
            values[i] = jax.tree.map(lambda v, t, r=rates[step]: v - r * t, values[i], traces[i])
        for index in range(count - 1):
            own = slopes[index][1][index]
            scale = 1 / jnp.maximum(1.0, optax.tree.norm(own))
            head_traces[index] = jax.tree.map(lambda t, g, s=scale: 0.9 * t + s * g, head_traces[index], own)
            heads[index] = jax.tree.map(lambda v, t, r=rates[step]: v - r * t, heads[index], head_traces[index])
    return values, heads[window - 1 :]


def replace_classes(spec: Any) -> Any:
    """An auxiliary head's spec without the padding of its template."""
    return type(spec).of(spec.kind, **{**dict(spec.config), "features": CLASSES, "classes": CLASSES})


def rows(task: Assignment) -> Any:
    """The batches of a child: what stands at the top of its frozen prefix, and labels."""
    suffix = fitted(task.blueprint)
    with Feed(task, stripes(), ActivationCache(CacheLimits(0, 0)), suffix.inputs).chunks() as chunks:
        for _, chunk in chunks:
            for i in range(int(chunk.steps)):
                assert chunk.weights[i].all()
                yield chunk.x[i], chunk.y[i]


@pytest.mark.slow
@pytest.mark.parametrize("family", CHAINS)
@pytest.mark.parametrize("edits", [ALL, SOME], ids=["all", "some"])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_groups_and_heads_are_trained_as_by_plain_autodiff(family: str, edits: Sequence[Mutation], window: int) -> None:
    task = work(world(3, CHAINS[family]), edits, f"{window}-wise")
    _, state, heads, _ = taught(task)
    expected, expected_heads = by_plain_autodiff(task, window)
    suffix = fitted(task.blueprint)
    own = [values for part, values in zip(suffix.parts, state.values, strict=True) if part is not None]
    moved = 0
    for mine, theirs in zip(own, expected, strict=True):
        for name, array in theirs.items():
            padded = mine[name][tuple(slice(length) for length in array.shape)]
            np.testing.assert_allclose(padded, np.asarray(array), rtol=2e-4, atol=2e-5)
            moved += 1
    assert moved > 8
    assert len(heads) == len(expected_heads) == 3 - window
    for mine, theirs in zip(heads, expected_heads, strict=True):
        for name, array in theirs.items():
            padded = mine[name][tuple(slice(length) for length in array.shape)]
            np.testing.assert_allclose(padded, np.asarray(array), rtol=2e-4, atol=2e-5)
        assert np.abs(mine["kernel"][:, :CLASSES]).max() > 0
        assert not mine["kernel"][:, CLASSES:].any()


def with_another(here: World, slot: str) -> World:
    """The same root but for one component, whose arrays are a little larger."""
    part = here.root.slots[slot]
    old = here.components[part.digest]
    new = Component(old.spec, {name: 1.01 * array for name, array in old.arrays.items()})
    parts = tuple(replace(p, digest=new.digest) if p.slot == slot else p for p in here.root.parts)
    root = replace(here.root, parts=parts)
    return World(root, {**here.components, new.digest: new}, {}, {root.id: root})


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("changed", [1, 2])
def test_a_group_hears_of_nothing_beyond_its_window(window: int, changed: int) -> None:
    """Heads start at 0, so that the first step moves heads alone. After the second, a group may hear of what is beyond
    through the weights of those within its window; with local training it never does."""
    steps = STEPS if window == 1 else 2
    tasks = [work(root, ALL, f"{window}-wise") for root in (world(3), with_another(world(3), f"block_0{changed}"))]
    ways = [replace(task, training=replace(task.training, examples_per_validation=steps * BATCH)) for task in tasks]
    (groups, one, _, losses), (_, two, _, _) = (taught(task) for task in ways)
    assert len(losses) == steps
    for group in range(changed):
        places = groups.place_range(group)
        same = as_bytes(one.values[places]) == as_bytes(two.values[places])
        assert same == (min(group + window - 1, groups.last) < changed), (group, window, changed)


# Training a child


def trained(task: Assignment, cache: ActivationCache | None = None, crew: Any = None) -> Trained:
    outcome = train(task, stripes(), ActivationCache(CacheLimits(0, 0)) if cache is None else cache, crew)
    assert isinstance(outcome, Trained), outcome
    return outcome


def test_end_to_end_children_use_the_program_of_old_whatever_the_groups() -> None:
    here = world()
    edits = (Clone("block_02"), HEAD)
    before = interlocking_program.cache_info().currsize, training_program.cache_info().currsize
    usual = trained(work(here, edits, "end-to-end"))
    for backprop, groups in (("end-to-end", 1), ("local", 1), ("pairwise", 2), ("local", 3)):  # one block: one group
        assert trained(work(here, edits, backprop, groups)).path == usual.path
    assert interlocking_program.cache_info().currsize == before[0]
    assert training_program.cache_info().currsize <= before[1] + 1


@pytest.mark.slow
@pytest.mark.parametrize("family", CHAINS)
@pytest.mark.parametrize("backprop", ["local", "pairwise"])
def test_a_child_has_the_same_bytes_with_and_without_a_cache_and_as_a_pipeline(family: str, backprop: str) -> None:
    here = world(3, CHAINS[family])
    task = work(here, ALL, backprop, validations=2)
    bare, cache = trained(task), ActivationCache()
    here.train(here.root, (Clone("block_00"), HEAD), seed=5, training=task.training, cache=cache)
    for other in (trained(task, cache), trained(task, crew=Here())):
        assert other.path == bare.path
        assert other.components.keys() == bare.components.keys()
        assert other.traces.keys() == bare.traces.keys()
        assert other.validations == bare.validations


class Failing(Here):
    """A crew of which one call goes wrong, and tells only those who wait for its future."""

    def __init__(self, method: str) -> None:
        self._method = method

    def begin(self, setups: Sequence[Setup]) -> Sequence[Any]:
        self._hands = super().begin(setups)
        return [self._hands[0], _Broken(self._hands[1], self._method), *self._hands[2:]]

    def values(self, futures: Sequence[Any]) -> list[Any]:
        for future in futures:
            if isinstance(future, Exception):
                raise future
        return super().values(futures)


class _Broken:
    def __init__(self, hand: Any, method: str) -> None:
        self._hand, self._method = hand, method

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        found = self._hand.call(method, *arguments, returns=returns)
        return [*found[:-1], MemoryError("no room")] if method == self._method else found


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_stage_that_fails_fails_its_child_though_no_other_waits_for_it(method: str) -> None:
    outcome = train(work(world(), ALL, "local"), stripes(), ActivationCache(), Failing(method))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.reason) == ("out of memory", "no room")


@pytest.mark.slow
def test_a_child_learns_by_each_way_and_keeps_no_head_but_its_own() -> None:
    here = world()
    usual = trained(work(here, ALL, "end-to-end", validations=5))
    found = {usual.path.version}
    for backprop in ("local", "pairwise"):
        child = trained(work(here, ALL, backprop, validations=5))
        assert max(child.validations) > 0.8
        assert [part.slot for part in child.path.parts] == [part.slot for part in usual.path.parts]
        assert child.path.n_parameters == usual.path.n_parameters
        assert child.path.flops == usual.path.flops
        assert child.components.keys() == {part.digest for part in child.path.trained_here()}
        found.add(child.path.version)
    assert len(found) == 3


@pytest.mark.slow
def test_children_of_a_template_with_the_same_groups_compile_one_program() -> None:
    here = world(3, vit_chain(3, features=20))
    first = work(here, ALL, "local")
    trained(first)
    count = interlocking_program.cache_info().currsize
    trained(work(here, (Clone("block_00"), Clone("block_02"), HEAD), "local"))
    trained(work(here, (Clone("block_00"), InsertAdapter(0, 16), Clone("block_01"), HEAD), "local"))
    assert interlocking_program.cache_info().currsize == count
