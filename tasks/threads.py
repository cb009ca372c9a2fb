"""A function of every index by several threads: decoding, resizing and hashing release the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
CHUNK = 32


def workers() -> int:
    """Threads to use: the cores that this process may run on, at most 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def map_indices(function: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """`function` of every index, in order; the first error is raised."""
    chunks = [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]
    if workers() == 1 or len(chunks) < 2:
        yield from map(function, indices)
        return

    def each(chunk: Sequence[int]) -> list[T]:
        return [function(index) for index in chunk]

    with ThreadPoolExecutor(workers()) as pool:
        for results in pool.map(each, chunks):
            yield from results
