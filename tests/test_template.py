"""Templates: few programs for all children, and each child trained as if the program had been made for it alone."""

import gc
from collections.abc import Sequence
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
from mutant.activations.shown import Shown
from mutant.assignment import Training
from mutant.blueprint import blueprint
from mutant.compilation import counting
from mutant.component import is_buffer
from mutant.feed import Feed, capacity, example_stream
from mutant.mutation import Clone, DropTopBlock, InsertAdapter, Mutation, NewHead, SetHyperparameter
from mutant.network import forward
from mutant.position import derive
from mutant.reproduction import DataDraw, mutate
from mutant.rules import MutationRules
from mutant.schedule import learning_rates
from mutant.sgd import MOST_PROGRAMS, Child, training_program
from mutant.shape import image_signature, output_signature
from mutant.state import initial_state, parts_of, starting_arrays
from mutant.template import ADAPTER_WIDTHS, Mode, fitted

HEAD = NewHead(CLASSES)
QUICK = Training(32, 1, 16)
CHAINS = {"vit": vit_chain(3), "efficientnet": conv_chain(3)}
EDITS: tuple[tuple[str, tuple[Mutation, ...]], ...] = (
    ("vit", (HEAD,)),
    ("vit", (Clone("block_01"), HEAD)),
    ("vit", (Clone("block_00"), Clone("block_02"), InsertAdapter(1, 8), Clone("norm"), HEAD)),
    ("vit", (InsertAdapter(0, 16), InsertAdapter(2, 64), HEAD)),
    ("vit", (Clone("block_01"), DropTopBlock(2), HEAD)),
    ("vit", (Clone("embedding"), Clone("block_02"), HEAD)),
    ("efficientnet", (Clone("norm"), HEAD)),
    ("efficientnet", (Clone("block_00"), Clone("block_02"), InsertAdapter(1, 8), Clone("norm"), HEAD)),
    ("efficientnet", (Clone("block_00"), DropTopBlock(2), HEAD)),
)


def trained_alone(here: World, edits: Sequence[Mutation]) -> list[dict[str, Any]]:
    """The suffix's arrays after the same steps by plain autodiff, with nothing padded, masked or passed over."""
    work, data = here.assignment(here.root, edits, training=QUICK), stripes()
    plan = work.blueprint
    parts = plan.parts[plan.frozen_prefix :]
    chain = plan.chain[plan.frozen_prefix :]
    arrays = [starting_arrays(work, part) for part in parts]
    values: Any = [
        {n: jnp.asarray(a) for n, a in own.items() if part.trainable and not is_buffer(n)}
        for part, own in zip(parts, arrays, strict=True)
    ]
    rest: Any = [{n: a for n, a in own.items() if n not in v} for own, v in zip(arrays, values, strict=True)]
    source, rows = Shown(work, data, ActivationCache(CacheLimits(0, 0))).visit(
        0, example_stream(derive(work.candidate.seed, "order"), len(data.train), 32, 1)[0]
    )
    x, y = source.take(rows), data.train.labels[rows]
    rates = learning_rates(plan.hyperparameters, 2, 1)

    @jax.jit
    @jax.grad
    def gradient(values: list[dict[str, jax.Array]], x: jax.Array, y: jax.Array) -> jax.Array:
        logits = forward(chain, [{**r, **v} for r, v in zip(rest, values, strict=True)], x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(lambda step: jnp.asarray(rates)[step], 0.9))
    state = optimizer.init(values)
    for step in range(2):
        batch = slice(16 * step, 16 * step + 16)
        updates, state = optimizer.update(gradient(values, x[batch], y[batch]), state)
        values = optax.apply_updates(values, updates)
    return [{**r, **v} for r, v in zip(rest, values, strict=True)]


@pytest.mark.parametrize(("family", "edits"), EDITS)
@pytest.mark.slow
def test_a_child_is_trained_as_by_a_program_of_its_own(family: str, edits: Sequence[Mutation]) -> None:
    here = world(3, CHAINS[family])
    work, data = here.assignment(here.root, edits, training=QUICK), stripes()
    suffix = fitted(work.blueprint)
    state, buffers = initial_state(work, suffix)
    child = Child(suffix.numbers, suffix.trained, np.float32(0.9), np.bool_(False))
    program = training_program(suffix.template)
    with Feed(work, data, ActivationCache(CacheLimits(0, 0)), suffix.inputs).chunks() as chunks:
        for _, chunk in chunks:
            state, _ = program(state, buffers, child, chunk)
    reached = parts_of(suffix, [{**v, **b} for v, b in zip(state.values, buffers, strict=True)])
    expected = trained_alone(here, edits)
    assert len(reached) == len(expected)
    for mine, theirs in zip(reached, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            np.testing.assert_allclose(array, np.asarray(theirs[name]), rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_what_is_not_trained_keeps_its_bytes_and_padding_stays_nothing() -> None:
    here = world(3, CHAINS["vit"])
    edits = (Clone("block_01"), InsertAdapter(2, 8), HEAD)
    work = here.assignment(here.root, edits, training=Training(48, 1, 8))
    suffix = fitted(work.blueprint)
    state, buffers = initial_state(work, suffix)
    before = [{name: np.array(array) for name, array in place.items()} for place in state.values]
    child = Child(suffix.numbers, suffix.trained, np.float32(0.9), np.bool_(True))
    with Feed(work, stripes(), ActivationCache(CacheLimits(0, 0)), suffix.inputs).chunks() as chunks:
        for _, chunk in chunks:
            state, _ = training_program(suffix.template)(state, buffers, child, chunk)
    for old, new, mode in zip(before, state.values, suffix.modes, strict=True):
        for name, array in old.items():
            assert (np.array(new[name]).tobytes() == array.tobytes()) == (mode < Mode.TRAINED), (mode, name)
    adapter = suffix.modes.index(Mode.TRAINED, 1)
    assert suffix.template[adapter].spec["width"] == ADAPTER_WIDTHS[0]
    down, up = (np.array(state.values[adapter][f"{name}/kernel"]) for name in ("down", "up"))
    assert not down[:, 8:].any()
    assert not up[8:].any()
    assert up[:8].any()


@pytest.mark.parametrize("family", CHAINS)
def test_a_handful_of_templates_serves_all_children(family: str) -> None:
    """The blocks of the small EfficientNet all change the shape, so that none can be passed over: its worst case."""
    here = world(3, CHAINS[family])
    rules = MutationRules(start=0.3, reach=2)
    templates, structures = set(), set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        plan = blueprint(
            [here.root],
            mutate([here.root], task="stripes", classes=CLASSES, rules=rules, rng=rng, data=DataDraw({})),
        )
        suffix = fitted(plan)
        trained = [part for part in plan.parts if part.trainable]
        assert [part for part, mode in zip(suffix.parts, suffix.modes, strict=True) if mode >= Mode.TRAINED] == trained
        assert suffix.parts[-1] == plan.parts[-1]
        assert [part for part in suffix.parts if part is not None] == list(plan.parts[plan.frozen_prefix :])
        signature = image_signature(plan.hyperparameters.image_size)
        for part in plan.parts[: plan.frozen_prefix]:
            signature = output_signature(part.spec, signature)
        assert suffix.inputs == signature
        templates.add(suffix.template)
        structures.add((plan.chain[plan.frozen_prefix :], tuple(part.trainable for part in plan.parts)))
    assert len(structures) > (6 if family == "vit" else 3) * len(templates), (len(structures), len(templates))
    assert len(templates) <= (6 if family == "vit" else 20)


@pytest.mark.slow
def test_children_of_one_template_compile_one_training_program() -> None:
    here, data = world(3, vit_chain(3, features=20)), stripes()
    children: list[tuple[Mutation, ...]] = [
        (Clone("block_00"), HEAD),
        (Clone("block_00"), Clone("block_02"), Clone("norm"), HEAD),
        (Clone("block_00"), InsertAdapter(1, 8), SetHyperparameter("learning_rate", 0.2), HEAD),
        (InsertAdapter(0, 16), Clone("block_01"), HEAD),
        (Clone("block_00"), DropTopBlock(2), HEAD),
    ]
    assert len({fitted(here.assignment(here.root, e, training=QUICK).blueprint).template for e in children}) == 1
    before = training_program.cache_info().misses
    for number, edits in enumerate(children):
        here.train(here.root, edits, seed=number, training=QUICK, data=data)
    assert training_program.cache_info().misses == before + 1
    with counting() as compiled:
        for number, edits in enumerate(children):
            here.train(here.root, edits, seed=10 + number, training=QUICK, data=data)
    assert compiled.programs == 0


def living_training_programs() -> int:
    """Counted without keeping one of them alive."""
    return sum(one.hlo_modules()[0].name == "jit_train" for one in jax.devices()[0].client.live_executables())


@pytest.mark.slow
def test_programs_of_former_children_are_given_up() -> None:
    """Else a run over many structures would fill the memory with compiled code."""
    data = stripes()
    held: list[int] = []
    training_program.cache_clear()
    gc.collect()
    others = living_training_programs()  # of gangs, and of groups that learn for themselves
    for features in range(2, 2 * MOST_PROGRAMS + 6, 2):
        here = world(1, vit_chain(1, features=features))
        here.train(here.root, (HEAD,), training=Training(16, 1, 16), data=data)
        gc.collect()
        held.append(living_training_programs() - others)
    assert 0 < max(held) <= MOST_PROGRAMS


@given(st.integers(1, 512), st.integers(1, 400), st.integers(1, 1024))
def test_a_chunk_has_at_least_a_step_and_never_too_many_bytes(batch: int, tokens: int, width: int) -> None:
    steps = capacity(batch, ((tokens, width), "float32"))
    assert 1 <= steps <= 64
    assert steps & (steps - 1) == 0
    assert steps == 1 or steps * batch * tokens * width * 4 <= 1 << 25
