"""What evaluators draw on: components are read together, once, and what does not fit at hand is read again."""

import pytest
from storage_samples import new_store

from mutant.search.supply import StoreSupply
from mutant.tasks.errors import UserError


class Counted:
    """A store that remembers what it was asked for."""

    def __init__(self, store):
        self._store = store
        self.asked = []

    def components(self, digests):
        self.asked.append(list(digests))
        return self._store.components(digests)


@pytest.fixture
def store(tmp_path):
    with new_store(tmp_path) as store:
        yield store


def test_components_are_read_in_one_go_and_only_when_they_are_not_at_hand(store):
    counted = Counted(store)
    supply = StoreSupply(counted, {})  # pyright: ignore[reportArgumentType]
    first, *others = (part.digest for part in store.root().parts)
    assert supply.components([first]) == store.components([first])
    found = supply.components([*others, first])
    assert found == store.components([*others, first])
    assert list(found) == [*others, first]
    assert supply.components(frozenset(others)).keys() == set(others)
    assert counted.asked == [[first], others]


def test_components_that_do_not_fit_are_read_again(store):
    counted = Counted(store)
    digests = [part.digest for part in store.root().parts]
    supply = StoreSupply(counted, {}, budget_bytes=1)  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        assert supply.components(digests) == store.components(digests)
    assert counted.asked == [digests, digests[:-1]]


def test_a_component_that_is_not_stored_is_told(store):
    with pytest.raises(UserError, match="not in the database"):
        StoreSupply(store, {}).components(["f" * 64])
