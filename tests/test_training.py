"""Training children: what is shared stays shared, caches change nothing, failures are told."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, conv_chain, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import CacheLimits
from mutant.assignment import Training
from mutant.backend import inference_options
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Clone, DropTopBlock, InsertAdapter, NewHead, RestoreTopBlock, SetHyperparameter
from mutant.network import forward, on_device, predict_logits, run_in_batches
from mutant.outcome import Failed
from mutant.schedule import learning_rates
from mutant.train import train

HEAD = NewHead(CLASSES)
QUICK = Training(32, 2, 16)


def test_a_child_learns_and_shares_what_it_did_not_clone():
    here = world()
    child = here.train(here.root, [Clone("block_02"), HEAD], training=Training(48, 8, 16))
    assert child.path.quality == max(child.validations) > 0.8
    assert {part.slot for part in child.path.trained_here()} == {"block_02", "head"}
    for part in child.path.parts:
        if part.slot not in ("block_02", "head"):
            assert part == here.root.slots[part.slot]
    assert set(child.components) == {child.path.slots[slot].digest for slot in ("block_02", "head")}
    assert child.path.slots["block_02"].digest != here.root.slots["block_02"].digest


def test_quality_is_the_best_validation_and_its_parameters_are_kept():
    here = world()
    data = stripes()
    child = here.train(
        here.root, [SetHyperparameter("learning_rate", 0.5), HEAD], training=Training(48, 6, 16), data=data
    )
    logits = predict_logits(child.path, here.components, data.validation.images)
    assert (logits.argmax(-1) == data.validation.labels).mean() == child.path.quality


def test_training_leaves_alone_the_arrays_it_starts_from():
    """Also those that the device reads where they lie: JAX takes aligned memory as it is."""
    here = world()
    source = here.components[here.root.slots["block_02"].digest]
    placed = {name: _aligned(array) for name, array in source.arrays.items()}
    before = {name: array.copy() for name, array in placed.items()}
    here.components[source.digest] = replace(source, arrays=placed)
    child = here.train(here.root, [Clone("block_02"), HEAD], training=QUICK)
    assert child.path.slots["block_02"].digest != source.digest
    for name, array in here.components[source.digest].arrays.items():
        np.testing.assert_array_equal(array, before[name])


def _aligned(array):
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    placed = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


@pytest.mark.slow
@pytest.mark.parametrize(
    "edits",
    [
        [HEAD],
        [Clone("norm"), HEAD],
        [InsertAdapter(1, 8), HEAD],
        [Clone("embedding"), HEAD],
        [Clone("block_01"), DropTopBlock(2), HEAD],
    ],
    ids=lambda edits: "-".join(type(edit).__name__ for edit in edits),
)
def test_with_and_without_the_cache_a_child_ends_with_the_same_bytes(edits):
    cached, bare, tight = world(), world(), world()
    cache = ActivationCache()
    for depth in (0, 1, 2):
        cached.train(cached.root, [Clone(f"block_0{depth}"), HEAD], seed=depth, training=QUICK, cache=cache)
    one = cached.train(cached.root, edits, training=QUICK, cache=cache)
    two = bare.train(bare.root, edits, training=QUICK)
    three = tight.train(tight.root, edits, training=QUICK, cache=ActivationCache(CacheLimits(4096, 4096)))
    assert one.path == two.path == three.path
    assert one.components.keys() == two.components.keys() == three.components.keys()
    assert one.traces.keys() == two.traces.keys() == three.traces.keys()


def test_the_cache_extends_shallower_prefixes_and_keeps_to_its_budget():
    here, cache, data = world(), ActivationCache(), stripes()
    here.train(here.root, [Clone("norm"), HEAD], training=QUICK, cache=cache, data=data)
    rows = cache.computed_rows
    here.train(here.root, [Clone("norm"), HEAD], seed=2, training=QUICK, cache=cache, data=data)
    assert cache.computed_rows == rows == len(data.train) + len(data.validation)
    small = ActivationCache(CacheLimits(100_000, 100_000))
    for slot in ("norm", "block_02", "block_01"):
        here.train(here.root, [Clone(slot), HEAD], training=QUICK, cache=small, data=data)
    assert small.held_bytes <= 200_000


@pytest.mark.parametrize("chain", [None, conv_chain(3)], ids=["vit", "efficientnet"])
def test_inserting_an_adapter_leaves_the_outputs_unchanged_to_the_bit(chain):
    from mutant.blueprint import blueprint
    from mutant.state import starting_arrays

    here = world(3, chain)
    trained = here.train(here.root, [Clone("norm"), HEAD], training=QUICK).path
    images = stripes().validation.images
    before = predict_logits(trained, here.components, images)
    for block in range(3):
        edits = [InsertAdapter(block, 8), Clone("head")]
        work = here.assignment(trained, edits, training=QUICK)
        plan = blueprint(here.ancestry(trained), edits)
        arrays = on_device([starting_arrays(work, part) for part in plan.parts])
        assert f"adapter_0{block}" in [part.slot for part in plan.parts]
        assert run_in_batches(plan.chain, arrays, images).tobytes() == before.tobytes()


@pytest.mark.parametrize("chain", [None, conv_chain(3)], ids=["vit", "efficientnet"])
def test_one_program_equals_a_program_for_each_component(chain):
    here = world(3, chain)
    path = here.train(here.root, [Clone("norm"), HEAD], training=QUICK).path
    images = stripes().validation.images[:16]
    chain = tuple(part.spec for part in path.parts)
    arrays = on_device([here.components[part.digest].arrays for part in path.parts])
    options = dict(inference_options())
    whole = np.asarray(jax.jit(lambda values, x: forward(chain, values, x), compiler_options=options)(arrays, images))
    for cut in range(1, len(chain)):
        below = run_in_batches(chain[:cut], arrays[:cut], images)
        assert run_in_batches(chain[cut:], arrays[cut:], below).tobytes() == whole.tobytes()
    assert whole.shape == (16, CLASSES)


def test_a_rows_answer_does_not_depend_on_its_neighbours():
    here = world()
    path = here.train(here.root, [HEAD], training=QUICK).path
    images = stripes().validation.images
    together = predict_logits(path, here.components, images)
    alone = np.concatenate([predict_logits(path, here.components, images[i : i + 1]) for i in range(len(images))])
    assert together.tobytes() == alone.tobytes()


def test_momentum_none_trains_like_momentum_zero_and_differs_from_the_default():
    plain, usual = world(), world()
    none = plain.train(plain.root, [SetHyperparameter("momentum", None), HEAD], training=QUICK)
    some = usual.train(usual.root, [HEAD], training=QUICK)
    assert none.path.slots["head"].digest != some.path.slots["head"].digest
    assert math.isfinite(none.path.quality)


def test_nesterov_and_schedules_change_the_result():
    digests = set()
    for edits in (
        [SetHyperparameter("nesterov", True)],
        *([SetHyperparameter("schedule", name)] for name in ("constant", "restarts", "linear", "cosine")),
    ):
        here = world()
        digests.add(here.train(here.root, [*edits, HEAD], training=QUICK).path.slots["head"].digest)
    assert len(digests) == 5


def test_another_learning_rate_compiles_nothing():
    here = world()
    here.train(here.root, [Clone("norm"), HEAD], training=QUICK)
    compilations: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if "backend_compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for name, value in (("learning_rate", 0.2), ("momentum", None), ("nesterov", True), ("schedule", "linear")):
            here.train(here.root, [SetHyperparameter(name, value), Clone("norm"), HEAD], seed=3, training=QUICK)
        assert compilations == []
        jax.jit(lambda x: x + 1.0)(np.ones(3, np.float32))  # a new function, which no earlier test has compiled
        assert compilations, "the listener hears of compilations"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_momentum_is_inherited_by_a_clone():
    here = world()
    parent = here.train(here.root, [Clone("norm"), HEAD], training=QUICK).path
    assert parent.slots["norm"].trace in here.traces
    with_trace = here.train(parent, [Clone("norm"), Clone("head")], seed=5, training=QUICK).path
    here.traces.clear()
    without = here.train(parent, [Clone("norm"), Clone("head")], seed=5, training=QUICK).path
    assert with_trace.slots["norm"].digest != without.slots["norm"].digest


def test_a_loss_that_is_not_finite_is_a_failure_with_its_reason():
    here = world()
    norm = here.components[here.root.slots["norm"].digest]
    broken = {name: np.full_like(value, np.inf) for name, value in norm.arrays.items()}
    here.components[norm.digest] = type(norm)(norm.spec, broken)
    work = here.assignment(here.root, [HEAD], training=QUICK)
    outcome = train(work, stripes(), ActivationCache())
    assert isinstance(outcome, Failed)
    assert outcome.kind == "not finite"
    assert "step 0" in outcome.reason


def test_dropped_blocks_come_back_from_the_nearest_ancestor():
    here = world()
    trained = here.train(here.root, [Clone("block_02"), HEAD], training=QUICK).path
    dropped = here.train(trained, [DropTopBlock(2), Clone("head")], seed=2, training=QUICK).path
    assert [part.slot for part in dropped.parts][-3:] == ["block_01", "norm", "head"]
    restored = here.train(dropped, [RestoreTopBlock(2), Clone("head")], seed=3, training=QUICK).path
    assert restored.slots["block_02"] == trained.slots["block_02"]


def test_an_efficientnet_without_its_top_block_keeps_a_head_on_what_remains():
    here = world(3, conv_chain(3))
    path = here.train(here.root, [DropTopBlock(2), HEAD], training=QUICK).path
    assert [part.slot for part in path.parts] == ["embedding", "block_00", "block_01", "head"]
    assert path.slots["head"].spec["features_in"] == path.slots["block_01"].spec["features"]
    back = here.train(path, [RestoreTopBlock(2), HEAD], seed=2, training=QUICK).path
    assert back.slots["top"] == here.root.slots["top"]


def test_few_examples_and_odd_batches_train():
    here = world()
    child = here.train(here.root, [HEAD], data=stripes(5, 3), training=Training(100, 2, 16))
    assert len(child.validations) == 2


@given(
    rate=st.floats(1e-4, 1.0),
    warmup=st.sampled_from([0.0, 0.05, 0.4]),
    steps=st.integers(1, 200),
    schedule=st.sampled_from(["constant", "cosine", "restarts", "linear"]),
)
def test_learning_rates_rise_then_fall_and_stay_within_bounds(rate, warmup, steps, schedule):
    hyperparameters = replace(Hyperparameters(), learning_rate=rate, warmup_ratio=warmup, schedule=schedule)
    rates = learning_rates(hyperparameters, steps, 4)
    peak = rate / 2 if schedule == "constant" else rate
    assert rates.shape == (steps,)
    assert rates.dtype == np.float32
    assert (rates >= 0).all()
    assert (rates <= np.float32(peak) * 1.00001).all()
    warm = round(warmup * steps)
    if schedule != "restarts" and warm:
        assert rates[0] == pytest.approx(peak / 100)
        assert (np.diff(rates[:warm]) >= 0).all()
    if schedule == "constant":
        assert rates[warm:] == pytest.approx(peak)
