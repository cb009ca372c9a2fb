"""Small image sets for the tests of tasks: every picture is decided by its numbers alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(number: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number, size)).save(buffer, "PNG")
    return buffer.getvalue()


def class_files(
    count: int, *, split: str = "", first: int = 0, classes: tuple[str, ...] = ("cat", "dog")
) -> dict[str, bytes]:
    """`count` pictures for each class, all different."""
    prefix = f"{split}/" if split else ""
    return {
        f"{prefix}{label}/{index}.png": png(first + index + 10_000 * place)
        for place, label in enumerate(classes)
        for index in range(count)
    }


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
