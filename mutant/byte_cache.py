"""A cache bounded in bytes: what was used least recently goes first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteCache(Generic[Key, Value]):
    """Values by key, `size` of each in bytes. The newest value always stays, however big it is.

    >>> cache = ByteCache(10, len)
    >>> [cache.get(word, lambda: word) for word in ("first", "second", "first")]
    ['first', 'second', 'first']
    >>> "second" in cache, cache.held_bytes
    (False, 5)
    """

    def __init__(self, budget_bytes: int, size: Callable[[Value], int]) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._size = size
        self._held: OrderedDict[Key, Value] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def at_hand(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """The values that are held of `keys`, which count as used."""
        found = {key: self._held[key] for key in keys if key in self._held}
        for key in found:
            self._held.move_to_end(key)
        return found

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made when it is not at hand."""
        if key not in self._held:
            self.put(key, make())
        self._held.move_to_end(key)
        return self._held[key]

    def put(self, key: Key, value: Value) -> None:
        self._held[key] = value
        self.held_bytes += self._size(value)
        while self.held_bytes > self.budget_bytes and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self.held_bytes -= self._size(dropped)
