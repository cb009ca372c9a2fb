"""`arrays:FILE.npz`, and IDX files (the format of MNIST), plain or .gz.

An .npz holds `{split}_images` and `{split}_labels` (also `x_train`, `y_train`; `images`, `labels` alone are train), or
the keys that `?images=KEY&labels=KEY` names; class names come from the key `class_names` or `?class_names=KEY`.
`arrays:DIR` takes every pair `PREFIX-images-idx3-ubyte[.gz]`, `PREFIX-labels-idx1-ubyte[.gz]` whose prefix ends with a
split's name (`t10k` is test); `arrays:PREFIX-images-idx3-ubyte.gz` takes that one pair, as train.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import ArrayContent, open_zip
from mutant.tasks.errors import UserError, printable, unknown
from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawSplit, RawTask, index_labels
from mutant.tasks.slicing import SYNONYMS, canonical
from mutant.tasks.sources.folder import existing
from mutant.tasks.sources.idx import idx_pair, read_idx, read_idx_directory
from mutant.tasks.sources.npz import array_names, read_array
from mutant.tasks.uri import TaskURI

Array = NDArray[np.generic]


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The splits of an .npz file, of an IDX file or of a directory of IDX files; nothing is ever unpickled."""
    path = existing(Path(uri.target))
    if path.is_dir():
        return _raw_task(path, read_idx_directory(path, limits), None)
    if path.suffix == ".npz":
        return _read_npz(uri, path, limits)
    images, labels = idx_pair(path)
    return _raw_task(path, {"train": (read_idx(images, limits), read_idx(labels, limits))}, None)


def _read_npz(uri: TaskURI, path: Path, limits: Limits) -> RawTask:
    with open_zip(path) as archive:
        names = array_names(archive)
        pairs = _pairs(uri, names, path)
        named = uri.option("class_names")
        if named is not None and named not in names:
            raise unknown(f"array in '{path.name}'", named, names)
        class_key = named or ("class_names" if "class_names" in names else None)
        class_names = read_array(archive, class_key, limits) if class_key else None
        arrays = {
            split: (read_array(archive, images, limits), read_array(archive, labels, limits))
            for split, (images, labels) in pairs.items()
        }
    return _raw_task(path, arrays, class_names)


def _pairs(uri: TaskURI, names: list[str], path: Path) -> dict[str, tuple[str, str]]:
    """The names of images and labels by split."""
    images, labels = uri.option("images"), uri.option("labels")
    if images is not None or labels is not None:
        if images is None or labels is None:
            raise UserError("Both arrays must be named.", hint="Write ?images=KEY&labels=KEY")
        for name in (images, labels):
            if name not in names:
                raise unknown(f"array in '{path.name}'", name, names)
        return {"train": (images, labels)}
    pairs: dict[str, tuple[str, str]] = {}
    for word in SYNONYMS:
        for pair in ((f"{word}_images", f"{word}_labels"), (f"x_{word}", f"y_{word}")):
            if set(pair) <= set(names):
                if canonical(word) in pairs:
                    raise UserError(f"'{path.name}' has more than one pair of arrays for {canonical(word)}.")
                pairs[canonical(word)] = pair
    if not pairs and {"images", "labels"} <= set(names):
        return {"train": ("images", "labels")}
    if not pairs:
        raise UserError(
            f"'{path.name}' has no arrays train_images and train_labels; it has {', '.join(names) or 'none'}.",
            hint="Name them with ?images=KEY&labels=KEY",
        )
    return pairs


def _raw_task(path: Path, arrays: Mapping[str, tuple[Array, Array]], class_names: Array | None) -> RawTask:
    labels = {split: _labels(pair[1], f"{path.name}, labels of {split}") for split, pair in arrays.items()}
    if class_names is not None:
        labels = {split: _named(found, class_names) for split, found in labels.items()}
    names, indexed = index_labels(list(labels.values()))
    if class_names is not None:
        names, indexed = _in_given_order(names, indexed, [printable(str(name)) for name in class_names.ravel()])
    splits = tuple(
        RawSplit(split, ArrayContent(as_pixels(pair[0], f"{path.name}, images of {split}")), found)
        for (split, pair), found in zip(arrays.items(), indexed, strict=True)
    )
    return RawTask(splits, names)


def as_pixels(images: Array, what: str) -> NDArray[np.uint8]:
    """uint8 [n, h, w] or [n, h, w, c] of images in any of the usual number ranges; raises UserError.

    Whole numbers are pixels 0 to 255, or 16-bit when one is above; floats are [0, 1], or 0 to 255 when one is above 1.
    [n, c, h, w] with c of 1, 3 or 4 is turned when its last axis cannot be the channels.
    """
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)) or 0 in images.shape[1:]:
        raise UserError(f"{what}: expected [n, h, w] or [n, h, w, 1 | 3 | 4], got {list(images.shape)}.")
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iuf":
        raise UserError(f"{what}: expected numbers, got {images.dtype}.")
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    top = 1.0 if images.dtype.kind == "f" and high <= 1.0 else 255.0 if high <= 255.0 else 65535.0
    if not (low >= 0.0 and high <= top) or (images.dtype.kind == "f" and top == 65535.0):
        raise UserError(
            f"{what}: values from {low:g} to {high:g} are no pixels.", hint="Use uint8, or floats in [0, 1]."
        )
    return np.rint(images.astype(np.float32) * np.float32(255.0 / top)).astype(np.uint8)


def _labels(labels: Array, what: str) -> list[str]:
    """Labels [n], [n, 1] or one-hot [n, k], of whole numbers or text, as text."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "iufb" and _one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        raise UserError(f"{what}: expected one label for each image, got {list(labels.shape)}.")
    if labels.dtype.kind == "f" and bool((labels == np.floor(labels.astype(np.float64))).all()):
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "S":
        return [printable(bytes(label).decode("utf-8", "replace")) for label in labels]
    if labels.dtype.kind not in "iubU":
        raise UserError(f"{what}: expected whole numbers or text, got {labels.dtype}.")
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    return [printable(str(label)) for label in labels]


def _one_hot(labels: Array) -> bool:
    ones = labels == labels.dtype.type(1)
    return bool((ones.sum(axis=1) == 1).all() and (ones | (labels == labels.dtype.type(0))).all())


def _named(labels: list[str], class_names: Array) -> list[str]:
    """Labels that are indices, as the names they index; labels that are names already stay."""
    names = [printable(str(name)) for name in class_names.ravel()]
    if set(labels) <= set(names):
        return labels
    strange = sorted({label for label in labels if not (label.isdigit() and int(label) < len(names))})
    if strange:
        raise UserError(f"The label '{strange[0]}' is no index into the {len(names):,} class names.")
    return [names[int(label)] for label in labels]


def _in_given_order(
    names: tuple[str, ...], indexed: list[NDArray[np.int32]], given: list[str]
) -> tuple[tuple[str, ...], list[NDArray[np.int32]]]:
    """The class names in the order of the file instead of their own."""
    order = tuple(sorted(names, key=given.index))
    place = np.array([order.index(name) for name in names], dtype=np.int32)
    return order, [place[labels] for labels in indexed]
