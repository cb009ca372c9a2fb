"""Tensors of the Open Inference Protocol v2, as JSON and in its binary extension."""

import base64
import binascii
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mutant.serving.refusals import Refused, too_many

Array = np.ndarray[Any, Any]
HEADER = "Inference-Header-Content-Length"
Extent = Annotated[int, Field(ge=0, le=2**31 - 1)]
_LENGTH = re.compile(r"[0-9]{1,10}")
_PART = 2**16


class RequestInput(BaseModel):
    """A tensor that is given: its data here, or in the body after the JSON, `binary_data_size` bytes of it."""

    model_config = ConfigDict(extra="forbid")
    name: str
    shape: list[Extent] = Field(max_length=8)
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


def read(body: bytes, header_length: str | None, most: int) -> tuple[InferRequest, list[bytes | Array]]:
    """A request of at most `most` images, as a body of HTTP has it, and its images. Raises Refused (413, 422)."""
    head, binary = split(body, header_length)
    try:
        asked = InferRequest.model_validate_json(head)
    except ValidationError as error:
        raise misread(error) from error
    return asked, images(asked.inputs, binary, most)


def misread(error: ValidationError) -> Refused:
    """What is wrong with a request, and where in it."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))[:100] or "the request"
    return Refused(422, f"{place}: {first['msg'][:200]}.")


def split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and the binary data behind it."""
    if header_length is None:
        return body, b""
    if _LENGTH.fullmatch(header_length) is None or int(header_length) > len(body):
        raise Refused(422, f"{HEADER} cannot be {header_length[:20]!a}.")
    return body[: int(header_length)], body[int(header_length) :]


def images(given: Sequence[RequestInput], binary: bytes, most: int) -> list[bytes | Array]:
    """The images of a request's one input: pixels UINT8 [n, h, w, 3], or encoded images BYTES [n] (base64 in JSON).

    Raises Refused: 413 for more than `most`, before any is looked at, and 422 for what are no such tensors.
    """
    if len(given) != 1 or given[0].name != "images":
        raise Refused(422, f"Expected one input 'images', got {[one.name[:40] for one in given[:4]]}.")
    (tensor,) = given
    raw = _binary(tensor, binary)
    if tensor.shape and tensor.shape[0] > most:
        raise too_many(tensor.shape[0], most)
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
        raise Refused(422, f"binary_data_size is {shown(size)}, and {len(binary)} bytes follow the JSON.")
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
    """Integers 0 to 255 out of a list, nested or flat. Their types are looked at first: NumPy takes any."""
    values = data
    while values and isinstance(values[0], list):
        length = len(cast("list[Any]", values[0]))
        if not all(isinstance(one, list) and len(cast("list[Any]", one)) == length for one in values):
            raise Refused(422, "The data are no even list of numbers.")
        values = list(chain.from_iterable(values))
    return np.frombuffer(b"".join(map(_octets, _parts(values))), np.uint8)


def _octets(values: list[Any]) -> bytes:
    try:
        if set(map(type, values)) <= {int}:
            return bytes(values)
    except ValueError:
        pass
    raise Refused(422, "Pixels are whole numbers from 0 to 255.")


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    """A list in parts, between which other threads have their turn."""
    return (values[start : start + _PART] for start in range(0, len(values), _PART))


def _encoded(tensor: RequestInput, raw: bytes | None) -> list[bytes]:
    if len(tensor.shape) != 1:
        raise Refused(422, f"Encoded images have the shape [n], not {tensor.shape}.")
    (count,) = tensor.shape
    given = tensor.data or []
    if raw is None and len(given) != count:
        raise Refused(422, f"Shape {tensor.shape} is not that of {len(given):,} encoded images.")
    return _strings(raw, count) if raw is not None else [_from_base64(item) for item in given]


def _strings(raw: bytes, count: int) -> list[bytes]:
    """`count` strings, each behind its length in four bytes."""
    found: list[bytes] = []
    place = 0
    while place < len(raw) and len(found) < count:
        length = int.from_bytes(raw[place : place + 4], "little")
        if place + 4 + length > len(raw):
            raise Refused(422, "The binary data end within a string.")
        found.append(raw[place + 4 : place + 4 + length])
        place += 4 + length
    if len(found) < count or place < len(raw):
        raise Refused(422, f"The binary data are not those of {count:,} strings.")
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
        raise Refused(422, f"Parameter '{name}' is true or false, not {shown(value)}.")
    return value


def shown(value: object) -> str:
    """A parameter's value for an error, short; of a number too long to write only that."""
    try:
        return repr(value if isinstance(value, int | float) else str(value)[:20])[:22]
    except ValueError:
        return "a number of thousands of digits"
