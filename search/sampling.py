"""Choosing a parent (arXiv 2205.12755, section 3.1)."""

from collections.abc import Mapping, Sequence

import numpy as np

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.scoring import Scale, score_of


def sample_parent(
    pool: Pool,
    task: str,
    children: Mapping[str, int],
    scale: Scale,
    rng: np.random.Generator,
    *,
    cross_task: bool = True,
) -> Path:
    """The parent of the next child for `task`.

    Own-task paths by descending score, each accepted with probability 0.5 ** (children it already gave in this
    segment); none accepted: the other tasks' best paths and the root in shuffled order, by the same rule; none
    accepted: uniformly any of them. `children` counts by path id. `cross_task=False` leaves the other tasks out
    (the root stays), an ablation.
    """
    own = sorted(pool.of_task(task), key=lambda path: -score_of(path, pool, scale))
    others = other_parents(pool, task) if cross_task else (pool.root,)
    order: list[int] = rng.permutation(len(others)).tolist()
    candidates = [*own, *(others[i] for i in order)]
    for path in candidates:
        if rng.random() < acceptance(children.get(path.id, 0)):
            return path
    return candidates[int(rng.integers(len(candidates)))]


def acceptance(children: int) -> float:
    """
    >>> [acceptance(n) for n in range(3)]
    [1.0, 0.5, 0.25]
    """
    return 0.5**children


def other_parents(pool: Pool, task: str) -> Sequence[Path]:
    """The other tasks' best paths, newest first, then the root."""
    return (*(path for path in reversed(pool.paths) if path.task != task), pool.root)
