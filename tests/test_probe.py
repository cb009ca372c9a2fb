"""A head from a linear probe: it is ridge regression, it is chosen without the rows it is tried on, and training keeps
its promises with it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits
from tiny import CLASSES, conv_chain, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.limits import OFF
from mutant.assignment import Training
from mutant.mutation import Clone, DropTopBlock, InsertAdapter, NewHead, SetHyperparameter
from mutant.outcome import Failed
from mutant.probe import FACTORS, HELD_OUT, MOST_ROWS, PENALTIES, probe_rows, probed_head
from mutant.train import train

HEAD = NewHead(CLASSES)
PROBED = Training(32, 2, 16, head_start="probe")


def clouds(seed: int, n: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    centres = rng.normal(0, 3, (classes, features))
    x = centres[labels] + rng.normal(0, 1, (n, features))
    return (x * rng.uniform(0.1, 10, features) + rng.normal(0, 5, features)).astype(np.float32), labels


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([40, 700]), st.sampled_from([3, 20]), st.integers(2, 5))
def test_it_is_the_ridge_regression_of_one_of_the_penalties(seed: int, n: int, features: int, classes: int) -> None:
    x, labels = clouds(seed, n, features, classes)
    head = probed_head(x, labels, classes)
    logits = x @ head["kernel"] + head["bias"]
    standard = (x - x.mean(0)) / x.std(0)
    targets = np.eye(classes)[labels]
    references = [
        factor * Ridge(alpha=penalty * n).fit(standard, targets).predict(standard)
        for penalty in PENALTIES
        for factor in FACTORS
    ]
    assert min(np.abs(logits - one).max() / np.abs(one).max() for one in references) < 5e-3


def test_it_tells_digits_apart() -> None:
    digits: Any = load_digits()
    x, labels = digits.data.astype(np.float32), digits.target.astype(np.int32)
    head = probed_head(x[:1200], labels[:1200], 10)
    assert ((x[1200:] @ head["kernel"] + head["bias"]).argmax(1) == labels[1200:]).mean() > 0.85


def test_equal_features_give_equal_bytes_and_maps_are_averaged() -> None:
    x, labels = clouds(1, 100, 6, 3)
    one, two = probed_head(x, labels, 3), probed_head(x.copy(), labels, 3)
    maps = np.repeat(x[:, None, None, :], 2, axis=1)
    for name in ("kernel", "bias"):
        assert one[name].dtype == np.float32
        assert one[name].tobytes() == two[name].tobytes()
        assert np.allclose(probed_head(maps, labels, 3)[name], one[name], rtol=1e-3, atol=1e-3)


def test_its_bits_do_not_depend_on_the_cores_that_the_process_may_use() -> None:
    x, labels = clouds(0, 700, 640, 26)
    with threadpool_limits(1, "blas"):
        one = probed_head(x, labels, 26)
    with threadpool_limits(2, "blas"):
        two = probed_head(x, labels, 26)
    assert [array.tobytes() for array in one.values()] == [array.tobytes() for array in two.values()]


@pytest.mark.parametrize("n", [1, 2, HELD_OUT - 1, HELD_OUT, HELD_OUT + 1])
def test_few_examples_features_without_spread_and_missing_classes_are_borne(n: int) -> None:
    x, labels = np.ones((n, 4), np.float32), np.zeros(n, np.int32)
    head = probed_head(x, labels, 3)
    assert head["kernel"].shape == (4, 3)
    assert all(np.isfinite(array).all() for array in head.values())


def test_what_is_not_finite_is_told() -> None:
    with pytest.raises(FloatingPointError):
        probed_head(np.full((10, 2), np.inf, np.float32), np.zeros(10, np.int32), 2)
    here = world()
    norm = here.components[here.root.slots["norm"].digest]
    here.components[norm.digest] = type(norm)(norm.spec, {n: np.full_like(v, np.inf) for n, v in norm.arrays.items()})
    outcome = train(here.assignment(here.root, [HEAD], training=PROBED), stripes(), ActivationCache())
    assert isinstance(outcome, Failed)
    assert outcome.kind == "not finite"


@given(st.integers(1, 50_000))
def test_the_rows_of_a_probe_are_even_and_few(examples: int) -> None:
    rows = probe_rows(examples)
    assert 1 <= len(rows) <= MOST_ROWS
    assert len(rows) == examples or len(rows) > MOST_ROWS // 2
    assert rows[-1] < examples
    assert len(set(np.diff(rows).tolist())) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["vit", "conv"])
@pytest.mark.parametrize(
    "edits",
    [[HEAD], [Clone("block_02"), Clone("norm"), HEAD], [InsertAdapter(1, 8), HEAD], [DropTopBlock(2), HEAD]],
    ids=lambda edits: "-".join(type(edit).__name__ for edit in edits),
)
def test_a_probed_child_starts_better_and_the_cache_changes_no_byte(chain: str, edits: list) -> None:
    def new():
        return world() if chain == "vit" else world(3, conv_chain(3))

    edits = [replace(edit, slot="block_02") if isinstance(edit, Clone) and chain == "conv" else edit for edit in edits]
    slow = [SetHyperparameter("learning_rate", 0.0001), SetHyperparameter("momentum", None)]
    cached, bare, zero = new(), new(), new()
    one = cached.train(cached.root, [*slow, *edits], training=PROBED, cache=ActivationCache())
    two = bare.train(bare.root, [*slow, *edits], training=PROBED, cache=ActivationCache(OFF))
    three = zero.train(zero.root, [*slow, *edits], training=replace(PROBED, head_start="zero"))
    assert one.path == two.path
    assert one.components.keys() == two.components.keys()
    assert one.path.quality > three.path.quality


def test_a_head_that_is_cloned_is_not_probed() -> None:
    here = world()
    parent = here.train(here.root, [HEAD], training=PROBED).path
    again = [
        here.train(parent, [Clone("head")], seed=3, training=t).path
        for t in (PROBED, replace(PROBED, head_start="zero"))
    ]
    assert again[0].slots["head"].digest == again[1].slots["head"].digest
