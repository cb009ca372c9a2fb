"""Which frozen prefixes a generation shares: what is worth keeping on the way from the images to any of them."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from mutant.search.evaluator import Work

Digests = tuple[str, ...]


def sharing(work: Iterable[Work]) -> tuple[Work, ...]:
    """The same work, each item told which prefixes are wanted of its data by all of them."""
    work = tuple(work)
    wanted = {
        data: worth_keeping(item.prefix for item in work if item.dataset == data)
        for data in {item.dataset for item in work}
    }
    return tuple(replace(item, wanted=wanted[item.dataset]) for item in work)


def worth_keeping(prefixes: Iterable[Digests]) -> tuple[Digests, ...]:
    """Every prefix, and where two of them part: there their common work ends.

    >>> worth_keeping([("a", "b", "c"), ("a", "b", "d"), ("a",)])
    (('a',), ('a', 'b'), ('a', 'b', 'c'), ('a', 'b', 'd'))
    """
    found = sorted({*prefixes})
    return tuple(sorted({one for one in (*found, *(_common(*pair) for pair in pairwise(found))) if one}))


def _common(one: Digests, other: Digests) -> Digests:
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:same]
