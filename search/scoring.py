"""Scale control: quality discounted by size and compute (arXiv 2205.10937, section 3.3; 2209.07326)."""

from dataclasses import dataclass

from mutant.path import Path
from mutant.pool import Pool, accounted_parameters


@dataclass(frozen=True)
class Scale:
    """How size and compute discount quality; a factor of 1 means no penalty.

    `reference_parameters` and `reference_flops` are what costs one whole factor: here the root's own.
    """

    factor: float = 1.0
    reference_parameters: float = 1.0
    compute_factor: float = 1.0
    reference_flops: float = 1.0


def score(quality: float, accounted: float, flops: float, *, scale: Scale) -> float:
    """q * s ** (accounted / P_ref) * s_c ** (flops / F_ref).

    >>> score(0.9, 0, 0, scale=Scale(factor=0.5, reference_parameters=10))
    0.9
    >>> score(0.8, 10, 3, scale=Scale(0.5, 10, 1.0, 1))
    0.4
    """
    size, compute = factors(accounted, flops, scale)
    return quality * size * compute


def factors(accounted: float, flops: float, scale: Scale) -> tuple[float, float]:
    """The discounts of a score, each in 0 to 1: for size, for compute."""
    size = scale.factor ** (accounted / scale.reference_parameters)
    return size, scale.compute_factor ** (flops / scale.reference_flops)


def score_of(path: Path, pool: Pool, scale: Scale) -> float:
    """A path's score against a pool; never stored, since accounted parameters change as the pool grows."""
    return score(path.quality, accounted_parameters(path.parts, path.task or "", pool), path.flops, scale=scale)
