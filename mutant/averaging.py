"""The average of a child's best validations: a greedy soup of its own snapshots (arXiv 2203.05482, recipe 1)."""

from collections.abc import Callable, Sequence

import numpy as np

from mutant.state import Numbers

Snapshot = Sequence[Numbers]
"""The arrays of a child's parts, bottom first, at one of its validations."""


def greedy(
    validations: Sequence[float], snapshots: Sequence[Snapshot], accuracy: Callable[[Snapshot], float]
) -> tuple[float, Snapshot]:
    """The accuracy and arrays of the average of the best snapshots, which is never below the best one's.

    Beginning with the best, each snapshot is taken in, in the order of its accuracy, if the average with it is no worse
    than without; `accuracy` tells that of an average, and is asked once for each snapshot but the best.
    """
    first, *others = sorted(range(len(snapshots)), key=lambda index: (-validations[index], index))
    taken, reached = [snapshots[first]], validations[first]
    average = snapshots[first]
    for index in others:
        wider = averaged([*taken, snapshots[index]])
        found = accuracy(wider)
        if found >= reached:
            taken, reached, average = [*taken, snapshots[index]], found, wider
    return reached, average


def averaged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The mean of equally shaped snapshots, summed in float64, so that what is equal in all of them stays as it is."""
    return [
        {name: np.mean([each[name] for each in parts], axis=0, dtype=np.float64).astype(parts[0][name].dtype)
         for name in parts[0]}
        for parts in zip(*snapshots, strict=True)
    ]  # fmt: skip
