"""Which split and class an image belongs to, by its directories alone: `{split}/{class}/image` or `{class}/image`."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.errors import UserError, printable
from mutant.tasks.images import EXTENSIONS
from mutant.tasks.raw import index_labels
from mutant.tasks.slicing import SYNONYMS, canonical


@dataclass(frozen=True, eq=False)
class Layout:
    """Image paths and labels by split, the class names, and notes on what was left out."""

    paths: dict[str, list[str]]
    labels: dict[str, NDArray[np.int32]]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def lay_out(paths: Sequence[str], where: str) -> Layout:
    """The layout of the relative paths (with `/`) of all files in `where`; their order does not matter.

    Within a split the images come shuffled, always in the same way, so that slices are fair samples.

    Raises UserError when there is no image, or images lie outside class directories.
    """
    images = sorted(path for path in paths if _is_image(path))
    if not images:
        others = f" among its {len(paths):,} files" if paths else ""
        raise UserError(
            f"There is no image in '{where}'{others}.", hint="Expected {class}/image or {split}/{class}/image."
        )
    split_names = _split_names(images)
    depth = _wrapped(images) if not split_names else 0
    if depth:
        split_names = _split_names([path.split("/", depth)[depth] for path in images])
    by_split: defaultdict[str, list[str]] = defaultdict(list)
    classes: defaultdict[str, list[str]] = defaultdict(list)
    misplaced: list[str] = []
    for path in images:
        parts = path.split("/")[depth:]
        split = split_names.get(parts[0]) if split_names else "train"
        inside = parts[1:] if split_names else parts
        if split is None or len(inside) < 2:
            misplaced.append(path)
        else:
            by_split[split].append(path)
            classes[split].append(printable(unicodedata.normalize("NFC", inside[0])))
    if not by_split:
        raise UserError(
            f"The images in '{where}' are not in class directories, for example '{printable(misplaced[0])}'.",
            hint="Expected {class}/image or {split}/{class}/image; a .csv file can name classes too.",
        )
    splits = sorted(by_split)
    for split in splits:
        order = sorted(range(len(by_split[split])), key=lambda i, paths=by_split[split]: _place(paths[i]))
        by_split[split] = [by_split[split][i] for i in order]
        classes[split] = [classes[split][i] for i in order]
    class_names, labels = index_labels([classes[split] for split in splits])
    return Layout(
        {split: by_split[split] for split in splits},
        dict(zip(splits, labels, strict=True)),
        class_names,
        _notes(paths, images, misplaced),
    )


def _place(path: str) -> str:
    """Shuffles by name: a directory has no order of its own, and a slice of the sorted one would be whole classes."""
    return hashlib.sha256("/".join(path.split("/")[-2:]).encode(errors="surrogateescape")).hexdigest()


def _is_image(path: str) -> bool:
    parts = path.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in EXTENSIONS


def _split_names(images: Sequence[str]) -> dict[str, str]:
    """Top directories that are splits, when all are or one is a train split, with class directories; else nothing.

    A directory `train` with images straight in it is a class (of vehicles, say), not a split.
    """
    deep = Counter(path.split("/")[0] for path in images if path.count("/") >= 2)
    found = {directory: canonical(directory) for directory in deep if directory.casefold() in SYNONYMS}
    flat = {path.split("/")[0] for path in images if path.count("/") == 1}
    if not found or ("train" not in found.values() and set(deep) | flat != set(found)):
        return {}
    if any(split == "train" and directory in flat for directory, split in found.items()):
        return {}
    names = Counter(found.values())
    twice = [split for split, count in names.items() if count > 1]
    if twice:
        both = sorted(directory for directory, split in found.items() if split == twice[0])
        raise UserError(f"The directories {' and '.join(both)} both mean the {twice[0]} split.", hint="Keep one.")
    return found | {directory: directory for directory in deep if directory not in found}


def _wrapped(images: Sequence[str]) -> int:
    """How many single directories enclose all the splits or classes."""
    depth = 0
    parts = [path.split("/") for path in images]
    while len({p[depth] for p in parts}) == 1 and all(len(p) > depth + 2 for p in parts):
        depth += 1
    return depth


def _notes(paths: Sequence[str], images: Sequence[str], misplaced: Sequence[str]) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if len(paths) > len(images):
        notes += (f"not images, ignored: {len(paths) - len(images):,} of {len(paths):,} files",)
    if misplaced:
        notes += (f"outside class directories, ignored: '{printable(misplaced[0])}'{_more(len(misplaced) - 1)}",)
    return notes


def _more(count: int) -> str:
    return f" and {count:,} more" if count else ""
