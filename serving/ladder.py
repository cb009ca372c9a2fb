"""Batch shapes of serving: a few fixed numbers of rows, so that every program is compiled once, and its bits known."""

from functools import lru_cache

CALL = 2.0
"""What a call costs beside its rows, in rows: efficientnet-lite0 at 64 px takes 2 + n milliseconds for n rows."""


def rungs(most: int) -> tuple[int, ...]:
    """The batch shapes up to `most` rows, rising: powers of four, and `most` itself.

    Twice as many shapes would take twice as long to compile and save a tenth of the time.

    >>> rungs(16), rungs(24)
    ((1, 4, 16), (1, 4, 16, 24))
    """
    powers = tuple(4**power for power in range(most.bit_length()) if 4**power < most)
    return (*powers, most)


@lru_cache(maxsize=4096)
def pieces(rows: int, ladder: tuple[int, ...]) -> tuple[int, ...]:
    """The shapes that `rows` rows are computed in, the largest first: those that cost least, by `CALL`.

    They hold at least `rows` rows; only the last one is padded.

    >>> pieces(16, (1, 4, 16)), pieces(9, (1, 4, 16)), pieces(14, (1, 4, 16))
    ((16,), (4, 4, 1), (16,))
    """
    largest, fewer = ladder[-1], rows
    whole: tuple[int, ...] = ()
    if rows > 2 * largest:
        whole, fewer = (largest,) * (rows // largest - 1), rows - (rows // largest - 1) * largest
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, fewer + 1):
        costs = ((rung + CALL + best[max(0, n - rung)][0], rung, best[max(0, n - rung)][1]) for rung in ladder)
        cost, rung, rest = min(costs, key=lambda option: option[0])
        best.append((cost, (*rest, rung)))
    return (*whole, *sorted(best[fewer][1], reverse=True))
