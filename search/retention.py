"""Retention: which children join the population (arXiv 2205.10937, section 3)."""

from collections.abc import Iterable, Mapping

from mutant.path import Path

Scored = tuple[float, Path]


def retained(children: Iterable[Scored], parents: Mapping[str, float]) -> tuple[Scored, ...]:
    """Those of the trained `children` that join: score >= their same-task parent's.

    `parents` has the scores of the task's own paths by id. A parent of another task counts as minus infinity, so that a
    task's first children always join. Each is compared with its own parent alone, so their order does not matter.
    """
    return tuple((s, path) for s, path in children if s >= parents.get(path.parent or "", float("-inf")))
