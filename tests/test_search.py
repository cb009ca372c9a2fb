"""Pure parts of the search: accounted parameters, scores, retention, parent sampling, planning."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutant.component import Spec
from mutant.hyperparameters import Hyperparameters
from mutant.path import Part, Path
from mutant.pool import Pool, accounted_parameters, shared_share
from mutant.search.config import Settings, run_config
from mutant.search.memory import succeeded
from mutant.search.population import Population
from mutant.search.sampling import Parents, acceptance, other_parents, sample_parent
from mutant.search.scoring import Scale, score

SPEC = Spec.of("made/up", features=1)
NO_PENALTY = Scale()


def part(digest: str, size: int = 10, task: str | None = None) -> Part:
    return Part(digest, SPEC, digest, size, task=task)


def path(
    name: str, *parts: Part, task: str | None = "a", parent: str = "root", quality: float = 0.5, flops: float = 0.0
):
    return Path(name, task, parent, parts, Hyperparameters(), quality=quality, flops=flops)


ROOT = replace(path("root", part("r1"), part("r2"), task=None), parent=None)

sizes = st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 1000), min_size=6, max_size=6)
pools = st.lists(st.tuples(st.sampled_from("abcd"), st.sets(st.sampled_from("uvwxyz"))), max_size=8)


@given(sizes, pools, st.sets(st.sampled_from("uvwxyz"), min_size=1), st.sampled_from("abcde"))
def test_accounted_parameters_equal_a_count_by_hand(sizes, pools, mine, task):
    paths = tuple(
        path(f"p{i}", *(part(d, sizes[d]) for d in sorted(used)), task=t) for i, (t, used) in enumerate(pools)
    )
    pool = Pool(ROOT, paths)
    expected = 0.0
    for digest in sorted(mine):
        tasks = {t for t, used in pools if digest in used} | {task}
        expected += sizes[digest] / len(tasks)
    found = accounted_parameters([part(d, sizes[d]) for d in sorted(mine)], task, pool)
    assert found == pytest.approx(expected)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sets(st.sampled_from("uvwxyz"), min_size=1)), max_size=8))
def test_users_of_components_are_carried_over_as_tasks_win(wins):
    """As if they were counted again, in whatever order tasks come and come back."""
    pool, best = Pool(ROOT), {}
    for number, (task, used) in enumerate(wins):
        best[task] = path(f"p{number}", *(part(digest) for digest in sorted(used)), task=task)
        pool = succeeded(pool, best[task], {name: place for place, name in enumerate("abcd")})
        again = Pool(ROOT, tuple(best[name] for name in sorted(best)))
        assert (pool.paths, pool.users, pool.version) == (again.paths, again.users, again.version)


@given(sizes, st.dictionaries(st.sampled_from("abcd"), st.sets(st.sampled_from("uvwxyz")), max_size=4))
def test_the_tasks_accounted_parameters_sum_to_the_pools(sizes, used):
    paths = tuple(
        path(task, *(part(d, sizes[d]) for d in sorted(digests)), task=task) for task, digests in used.items()
    )
    pool = Pool(ROOT, paths)
    total = sum(accounted_parameters(p.parts, p.task or "", pool) for p in paths)
    assert total == pytest.approx(sum(sizes[d] for d in set().union(*used.values())))


@given(st.floats(0, 1), st.floats(0, 1e9), st.floats(0, 1e12), st.floats(0.02, 1), st.floats(0.02, 1))
def test_a_score_discounts_and_never_rewards_size(quality, accounted, flops, factor, compute):
    scale = Scale(factor, 1e8, compute, 1e11)
    found = score(quality, accounted, flops, scale=scale)
    assert 0 <= found <= quality
    assert found == pytest.approx(quality * factor ** (accounted / 1e8) * compute ** (flops / 1e11))
    assert score(quality, 2 * accounted, flops, scale=scale) <= found
    assert score(quality, accounted, flops, scale=NO_PENALTY) == quality


def retained(children, pool, scale):
    settings = replace(run_config(Settings(), ("a",), reference_parameters=1, reference_flops=1), scale=scale)
    return Population.of("a", pool, settings).joined(children).own[len(pool.of_task("a")) :]


def best_path(paths, scale):
    return Parents.of(Pool(ROOT, paths), "a", scale).best


def test_retention_compares_with_the_same_task_parent_and_always_takes_cross_task_children():
    parent = path("parent", part("x"), quality=0.6)
    other = path("other", part("y"), task="b", quality=0.9)
    pool = Pool(ROOT, (other, parent))
    better, equal, worse = (
        path(name, part("z"), parent="parent", quality=q)
        for name, q in (("better", 0.7), ("equal", 0.6), ("worse", 0.5))
    )
    from_root = path("from-root", part("z"), parent="root", quality=0.1)
    from_other = path("from-other", part("z"), parent="other", quality=0.1)
    children = [worse, better, from_root, equal, from_other]
    assert [p.id for p in retained(children, pool, NO_PENALTY)] == ["better", "from-root", "equal", "from-other"]


def test_a_penalty_turns_retention_around():
    parent = path("parent", part("small", 1), quality=0.6)
    child = path("child", part("big", 100), parent="parent", quality=0.65)
    pool = Pool(ROOT, (parent,))
    assert retained([child], pool, NO_PENALTY)
    assert not retained([child], pool, Scale(0.5, 100))


def test_the_best_path_wins_by_score_then_by_size_then_by_age():
    first = path("first", part("x", 10), quality=0.6)
    small = path("small", part("y", 5), quality=0.6)
    later = path("later", part("z", 5), quality=0.6)
    good = path("good", part("w", 500), quality=0.8)
    pool = Pool(ROOT, (first, small, later, good))
    assert best_path(pool.paths, NO_PENALTY) == good
    assert best_path((first, small, later), NO_PENALTY) == small
    assert best_path((), NO_PENALTY) is None


@pytest.mark.parametrize("given_children", [0, 1, 2, 3])
def test_parents_are_accepted_with_probability_one_half_to_the_children_they_gave(given_children):
    own = path("own", part("x"), quality=0.9)
    pool = Pool(ROOT, (own,))
    counts = {"own": given_children, "root": 60}
    drawn = Counter(
        sample_parent(pool, "a", counts, NO_PENALTY, np.random.default_rng(seed)).id for seed in range(4_000)
    )
    p = acceptance(given_children)
    expected = p + (1 - p) * 0.5
    assert drawn["own"] / 4_000 == pytest.approx(expected, abs=0.03)


def test_own_paths_are_asked_best_first_then_the_others_in_any_order():
    paths = (
        path("b", part("1"), task="b"),
        path("c", part("2"), task="c"),
        path("low", part("3"), quality=0.2),
        path("high", part("4"), quality=0.8),
    )
    pool = Pool(ROOT, paths)

    def drawn(counts):
        return Counter(sample_parent(pool, "a", counts, NO_PENALTY, np.random.default_rng(s)).id for s in range(900))

    assert drawn({}) == {"high": 900}
    assert drawn({"high": 1})["low"] == pytest.approx(450, abs=60)
    tired = {"high": 60, "low": 60}
    others = drawn(tired)
    assert set(others) == {"b", "c", "root"}
    assert all(count == pytest.approx(300, abs=60) for count in others.values())
    everyone = drawn({**tired, "b": 60, "c": 60, "root": 60})
    assert all(everyone[p] == pytest.approx(180, abs=50) for p in ("b", "c", "root", "low", "high"))
    assert [p.id for p in other_parents(pool, "a")] == ["c", "b", "root"]


def test_without_cross_task_parents_only_own_paths_and_the_root_are_asked():
    pool = Pool(ROOT, (path("b", part("1"), task="b"),))
    drawn = {sample_parent(pool, "a", {}, NO_PENALTY, np.random.default_rng(s), cross_task=False).id for s in range(50)}
    assert drawn == {"root"}


def test_the_shared_share_is_what_the_task_did_not_train():
    mixed = path("p", part("x", 30, None), part("y", 50, "b"), part("z", 20, "a"))
    assert shared_share(mixed) == pytest.approx(0.8)
