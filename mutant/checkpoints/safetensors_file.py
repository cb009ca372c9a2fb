"""safetensors: a JSON header and raw bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from mutant.tasks.errors import UserError


def read_safetensors(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """All arrays of a .safetensors file; bfloat16 and float16 as float32."""
    try:
        opened: Any = safe_open(path, framework="numpy")
        with opened as file:
            arrays: dict[str, np.ndarray[Any, Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # the library raises its own and many of Python's types
        raise UserError(f"{path.name} is not a sound safetensors file: {error}.") from error
    return {n: a.astype(np.float32) if a.dtype.name in ("bfloat16", "float16") else a for n, a in arrays.items()}
