"""IDX files, the format of MNIST: a magic number that gives type and rank, big-endian sizes, then the values."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.errors import UserError
from mutant.tasks.limits import Limits
from mutant.tasks.slicing import SYNONYMS, canonical

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = re.compile(r"(?P<prefix>.*?)[-_.]?images[-_.]idx3[-_.]ubyte(?P<gz>\.gz)?", re.IGNORECASE)

Array = NDArray[np.generic]


def read_idx(path: Path, limits: Limits) -> Array:
    """The array in an IDX file, plain or .gz; raises UserError when it is damaged or above its limit."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not 1 <= head[3] <= 4:
                raise UserError(f"'{path.name}' is no IDX file.", hint="arrays: reads .npz and IDX files.")
            shape = tuple(int(n) for n in np.frombuffer(file.read(4 * head[3]), dtype=">u4"))
            dtype = np.dtype(_DTYPES[head[2]])
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            if len(shape) != head[3] or size > limits.max_array_bytes:
                raise UserError(f"'{path.name}' has {size:,} bytes, above the limit of {limits.max_array_bytes:,}.")
            data = file.read(size)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"'{path.name}' cannot be read: {error}.") from error
    if len(data) != size:
        raise UserError(f"'{path.name}' ends after {len(data):,} of {size:,} bytes.")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def idx_pair(path: Path) -> tuple[Path, Path]:
    """The images file `path` and the labels file beside it; raises UserError when one is not there."""
    found = _IMAGES.fullmatch(path.name)
    if found is None:
        raise UserError(
            f"'{path.name}' is neither an .npz file nor an IDX file of images.",
            hint="Give a file called like train-images-idx3-ubyte.gz, or a directory of such files.",
        )
    labels = re.sub("images", "labels", path.name, flags=re.IGNORECASE)
    labels = re.sub("idx3", "idx1", labels, flags=re.IGNORECASE)
    for candidate in (labels, labels.removesuffix(".gz"), labels + ".gz"):
        if (path.parent / candidate).is_file():
            return path, path.parent / candidate
    raise UserError(f"The labels of '{path.name}' are not beside it.", hint=f"Expected '{labels}'.")


def read_idx_directory(directory: Path, limits: Limits) -> dict[str, tuple[Array, Array]]:
    """Images and labels by split, of every pair in the directory."""
    files: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        found = _IMAGES.fullmatch(path.name)
        split = _split(found["prefix"]) if found is not None else None
        if split is None:
            continue
        if split in files and files[split].name.removesuffix(".gz") != path.name.removesuffix(".gz"):
            raise UserError(
                f"'{directory}' has more than one data set: '{files[split].name}' and '{path.name}'.",
                hint="Name one file: arrays:" + str(path),
            )
        files.setdefault(split, path)
    if not files:
        raise UserError(
            f"'{directory}' has no IDX files.", hint="For images in class directories, use folder:" + str(directory)
        )
    pairs = {split: idx_pair(path) for split, path in files.items()}
    return {split: (read_idx(images, limits), read_idx(labels, limits)) for split, (images, labels) in pairs.items()}


def _split(prefix: str) -> str | None:
    word = re.split(r"[-_.]", prefix)[-1].casefold()
    return "test" if word == "t10k" else canonical(word) if word in SYNONYMS else None
