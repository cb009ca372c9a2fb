"""What a generation shares: the order of its children, and the prefixes that are kept on the way."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, stripes, world

from mutant.activations.limits import OFF, CacheLimits
from mutant.assignment import Training
from mutant.mutation import Clone, NewHead, SetHyperparameter
from mutant.outcome import Trained
from mutant.search.evaluator import InProcessEvaluator, Work, trie_order
from mutant.search.sharing import sharing, worth_keeping

HERE = world()
DATA = stripes()
prefixes = st.lists(st.lists(st.sampled_from("abc"), max_size=5).map(tuple), max_size=8)


class Shelf:
    def components(self, digests):
        return {digest: HERE.components[digest] for digest in digests}

    def trace(self, digest):
        return {}

    def dataset(self, task, image_size):
        return DATA


def works(*slots, training=Training(16, 1, 16)):
    edits = [[Clone(slot)] if slot else [] for slot in slots]
    made = [
        HERE.assignment(HERE.root, [*edit, NewHead(CLASSES)], seed=seed, training=training)
        for seed, edit in enumerate(edits)
    ]
    return [Work(one.candidate, one.blueprint, one.training) for one in made]


@given(prefixes)
def test_what_is_worth_keeping_is_every_prefix_and_where_two_of_them_part(found):
    kept = set(worth_keeping(found))
    assert kept >= {one for one in found if one}
    for one in found:
        for other in found:
            common = 0
            while common < min(len(one), len(other)) and one[common] == other[common]:
                common += 1
            assert common == 0 or one[:common] in kept
    assert all(any(one[: len(place)] == place for one in found) for place in kept)
    assert len(kept) <= 2 * len(set(found))


def test_the_shallow_prefix_comes_first_and_the_same_data_stays_together():
    work = works("", "block_01", "norm", "block_00")
    larger = [SetHyperparameter("image_size", 24), NewHead(CLASSES)]
    other = HERE.assignment(HERE.root, larger, training=Training(16, 1, 16))
    order = trie_order([work[0], Work(other.candidate, other.blueprint, other.training), *work[1:]])
    assert order == (4, 2, 3, 0, 1)


@pytest.mark.slow
def test_outcomes_keep_their_index_and_do_not_depend_on_the_order_or_the_cache():
    work = sharing(works("", "block_01", "norm", "block_00", "", training=Training(48, 3, 16)))
    heard = []
    evaluators = [InProcessEvaluator(limits) for limits in (OFF, CacheLimits(1 << 24, 0), CacheLimits(20_480, 20_480))]
    results = [
        dict(evaluator.train(items, Shelf(), lambda index, *_: heard.append(index)))
        for evaluator, items in zip(evaluators, (work, work, work[::-1]), strict=True)
    ]
    for index, item in enumerate(work):
        outcomes = [results[0][index], results[1][index], results[2][len(work) - 1 - index]]
        paths = [outcome.path for outcome in outcomes if isinstance(outcome, Trained)]
        assert len(paths) == 3
        assert paths[0].id == item.candidate.id
        assert paths[0] == paths[1] == paths[2]
    assert heard[:5] == [3, 1, 2, 0, 4]
    kept = evaluators[1].cache
    rows = len(DATA.train) + len(DATA.validation)
    assert kept.computed_rows <= 4 * rows, "each wanted prefix once, extended from the one below it"
    assert evaluators[0].cache.computed_rows > 2 * kept.computed_rows
    for evaluator in evaluators:
        evaluator.close()


def test_only_children_of_the_same_data_want_the_same_prefixes():
    first, second = works("norm", "block_01")
    elsewhere = replace(second, candidate=replace(second.candidate, task="other"))
    for item in sharing([first, elsewhere]):
        assert item.wanted == (item.prefix,)
