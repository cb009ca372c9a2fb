"""Which rows of which source a child is shown at each visit: the images, their fixed views, or fresh augmentations."""

import numpy as np

from mutant.activations.cache import ActivationCache
from mutant.activations.node import Indices
from mutant.activations.source import Source, Stack
from mutant.activations.views import Rows, fresh, view, views_shown
from mutant.assignment import Assignment
from mutant.dataset import Dataset, augmentation
from mutant.position import derive
from mutant.prefix import Prefix


class Shown:
    """The sources of one child's training and validation, at the top of its frozen prefix."""

    def __init__(self, assignment: Assignment, dataset: Dataset, cache: ActivationCache) -> None:
        self._assignment, self._dataset, self._cache = assignment, dataset, cache
        self._prefix = Prefix.of(assignment.blueprint)
        self._augmentation = augmentation(assignment.blueprint.hyperparameters)
        self._views = assignment.training.augmented_views if self._augmentation.active else 0
        self.validation = self._source(dataset.validation)
        self.train: Source | None = None
        """What every visit's rows are of; None where each visit is augmented anew."""
        if not self._augmentation.active:
            self.train = self._source(dataset.train)
        elif self._views:
            views = [view(dataset, self._augmentation, number) for number in range(self._views)]
            self.train = Stack([self._source(one) for one in views])

    def visit(self, visit: int, indices: Indices) -> tuple[Source, Indices]:
        """A source and its rows for training examples `indices` [m] at a visit, in that order."""
        seed = self._assignment.candidate.seed
        if self.train is None:
            once = fresh(self._dataset, self._augmentation, indices, derive(seed, "augmentation", visit))
            return self._source(once), np.arange(len(indices))
        if not self._views:
            return self.train, indices
        shown = views_shown(seed, visit, len(indices), self._views)
        return self.train, shown * len(self._dataset.train) + indices

    def fill(self, most: int) -> int:
        """Compute up to `most` rows that are not kept yet, for whoever needs them next; how many there were."""
        computed = self.validation.fill(most)
        return computed or (self.train.fill(most) if self.train is not None else 0)

    def _source(self, rows: Rows) -> Source:
        given = self._assignment
        return self._cache.source(self._prefix, given.components, rows, wanted=given.wanted)
