"""PyTorch checkpoints without PyTorch: the tensors of a state dict, from the old stream or the zip format.

The old stream is a magic number, a protocol number, system information, the object, the list of storage keys and the
raw storages; the zip archive holds `data.pkl` and `data/KEY`. All numbers are little-endian.
"""

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mutant.checkpoints.archive import open_archive
from mutant.checkpoints.tensor_stream import StorageRef, TensorRef, read_object
from mutant.tasks.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_DTYPES: Mapping[str, str] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_torch(path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """The tensors of a state dict (or of its `state_dict` or `model` entry) by name; half precision as float32.

    Nothing but tensors, dictionaries, lists, numbers and text is read; any other object in the file is an error.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_stream(io.BytesIO(path.read_bytes()))
    except UserError as error:
        raise UserError(f"Cannot read {path.name}: {error.message}", hint=error.hint) from error


def _read_stream(stream: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    if read_object(stream) != MAGIC or read_object(stream) != PROTOCOL:
        raise UserError("it is no torch checkpoint (wrong magic number).")
    system = read_object(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:  # pyright: ignore[reportUnknownMemberType]
        raise UserError("it was written by a machine of another byte order.")
    tensors = _tensors(read_object(stream))
    wanted = {ref.storage.key: ref.storage for ref in tensors.values()}
    keys = read_object(stream)
    if not isinstance(keys, list):
        raise UserError("its list of storages is missing.")
    data: dict[str, bytes] = {}
    for key in keys:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str) or key not in wanted:
            raise UserError("it holds a storage that belongs to no tensor.")
        count = int.from_bytes(_exactly(stream, 8), "little")
        data[key] = _exactly(stream, count * np.dtype(_DTYPES[wanted[key].kind]).itemsize)
    return _materialise(tensors, data.get)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(min(count, 2**40))
    if len(data) != count:
        raise UserError(f"it ends early: {count:,} bytes expected, {len(data):,} there.")
    return data


def _read_zip(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with open_archive(path) as archive:
        members = set(archive.namelist())
        index = next((name for name in sorted(members) if name.endswith("data.pkl")), None)
        if index is None:
            raise UserError("the archive has no data.pkl.")
        prefix = index.removesuffix("data.pkl")
        if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") != b"little":
            raise UserError("it was written by a machine of another byte order.")
        tensors = _tensors(read_object(io.BytesIO(archive.read(index))))

        def data(key: str) -> bytes | None:
            name = f"{prefix}data/{key}"
            return archive.read(name) if name in members else None

        return _materialise(tensors, data)


def _tensors(value: object) -> dict[str, TensorRef]:
    """The named tensors of a state dict; entries that are no tensors (counters, settings) are left out."""
    for entry in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(entry), dict):  # pyright: ignore[reportUnknownMemberType]
            value = value[entry]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        raise UserError("it holds no state dict.")
    items: dict[object, object] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    return {name: ref for name, ref in items.items() if isinstance(name, str) and isinstance(ref, TensorRef)}


def _materialise(
    tensors: Mapping[str, TensorRef], data: Callable[[str], bytes | None]
) -> dict[str, np.ndarray[Any, Any]]:
    """Views of the storages, each storage read once."""
    storages: dict[str, np.ndarray[Any, Any]] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, ref in tensors.items():
        key = ref.storage.key
        if key not in storages:
            storages[key] = _values(ref.storage, data(key))
        arrays[name] = _view(name, ref, storages[key])
    return arrays


def _values(storage: StorageRef, data: bytes | None) -> np.ndarray[Any, Any]:
    dtype = np.dtype(_DTYPES[storage.kind])
    if data is None or len(data) != storage.count * dtype.itemsize:
        raise UserError(f"storage {storage.key[:40]!r} is missing or not of the stated size.")
    values = np.frombuffer(data, dtype)
    if storage.kind == "BFloat16Storage":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if storage.kind == "HalfStorage" else values


def _view(name: str, ref: TensorRef, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    size = math.prod(ref.shape)
    last = ref.offset + sum((n - 1) * stride for n, stride in zip(ref.shape, ref.strides, strict=True))
    if size > values.size or (size and last >= values.size):
        raise UserError(f"tensor {name[:80]!r} claims more values than its storage has.")
    if size == 0:
        return np.zeros(ref.shape, values.dtype)
    strides = tuple(stride * values.itemsize for stride in ref.strides)
    return np.lib.stride_tricks.as_strided(values[ref.offset :], ref.shape, strides, writeable=False)
