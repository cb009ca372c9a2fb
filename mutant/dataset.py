"""What a child is trained and validated on: prepared images of one task at one size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutant.hyperparameters import Hyperparameters
from mutant.tasks.preprocess import Augmentation

Images = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int32]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Seeds = np.ndarray[Any, np.dtype[np.uint64]]
Augment = Callable[[Augmentation, Indices, Seeds], Images]
"""(augmentation, example indices [m], their seeds [m]) to images uint8 [m, S, S, 3], each changed by its own seed."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, S, S, 3] with labels int32 [n]; `key` names the content for caches."""

    key: str
    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Width and height of the images."""
        return self.images.shape[1]

    @property
    def made_from(self) -> float:
        """Operations that it takes to make an image again; none, since they are at hand."""
        return 0.0

    def take(self, rows: Indices) -> Images:
        """A copy of the images at `rows`: uint8 [m, S, S, 3]."""
        return self.images[rows]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train and validation splits at one image size. The test split never comes here."""

    train: Split
    validation: Split
    classes: int
    augment: Augment | None = None

    @property
    def n_bytes(self) -> int:
        return self.train.images.nbytes + self.validation.images.nbytes


def augmentation(hyperparameters: Hyperparameters) -> Augmentation:
    """The augmentation that a path's data hyperparameters ask for."""
    return Augmentation(
        crop_area_min=hyperparameters.crop_area_min,
        crop_aspect_min=hyperparameters.crop_aspect_min,
        flip=hyperparameters.flip,
        brightness_delta=hyperparameters.brightness_delta,
        contrast_delta=hyperparameters.contrast_delta,
        saturation_delta=hyperparameters.saturation_delta,
        hue_delta=hyperparameters.hue_delta,
        jpeg_quality_delta=hyperparameters.jpeg_quality_delta,
    )
