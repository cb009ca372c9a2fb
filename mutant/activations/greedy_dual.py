"""Which activations stay when not all fit: GreedyDual-Size (Cao & Irani, Cost-aware WWW proxy caching, 1997).

Each entry has a credit: the clock at its last use, plus what it costs to make again per byte. The least credit goes
first and the clock moves on to it, so that what nobody uses ages, and what is dear or small stays longer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """Something held: its size, its cost (FLOPs) per byte, and its credit."""

    n_bytes: int
    density: float
    credit: float


@dataclass
class Tier:
    """What is held in one place, in order of name, and the place's clock."""

    clock: float = 0.0
    held: dict[str, Entry] = field(default_factory=dict[str, Entry])

    @property
    def n_bytes(self) -> int:
        return sum(entry.n_bytes for entry in self.held.values())

    def use(self, name: str, density: float | None = None) -> None:
        """Give the entry its full credit again, at another density where its cost has changed."""
        entry = self.held[name]
        self.put(name, entry.n_bytes, entry.density if density is None else density)

    def put(self, name: str, n_bytes: int, density: float) -> None:
        self.held[name] = Entry(n_bytes, density, self.clock + density)

    def room_for(
        self, n_bytes: int, density: float, budget: int, free: Callable[[str], bool]
    ) -> tuple[str, ...] | None:
        """Whom to evict so that a newcomer fits into `budget` bytes; None when it is worth less, or cannot fit.

        `free` says whether an entry may go. The clock moves to the greatest credit that is given up.

        >>> tier = Tier(held={"dear": Entry(10, 5.0, 5.0), "cheap": Entry(10, 1.0, 1.0)})
        >>> tier.room_for(10, 3.0, 20, lambda name: True), tier.clock
        (('cheap',), 1.0)
        >>> Tier(held={"dear": Entry(20, 5.0, 5.0)}).room_for(10, 3.0, 20, lambda name: True) is None
        True
        """
        missing = self.n_bytes + n_bytes - budget
        if n_bytes > budget:
            return None
        credit, victims = self.clock + density, list[str]()
        for name in self._cheapest_first(free) if missing > 0 else ():
            if self.held[name].credit > credit:
                self.clock = credit
                return None
            victims.append(name)
            missing -= self.held[name].n_bytes
            if missing <= 0:
                break
        if missing > 0:
            return None
        if victims:
            self.clock = self.held[victims[-1]].credit
        return tuple(victims)

    def _cheapest_first(self, free: Callable[[str], bool]) -> Iterator[str]:
        by_credit = sorted(self.held, key=lambda name: (self.held[name].credit, name))
        return (name for name in by_credit if free(name))
