"""Which reader a file needs, told by its content."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mutant.tasks.errors import UserError

FORMATS = ("safetensors", "npz", "torch", "onnx")

Arrays = Mapping[str, np.ndarray[Any, Any]]


def detect_format(path: Path) -> str:
    """One of `FORMATS`; `UserError` for a file that is none of them, is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"Cannot read the weights file {path}: {error.strerror or error}.") from error
    if path.suffix == ".onnx":
        return "onnx"
    if start.startswith(b"PK\x03\x04"):
        return "npz" if _holds_npy(path) else "torch"
    if start.startswith(b"\x80"):
        return "torch"
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
    raise UserError(f"{path.name} is no weights file that can be read.", hint=f"Formats: {', '.join(FORMATS)}.")


def _holds_npy(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UserError(f"{path.name} is a damaged zip archive: {error}.") from error


def read_checkpoint(path: Path) -> Arrays:
    """All arrays of a weights file by name; half precision comes as float32, and no code of the file's is run.

    Raises `UserError` for anything that is damaged, hostile or of another format.
    """
    match detect_format(path):
        case "safetensors":
            from mutant.checkpoints.safetensors_file import read_safetensors

            return read_safetensors(path)
        case "npz":
            from mutant.checkpoints.npz_file import read_npz

            return read_npz(path)
        case "torch":
            from mutant.checkpoints.torch_file import read_torch

            return read_torch(path)
        case _:
            from mutant.checkpoints.onnx_file import read_onnx

            return read_onnx(path)
