"""Augmented images as rows that can be kept: a fixed number of views of each example, or fresh ones for one visit."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from mutant.dataset import Dataset, Images, Indices, Seeds, Split
from mutant.position import derive
from mutant.tasks.preprocess import Augmentation

OPERATIONS_PER_PIXEL = 1_000.0
"""What decoding and changing an image is taken to cost per pixel of the result, where it is weighed against FLOPs."""


@dataclass(frozen=True, eq=False)
class Augmented:
    """Examples `indices` of a train split, each augmented by its own seed; images are made when they are taken.

    `key` names the content for caches; an empty one is never kept.
    """

    key: str
    dataset: Dataset
    augmentation: Augmentation
    indices: Indices
    seeds: Seeds

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def size(self) -> int:
        return self.dataset.train.size

    @property
    def made_from(self) -> float:
        return OPERATIONS_PER_PIXEL * self.size**2

    def take(self, rows: Indices) -> Images:
        """Images uint8 [m, S, S, 3]."""
        if self.dataset.augment is None:
            raise ValueError("this task's source cannot be augmented")
        return self.dataset.augment(self.augmentation, self.indices[rows], self.seeds[rows])


def view(dataset: Dataset, augmentation: Augmentation, number: int) -> Augmented:
    """View `number` of every training example: it depends on the data, the augmentation and the number alone."""
    train, values = dataset.train, json.dumps(asdict(augmentation), sort_keys=True)
    seeds = [derive(train.key, values, "view", number, example) for example in range(len(train))]
    return Augmented(
        f"{train.key}/view {number} of {values}",
        dataset,
        augmentation,
        np.arange(len(train)),
        np.array(seeds, np.uint64),
    )


def fresh(dataset: Dataset, augmentation: Augmentation, indices: Indices, seed: int) -> Augmented:
    """Examples `indices` changed as nobody else will see them."""
    seeds = np.random.default_rng(seed).integers(0, 2**63, len(indices), dtype=np.uint64)
    return Augmented("", dataset, augmentation, indices, seeds)


def views_shown(seed: int, visit: int, examples: int, views: int) -> Indices:
    """Which of its views each of the `examples` of a visit shows, drawn by the candidate's `seed` and the visit.

    >>> views_shown(0, 0, 6, 1).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    return np.random.default_rng(derive(seed, "view", visit)).integers(0, views, examples)


Rows = Split | Augmented
"""Images by row, with the name of their content."""
