"""NumPy .npz archives, without pickled objects and without trusting a header's shape."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mutant.checkpoints.archive import open_archive
from mutant.tasks.errors import UserError


def read_npz(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """All arrays of a .npz file. Arrays of Python objects are refused."""
    with open_archive(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name.removesuffix(".npy"): _read_member(archive, name) for name in members}


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    data = archive.read(name)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "fiub":
        raise UserError(f"Array {name!r} is of type {dtype}: only numbers are read.")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise UserError(f"Array {name!r} claims the shape {shape}, which is not what the file holds.")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
