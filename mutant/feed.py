"""What a child's training reads: which examples, in which order, as activations at the top of its frozen prefix."""

from typing import Any

import numpy as np

from mutant.activations.cache import ActivationCache
from mutant.activations.shown import Shown
from mutant.assignment import Assignment
from mutant.dataset import Dataset
from mutant.position import derive
from mutant.schedule import learning_rates
from mutant.typed import jnp

Indices = np.ndarray[Any, np.dtype[np.int64]]


class Feed:
    """What each validation period trains on: activations at the cut, labels, row numbers by step, weights."""

    def __init__(self, assignment: Assignment, dataset: Dataset, cache: ActivationCache) -> None:
        training, plan = assignment.training, assignment.blueprint
        examples = min(training.examples_per_validation, len(dataset.train))
        self.batch = min(training.batch, len(dataset.train))
        self.steps = -(-examples // self.batch)
        self.examples = examples * training.validations
        rates = learning_rates(plan.hyperparameters, self.steps * training.validations, training.validations)
        self.rates = rates.reshape(training.validations, self.steps)
        self._stream = example_stream(
            derive(assignment.candidate.seed, "order"), len(dataset.train), examples, training.validations
        )
        self._labels = dataset.train.labels
        self._shown = Shown(assignment, dataset, cache)
        self.validation = self._shown.validation.take(np.arange(len(dataset.validation)))

    def visit(self, visit: int) -> tuple[Any, Any, Any, Any]:
        indices = self._stream[visit]
        missing = self.steps * self.batch - len(indices)
        weights = np.pad(np.ones(len(indices), np.float32), (0, missing)).reshape(self.steps, self.batch)
        source, rows = self._shown.visit(visit, indices)
        x, y = jnp.asarray(source.take(rows)), jnp.asarray(self._labels[indices])
        order = np.pad(np.arange(len(indices)), (0, missing)).astype(np.int32)
        return x, y, order.reshape(self.steps, self.batch), weights


def example_stream(seed: int, examples: int, rows: int, visits: int) -> list[Indices]:
    """Which examples are trained on before each of `visits` validations: slices of `rows` from shuffled epochs.

    >>> [sorted(part.tolist()) for part in example_stream(0, 4, 4, 2)]
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    epochs = -(-rows * visits // examples)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(examples) for _ in range(epochs)])
    return [order[i * rows : (i + 1) * rows] for i in range(visits)]
