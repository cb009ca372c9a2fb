"""Arrays of an .npz file with their sizes looked at first and no pickle."""

from __future__ import annotations

import zipfile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mutant.tasks.errors import UserError
from mutant.tasks.limits import Limits


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays in the archive, in order of the alphabet."""
    return sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def read_array(archive: zipfile.ZipFile, name: str, limits: Limits) -> NDArray[np.generic]:
    """One array. Raises UserError when it is damaged, needs pickle, or is larger than its limit."""
    try:
        with archive.open(name + ".npy") as entry:
            version = npy.read_magic(entry)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = header(entry)
            if dtype.hasobject:
                raise UserError(f"The array '{name}' holds Python objects, which are never unpickled.")
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            if size > limits.max_array_bytes:
                raise UserError(
                    f"The array '{name}' has {size:,} bytes, above the limit of {limits.max_array_bytes:,}."
                )
            data = bytearray(entry.read(size))
            if len(data) != size:
                raise UserError(f"The array '{name}' ends after {len(data):,} of {size:,} bytes.")
            return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    except UserError:
        raise
    except Exception as error:  # zlib.error, BadZipFile, ValueError, SyntaxError of the header, ...
        raise UserError(f"The array '{name}' cannot be read: {error}.") from error
