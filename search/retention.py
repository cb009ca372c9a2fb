"""Retention: which children join the population, and which path of a task stays (arXiv 2205.10937, section 3)."""

from collections.abc import Sequence

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.scoring import Scale, score_of


def retained(children: Sequence[Path], pool: Pool, scale: Scale) -> tuple[Path, ...]:
    """The children of one generation that join the pool: score >= their same-task parent's.

    Cross-task parents count as minus infinity, so a task's first children always join. `pool` is the snapshot that the
    children were drawn against; each child is scored against that snapshot, so their order does not matter.
    """
    parents = {path.id: path for path in pool.paths}

    def joins(child: Path) -> bool:
        parent = parents.get(child.parent or "")
        if parent is None or parent.task != child.task:
            return True
        return score_of(child, pool, scale) >= score_of(parent, pool, scale)

    return tuple(child for child in children if joins(child))


def best_path(paths: Sequence[Path], pool: Pool, scale: Scale) -> Path | None:
    """The path of the highest score; among equals the one with fewer parameters, then the earlier one."""
    ranked = sorted(enumerate(paths), key=lambda item: (-score_of(item[1], pool, scale), item[1].n_parameters, item[0]))
    return ranked[0][1] if ranked else None
