"""Tensors of the Open Inference Protocol v2, as JSON and in its binary extension."""

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mutant.serving.refusals import Refused

Array = np.ndarray[Any, Any]
HEADER_LENGTH = "inference-header-content-length"


class RequestInput(BaseModel):
    """A tensor that is given: its data here, or in the body after the JSON, `binary_data_size` bytes of it."""

    model_config = ConfigDict(extra="forbid")
    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestOutput(BaseModel):
    """A tensor that is asked for."""

    model_config = ConfigDict(extra="forbid")
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """A request for inference."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[RequestInput]
    outputs: list[RequestOutput] = []


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of an answer: numbers, or strings (BYTES)."""

    name: str
    datatype: str
    values: Array

    def as_json(self) -> dict[str, Any]:
        """With its data as a flat list."""
        return {**self._head(), "data": self.values.reshape(-1).tolist()}

    def as_binary(self) -> tuple[dict[str, Any], bytes]:
        """Its JSON without data, and its bytes: little endian, strings after their length in four bytes."""
        if self.datatype == "BYTES":
            words = [str(value).encode() for value in self.values.reshape(-1)]
            raw = b"".join(struct.pack("<I", len(word)) + word for word in words)
        else:
            raw = np.ascontiguousarray(self.values).astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()
        return {**self._head(), "parameters": {"binary_data_size": len(raw)}}, raw

    def _head(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.values.shape)}


def split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and the binary data behind it."""
    if header_length is None:
        return body, b""
    if not header_length.isdigit() or int(header_length) > len(body):
        raise Refused(422, f"Inference-Header-Content-Length cannot be '{header_length[:20]}'.")
    return body[: int(header_length)], body[int(header_length) :]


def images(given: Sequence[RequestInput], binary: bytes) -> list[bytes | Array]:
    """The images of a request's one input: pixels UINT8 [n, h, w, 3], or encoded images BYTES [n] (base64 in JSON)."""
    if len(given) != 1 or given[0].name != "images":
        raise Refused(422, f"Expected one input 'images', got {[one.name[:40] for one in given[:4]]}.")
    (tensor,) = given
    raw = _binary(tensor, binary)
    if tensor.datatype == "UINT8":
        return list(_pixels(tensor, raw))
    if tensor.datatype == "BYTES":
        return list(_encoded(tensor, raw))
    raise Refused(422, f"Input 'images' is UINT8 [n, h, w, 3] or BYTES [n], not '{tensor.datatype[:20]}'.")


def _binary(tensor: RequestInput, binary: bytes) -> bytes | None:
    """The input's bytes, or None when its data are in the JSON."""
    size = tensor.parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise Refused(422, "An input has either data or binary_data_size.")
    if size is not None and size != len(binary):
        raise Refused(422, f"binary_data_size is {str(size)[:20]}, and {len(binary)} bytes follow the JSON.")
    if size is None and binary:
        raise Refused(422, f"{len(binary)} bytes follow the JSON, and no input has them.")
    return None if size is None else binary


def _pixels(tensor: RequestInput, raw: bytes | None) -> Array:
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise Refused(422, f"Pixels have the shape [n, h, w, 3], not {list(shape)}.")
    values = np.frombuffer(raw, np.uint8) if raw is not None else _integers(tensor.data or [])
    if values.size != math.prod(shape):
        raise Refused(422, f"Shape {list(shape)} has {math.prod(shape):,} values, and {values.size:,} were sent.")
    return values.reshape(shape)


def _integers(data: list[Any]) -> Array:
    """Integers 0 to 255 out of a list, nested or flat."""
    try:
        values = np.array(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Refused(422, "The data are no even list of numbers.") from error
    if values.dtype.kind not in "iu" or (values.size and (values.min() < 0 or values.max() > 255)):
        raise Refused(422, "Pixels are whole numbers from 0 to 255.")
    return values.astype(np.uint8).reshape(-1)


def _encoded(tensor: RequestInput, raw: bytes | None) -> list[bytes]:
    found = _strings(raw) if raw is not None else [_from_base64(item) for item in tensor.data or []]
    if tensor.shape != [len(found)]:
        raise Refused(422, f"Shape {tensor.shape} is not that of {len(found)} encoded images: [{len(found)}].")
    return found


def _strings(raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    place = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        if place + 4 + length > len(raw):
            raise Refused(422, "The binary data end within a string.")
        found.append(raw[place + 4 : place + 4 + length])
        place += 4 + length
    return found


def _from_base64(item: Any) -> bytes:
    if not isinstance(item, str):
        raise Refused(422, "Encoded images are strings in base64.")
    try:
        return base64.b64decode(item, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "An encoded image is not valid base64.") from error


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean parameter; raises Refused for another type."""
    value = cast("object", parameters.get(name, default))
    if not isinstance(value, bool):
        raise Refused(422, f"Parameter '{name}' is true or false, not {str(value)[:20]!r}.")
    return value
