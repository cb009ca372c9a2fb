"""What a child's training reads: which examples, in which order, as activations at the top of its frozen prefix."""

from typing import Any

import numpy as np

from mutant.assignment import Assignment
from mutant.dataset import Dataset, Split, augmentation
from mutant.position import derive
from mutant.prefix import Activations, Prefix, PrefixCache
from mutant.schedule import learning_rates
from mutant.typed import jnp

Indices = np.ndarray[Any, np.dtype[np.int64]]


class Feed:
    """What each validation period trains on: activations at the cut, labels, row numbers by step, weights."""

    def __init__(self, assignment: Assignment, dataset: Dataset, cache: PrefixCache, prefix: Prefix) -> None:
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
        self._assignment, self._dataset, self._prefix, self._cache = assignment, dataset, prefix, cache
        self._augmentation = augmentation(plan.hyperparameters)
        self._cached: tuple[Any, Any] | None = None
        self.validation = self._activations(dataset.validation)

    def visit(self, visit: int) -> tuple[Any, Any, Any, Any]:
        indices = self._stream[visit]
        missing = self.steps * self.batch - len(indices)
        weights = np.pad(np.ones(len(indices), np.float32), (0, missing)).reshape(self.steps, self.batch)
        if self._augmentation.active:
            x, y, rows = *self._augmented(visit, indices), np.arange(len(indices))
        else:
            if self._cached is None:
                train = self._dataset.train
                self._cached = jnp.asarray(self._activations(train)), jnp.asarray(train.labels)
            (x, y), rows = self._cached, indices
        return x, y, np.pad(rows, (0, missing)).astype(np.int32).reshape(self.steps, self.batch), weights

    def _activations(self, split: Split) -> Activations:
        return self._cache.activations(self._prefix, self._assignment.components, split)

    def _augmented(self, visit: int, indices: Any) -> tuple[Any, Any]:
        if self._dataset.augment is None:
            raise ValueError("this task's source cannot be augmented")
        seed = derive(self._assignment.candidate.seed, "augmentation", visit)
        images = self._dataset.augment(self._augmentation, indices, seed)
        once = Split("", images, self._dataset.train.labels[indices])
        values = PrefixCache(0).activations(self._prefix, self._assignment.components, once)
        return jnp.asarray(values), jnp.asarray(once.labels)


def example_stream(seed: int, examples: int, rows: int, visits: int) -> list[Indices]:
    """Which examples are trained on before each of `visits` validations: slices of `rows` from shuffled epochs.

    >>> [sorted(part.tolist()) for part in example_stream(0, 4, 4, 2)]
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    epochs = -(-rows * visits // examples)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(examples) for _ in range(epochs)])
    return [order[i * rows : (i + 1) * rows] for i in range(visits)]
