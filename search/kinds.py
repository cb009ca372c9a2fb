"""Workers of several kinds: what a child costs on each, and who gets which. Only time depends on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mutant.outcome import Cost

ALIKE = 1.25
"""Kinds whose rates differ by less are treated as one: children go to them in the order of the shared prefixes."""


@dataclass(frozen=True)
class Rates:
    """Counted FLOPs per second of each kind of worker: measured on this run's children, else `assumed`, else `default`.

    >>> rates = Rates(1e9, {"a": 4e9}).after("b", Cost(seconds=2.0, flops=6e9))
    >>> rates.of("a"), rates.of("b"), rates.of("c")
    (4000000000.0, 3000000000.0, 1000000000.0)
    """

    default: float
    assumed: Mapping[str, float] = field(default_factory=dict[str, float])
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def of(self, kind: str) -> float:
        flops, seconds = self.measured.get(kind, (0.0, 0.0))
        return flops / seconds if flops > 0 and seconds > 0 else self.assumed.get(kind, self.default)

    def assuming(self, kind: str, rate: float) -> "Rates":
        """With a rate for a kind of which no child was measured yet."""
        return replace(self, assumed={**self.assumed, kind: rate})

    def after(self, kind: str, cost: Cost) -> "Rates":
        """With a child that a worker of this kind has trained."""
        flops, seconds = self.measured.get(kind, (0.0, 0.0))
        return replace(self, measured={**self.measured, kind: (flops + cost.flops, seconds + cost.seconds)})


def deal(costs: Sequence[float], idle: Mapping[int, float], crew: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Who gets which child next: (place among the waiting, worker), each at most once.

    `costs` are predicted FLOPs of the waiting children in the order in which they would like to be trained, `idle` the
    rates of the workers without a child, `crew` those of all. When all are about alike, the order stays. Else the
    fastest ones come first and take the most expensive children; slower ones take the cheapest.

    >>> deal([1.0, 9.0, 5.0], {0: 10.0, 1: 100.0}, [10.0, 100.0])
    ((1, 1), (0, 0))
    >>> deal([1.0, 9.0, 5.0], {0: 10.0, 1: 11.0}, [10.0, 11.0])
    ((0, 0), (1, 1))
    """
    if not idle or max(crew) < ALIKE * min(crew):
        return tuple(zip(range(len(costs)), idle, strict=False))
    left = list(range(len(costs)))
    dealt: list[tuple[int, int]] = []
    for worker in sorted(idle, key=lambda worker: -idle[worker]):
        if not left:
            break
        fast = idle[worker] * ALIKE > max(crew)
        place = max(left, key=lambda at: (costs[at], -at)) if fast else min(left, key=lambda at: (costs[at], at))
        left.remove(place)
        dealt.append((place, worker))
    return tuple(dealt)
