"""Choosing a parent (arXiv 2205.12755, section 3.1)."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.scoring import Scale, score_of


@dataclass(frozen=True)
class Parents:
    """The paths that a task's next child may descend from, in the order in which they are asked.

    `ranked` are the task's own, the highest score first and among equals the earlier; `minus` are their scores with the
    other sign; `others` are the other tasks' best paths, newest first, then the root.
    """

    root: Path
    others: Sequence[Path]
    ranked: tuple[Path, ...] = ()
    minus: tuple[float, ...] = ()

    @staticmethod
    def of(pool: Pool, task: str, scale: Scale, *, cross_task: bool = True) -> "Parents":
        """Those of a snapshot. `cross_task=False` leaves the other tasks out (the root stays), an ablation."""
        others = other_parents(pool, task) if cross_task else (pool.root,)
        scored = sorted(((-score_of(path, pool, scale), path) for path in pool.of_task(task)), key=lambda one: one[0])
        return Parents(pool.root, others, tuple(path for _, path in scored), tuple(minus for minus, _ in scored))

    def joined(self, scored: Iterable[tuple[float, Path]]) -> "Parents":
        """These and newer own paths with their scores."""
        ranked, minus = list(self.ranked), list(self.minus)
        for score, path in scored:
            place = bisect_right(minus, -score)
            ranked.insert(place, path)
            minus.insert(place, -score)
        return replace(self, ranked=tuple(ranked), minus=tuple(minus))

    @property
    def best(self) -> Path | None:
        """The own path of the highest score; among equals the one with fewer parameters, then the earlier one."""
        top = self.ranked[: bisect_right(self.minus, self.minus[0])] if self.minus else ()
        return min(top, key=lambda path: path.n_parameters, default=None)

    def sample(self, children: Mapping[str, int], rng: np.random.Generator) -> Path:
        """The next child's parent; `children` counts what each path gave in this segment, by its id.

        Own paths by descending score, each accepted with probability 0.5 ** (children it already gave); none accepted:
        the others in shuffled order, by the same rule; none accepted: uniformly any of them.
        """
        order = rng.permutation(len(self.others))
        for path in chain(self.ranked, (self.others[int(i)] for i in order)):
            if rng.random() < acceptance(children.get(path.id, 0)):
                return path
        drawn = int(rng.integers(len(self.ranked) + len(order)))
        return self.ranked[drawn] if drawn < len(self.ranked) else self.others[int(order[drawn - len(self.ranked)])]


def sample_parent(
    pool: Pool,
    task: str,
    children: Mapping[str, int],
    scale: Scale,
    rng: np.random.Generator,
    *,
    cross_task: bool = True,
) -> Path:
    """The parent of the next child for `task`, drawn from a snapshot as `Parents.sample` does."""
    return Parents.of(pool, task, scale, cross_task=cross_task).sample(children, rng)


def acceptance(children: int) -> float:
    """
    >>> [acceptance(n) for n in range(3)]
    [1.0, 0.5, 0.25]
    """
    return 0.5**children


def other_parents(pool: Pool, task: str) -> Sequence[Path]:
    """The other tasks' best paths, newest first, then the root."""
    return (*(path for path in reversed(pool.paths) if path.task != task), pool.root)
