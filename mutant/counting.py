"""How often each part of a child runs, and so what its training is counted with; needs the FLOPs of parts, not JAX."""

from collections.abc import Sequence

from mutant.assignment import Training

STEP = 3
"""Forwards that a training step is counted as: one forward, and a backward of twice its FLOPs."""


def trained_flops(flops: Sequence[float], cut: int, *, examples: int, validation_examples: int) -> float:
    """Counted FLOPs of training the parts from `cut` on; `flops` is each part's forward pass for one image.

    >>> trained_flops([5.0, 2.0, 1.0], 1, examples=10, validation_examples=4)
    102.0
    """
    return sum(flops[cut:]) * (STEP * examples + validation_examples)


def examples_of(training: Training, n_train: int) -> int:
    """Examples that a child of all its validations is trained on, from a train split of `n_train`."""
    return min(training.examples_per_validation, n_train) * training.validations
