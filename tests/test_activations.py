"""Activations of frozen prefixes: the same bits whatever is kept, within the budget, gone with the run."""

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CLASSES, stripes, world

from mutant.activations.cache import ActivationCache
from mutant.activations.greedy_dual import Entry, Tier
from mutant.activations.homes import home_of, homes, memory_of, occupy, remove_unused, run_home, sweep
from mutant.activations.limits import OFF, SHARED_MEMORY, CacheLimits
from mutant.activations.views import view, views_shown
from mutant.assignment import Training
from mutant.mutation import Clone, NewHead, SetHyperparameter
from mutant.network import on_device, run_in_batches
from mutant.outcome import Trained
from mutant.prefix import Prefix
from mutant.tasks.preprocess import Augmentation, augment
from mutant.train import train

HERE = world()
DATA = stripes()
PARTS = HERE.root.parts
LENGTHS = range(len(PARTS) + 1)
NODE = 4096 + 16_384
"""Bytes of a node of the train split in the middle of the tiny network: 48 rows of 5 tokens of 16 floats."""


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("MUTANT_CACHE", str(tmp_path / "cache"))


def prefix(length):
    parts = PARTS[:length]
    return Prefix(tuple(part.spec for part in parts), tuple(part.digest for part in parts))


def truth(length, images):
    """What the prefix gives, without any cache."""
    if length == 0:
        return images
    below = prefix(length)
    return run_in_batches(below.chain, on_device([HERE.components[d].arrays for d in below.digests]), images)


TRUTH = {length: truth(length, DATA.train.images) for length in LENGTHS}
FLIPS = replace(
    DATA,
    augment=lambda augmentation, indices, seeds: np.stack(
        [augment(DATA.train.images[i], 16, augmentation, int(seed)) for i, seed in zip(indices, seeds, strict=True)]
    ),
)


@contextmanager
def caches(*limits: CacheLimits, home=None) -> Iterator[list[ActivationCache]]:
    made = [ActivationCache(one, home) for one in limits]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def test_a_node_has_the_size_that_these_tests_count_with():
    with caches(CacheLimits(1 << 20, 0)) as (cache,):
        cache.source(prefix(4), HERE.components, DATA.train).take(np.arange(3))
        assert cache.held == {"memory": NODE, "files": 0}


@settings(max_examples=40)
@given(
    budget=st.tuples(*[st.integers(0, 4).map(lambda nodes: nodes * NODE)] * 2),
    asked=st.lists(
        st.tuples(
            st.sampled_from(LENGTHS),
            st.lists(st.integers(0, len(DATA.train) - 1), min_size=1, max_size=60),
            st.lists(st.sampled_from(LENGTHS), max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_rows_are_the_same_bits_whatever_is_kept(budget, asked):
    with caches(CacheLimits(*budget)) as (cache,):
        for length, rows, others in asked:
            wanted = [prefix(other).digests for other in others]
            source = cache.source(prefix(length), HERE.components, DATA.train, wanted=wanted)
            taken = source.take(np.array(rows))
            assert taken.tobytes() == TRUTH[length][rows].tobytes()
            assert (source.shape, source.dtype, len(source)) == (taken.shape[1:], taken.dtype, len(DATA.train))
            held = cache.held
            assert held["memory"] <= budget[0]
            assert held["files"] <= budget[1]
            del source


def test_nothing_is_computed_twice_and_a_deeper_prefix_extends_a_shallower_one():
    everything = np.arange(len(DATA.train))
    with caches(CacheLimits(1 << 20, 0)) as (cache,):
        deep = cache.source(prefix(5), HERE.components, DATA.train, wanted=[prefix(4).digests])
        deep.take(everything[:20])
        assert cache.computed_rows == 2 * 20, "the wanted shallower one is kept on the way"
        deep.take(everything[:20])
        cache.source(prefix(4), HERE.components, DATA.train).take(everything[:20])
        assert cache.computed_rows == 2 * 20
        assert cache.reused_rows == 2 * 20
        cache.source(prefix(6), HERE.components, DATA.train).take(everything[:20])
        assert cache.computed_rows == 3 * 20


def test_what_a_process_has_open_is_never_given_up():
    with caches(CacheLimits(NODE, NODE)) as (cache,):
        open_ones = [cache.source(prefix(length), HERE.components, DATA.train) for length in (4, 5, 6)]
        for source, length in zip(open_ones, (4, 5, 6), strict=True):
            assert source.take(np.arange(48)).tobytes() == TRUTH[length].tobytes()
        assert cache.held == {"memory": NODE, "files": NODE}
        assert cache.evictions == 0
        computed = cache.computed_rows
        open_ones[0].take(np.arange(48))
        assert cache.computed_rows == computed


def test_memory_gives_up_to_files_and_files_to_nothing_the_least_valuable_first():
    with caches(CacheLimits(NODE, NODE)) as (cache,):
        for length in (4, 5, 6):
            cache.source(prefix(length), HERE.components, DATA.train).take(np.arange(48))
        assert cache.held == {"memory": NODE, "files": NODE}
        assert cache.evictions == 1
        computed = cache.computed_rows
        for length in (6, 4):
            cache.source(prefix(length), HERE.components, DATA.train).take(np.arange(48))
        assert cache.computed_rows == computed, "the dearest in memory, the one before it in files"
        cache.source(prefix(5), HERE.components, DATA.train).take(np.arange(48))
        assert cache.computed_rows == computed + 48, "one block above another that was held"


@given(
    entries=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), max_size=8),
    new=st.tuples(st.integers(1, 50), st.floats(0, 100)),
    budget=st.integers(0, 200),
    busy=st.sets(st.integers(0, 7)),
)
def test_who_has_to_go_is_worth_least_and_makes_enough_room(entries, new, budget, busy):
    tier = Tier(held={str(i): Entry(size, density, density) for i, (size, density) in enumerate(entries)})
    size, density = new
    victims = tier.room_for(size, density, budget, lambda name: int(name) not in busy)
    stay = {name: entry for name, entry in tier.held.items() if name not in (victims or ())}
    if victims is None:
        free = sum(e.n_bytes for n, e in tier.held.items() if int(n) not in busy and e.credit <= density)
        assert tier.n_bytes - free + size > budget
        return
    assert sum(entry.n_bytes for entry in stay.values()) + size <= budget
    assert all(int(name) not in busy for name in victims)
    for name in victims:
        credit = tier.held[name].credit
        assert credit <= density
        assert all(credit <= entry.credit for other, entry in stay.items() if int(other) not in busy)


def test_what_nobody_uses_ages():
    tier = Tier(held={"old": Entry(10, 5.0, 5.0)})
    rounds = 0
    while tier.room_for(10, 1.0, 10, lambda name: True) is None:
        rounds += 1
    assert 4 <= rounds <= 6
    assert tier.clock == 5.0


# Training


def children(views):
    training = Training(32, 2, 16, augmented_views=views)
    flip = SetHyperparameter("flip", True)
    for seed, edits in enumerate(([Clone("norm")], [Clone("norm"), flip], [Clone("block_02"), flip], [flip])):
        yield HERE.assignment(HERE.root, [*edits, NewHead(CLASSES)], seed=seed, training=training)


@pytest.mark.slow
@pytest.mark.parametrize("views", [0, 2])
def test_a_child_ends_with_the_same_bytes_with_and_without_the_cache(views):
    limits = (OFF, CacheLimits(1 << 24, 0), CacheLimits(NODE, 2 * NODE), CacheLimits(0, 1 << 24))
    with caches(*limits) as made:
        for work in children(views):
            outcomes = [train(work, FLIPS, cache) for cache in made]
            first = outcomes[0]
            assert isinstance(first, Trained), first
            for other in outcomes[1:]:
                assert isinstance(other, Trained)
                assert other.path == first.path
                assert other.components == first.components
                assert other.traces.keys() == first.traces.keys()
        assert made[0].held_bytes == 0
        assert made[1].reused_rows > 0


def test_views_are_fixed_by_the_data_and_shared_by_children():
    flips = Augmentation(flip=True, brightness_delta=0.3)
    one, again, other = (view(FLIPS, flips, number) for number in (0, 0, 1))
    rows = np.array([7, 3, 3])
    assert one.key == again.key != other.key
    assert one.key != view(FLIPS, replace(flips, brightness_delta=0.2), 0).key
    assert one.take(rows).tobytes() == again.take(rows).tobytes() == one.take(np.arange(48))[rows].tobytes()
    assert one.take(rows).tobytes() != other.take(rows).tobytes()
    edits = [Clone("norm"), SetHyperparameter("flip", True), NewHead(CLASSES)]
    with caches(CacheLimits(1 << 24, 0)) as (cache,):
        computed = []
        for seed in (1, 2):
            work = HERE.assignment(HERE.root, edits, seed=seed, training=Training(48, 2, 16, augmented_views=1))
            assert isinstance(train(work, FLIPS, cache), Trained)
            computed.append(cache.computed_rows)
        assert computed == [2 * 48 + 24] * 2, "images and activations of the view, activations of the validation"


@given(seed=st.integers(0, 2**63 - 1), visit=st.integers(0, 20), examples=st.integers(0, 200), views=st.integers(1, 9))
def test_the_views_of_a_visit_come_from_its_position(seed, visit, examples, views):
    shown = views_shown(seed, visit, examples, views)
    assert len(shown) == examples
    assert ((shown >= 0) & (shown < views)).all()
    assert (shown == views_shown(seed, visit, examples, views)).all()
    if examples > 100 and views > 1:
        assert (shown != views_shown(seed, visit + 1, examples, views)).any()


# Trouble


@pytest.mark.parametrize("most", [0, 4096, 10_000])
def test_a_full_disk_costs_time_and_no_bit(most):
    said = []
    cache = ActivationCache(CacheLimits(0, 1 << 24), told=said.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    source = None
    try:
        if most:
            source = cache.source(prefix(5), HERE.components, DATA.train)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))  # a write beyond it fails like one on a full disk
        source = source or cache.source(prefix(5), HERE.components, DATA.train)
        for rows in (np.arange(48), np.arange(48)[::-1]):
            assert source.take(rows).tobytes() == TRUTH[5][rows].tobytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        cache.close()
    assert len(said) == 1
    assert "Activations cannot all be kept (File too large)" in said[0]


def test_a_place_that_cannot_be_made_costs_time_and_no_bit(tmp_path):
    said = []
    (tmp_path / "file").write_text("")
    cache = ActivationCache(CacheLimits(1 << 20, 1 << 20), tmp_path / "file" / "home", told=said.append)
    source = cache.source(prefix(5), HERE.components, DATA.train)
    assert source.take(np.arange(48)).tobytes() == TRUTH[5].tobytes()
    assert len(said) == 1


def test_a_directory_that_vanishes_costs_time_and_no_bit(tmp_path):
    said = []
    home = tmp_path / "home"
    cache = ActivationCache(CacheLimits(0, 1 << 20), home, told=said.append)
    source = cache.source(prefix(4), HERE.components, DATA.train)
    source.take(np.arange(10))
    shutil.rmtree(home)
    assert source.take(np.arange(48)).tobytes() == TRUTH[4].tobytes()
    assert cache.source(prefix(5), HERE.components, DATA.train).take(np.arange(48)).tobytes() == TRUTH[5].tobytes()
    cache.close()
    assert source.take(np.arange(48)).tobytes() == TRUTH[4].tobytes()
    assert len(said) == 1


def test_a_cache_that_is_off_touches_nothing():
    with caches(OFF) as (cache,):
        source = cache.source(prefix(5), HERE.components, DATA.train)
        assert source.take(np.arange(48)).tobytes() == TRUTH[5].tobytes()
    assert not homes().exists()


# The directory


def test_the_directory_goes_with_its_last_user():
    home = home_of("run")
    limits = CacheLimits(1 << 20, 1 << 20)
    one, two = ActivationCache(limits, home), ActivationCache(limits, home)
    for cache in (one, two):
        cache.source(prefix(4), HERE.components, DATA.train).take(np.arange(48))
    assert two.computed_rows == 0
    assert two.reused_rows == 48
    one.close()
    assert home.is_dir()
    two.close()
    assert not home.exists()
    assert not memory_of(home).exists()
    assert list(homes().iterdir()) == []


def test_a_runs_directory_outlives_its_workers_and_leftovers_are_swept():
    left = home_of("killed")
    (left / "files").mkdir(parents=True)
    (left / "in-use").write_text("")
    used = home_of("used")
    descriptor = occupy(used)
    foreign = homes() / "run@another-host"
    foreign.mkdir()
    with run_home("run"):
        assert not left.exists()
        assert used.is_dir(), "somebody is there"
        assert foreign.is_dir(), "another host's"
        cache = ActivationCache(CacheLimits(1 << 20, 0), home_of("run"))
        cache.source(prefix(4), HERE.components, DATA.train).take(np.arange(48))
        cache.close()
        assert home_of("run").is_dir()
    assert not home_of("run").exists()
    os.close(descriptor)
    assert remove_unused(used)
    assert sweep() == 0


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="needs files in memory")
def test_memory_lies_in_memory():
    home = home_of("run")
    with caches(CacheLimits(1 << 20, 0), home=home) as (cache,):
        cache.source(prefix(4), HERE.components, DATA.train).take(np.arange(48))
        ledger = json.loads((home / "ledger.json").read_text())
        (name,) = ledger["memory"]["held"]
        assert (memory_of(home) / name).stat().st_size == NODE
