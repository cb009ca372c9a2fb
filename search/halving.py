"""Early stopping of hopeless children: successive halving over validations, without waiting (arXiv 1810.05934).

A rung is a number of validations: 1, eta, eta^2, ... below the last. A child goes on above a rung when its best
accuracy so far is in the top 1/eta of what children had there. The paper compares with whoever has arrived; here it is
with the segment's earlier generations alone, so that nothing depends on the order of arrival, on the number of workers
or on where the run was interrupted. Without generations it is with the outcomes that were known when it was drawn.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

Bounds = tuple[float | None, ...]
"""By validation: the accuracy that a child must have reached to be trained further; None: it is trained on anyway."""


class Validated(Protocol):
    """An outcome: the accuracies (0 to 1) of its validations in order, none for a child that failed."""

    @property
    def validations(self) -> Sequence[float]: ...


def rungs(eta: int, validations: int) -> Iterator[int]:
    """
    >>> list(rungs(2, 8)), list(rungs(3, 30)), list(rungs(2, 1))
    ([1, 2, 4], [1, 3, 9, 27], [])
    """
    rung = 1
    while rung < validations:
        yield rung
        rung *= eta


def stop_below(earlier: Sequence[Validated], eta: int | None, validations: int) -> Bounds:
    """The bounds for the children of a generation, or one child, from all `earlier` outcomes of its segment.

    Nothing stops in the first generation, without halving (eta None), or at a rung that fewer than eta of them reached.
    """
    if eta is None:
        return ()
    bounds: list[float | None] = [None] * validations
    for rung in rungs(eta, validations):
        reached = [max(record.validations[:rung]) for record in earlier if len(record.validations) >= rung]
        top = len(reached) // eta
        if top:
            bounds[rung - 1] = sorted(reached, reverse=True)[top - 1]
    return tuple(bounds) if any(bound is not None for bound in bounds) else ()
