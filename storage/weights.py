"""Content-addressed arrays: stored once under the digest of their content, as safetensors, checked when read.

No pickle: safetensors hold numbers only. Arrays are written in the transaction of the rows that name them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import deserialize  # pyright: ignore[reportUnknownVariableType]
from safetensors.numpy import save
from sqlalchemy import Connection, delete, insert, select

from mutant.component import Arrays, Component, Spec, content_digest
from mutant.storage.checks import checked
from mutant.storage.refusals import Collected, Damaged
from mutant.storage.schema import CollectedRow, ComponentRow, WeightsRow
from mutant.tasks.errors import UserError

_tensors: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
TRACE = Spec.of("trace")
GOLDEN = Spec.of("golden")
LARGEST = 10**9
"""Bytes of the largest value that a SQLite database takes."""

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}


@dataclass(frozen=True)
class Blob:
    """Encoded arrays and the digest of their content."""

    digest: str
    data: bytes


def encode(arrays: Arrays) -> bytes:
    """Safetensors of `arrays`; raises ValueError for a type that they cannot hold exactly."""
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES.values() or array.dtype.byteorder == ">":
            raise ValueError(f"array '{name}' has the type {array.dtype.str}, which cannot be stored")
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode(data: object) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that `encode` wrote, read-only. Raises ValueError, KeyError or SafetensorError on damaged bytes."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    if not isinstance(data, bytes):  # `bytes` of a number would allocate that many
        raise ValueError(f"weights are bytes, not {type(data).__name__}")
    for name, tensor in _tensors(data):
        dtype, values = _dtype(tensor["dtype"]), tensor["data"]
        flat: np.ndarray[Any, Any] = np.frombuffer(values, dtype) if values else np.empty(0, dtype)
        array = flat.reshape(tensor["shape"])
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def _dtype(name: str) -> np.dtype[Any]:
    if name == "BF16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(_DTYPES[name])


def component_blob(component: Component) -> Blob:
    return _blob(component.digest, str(component.spec), component.arrays)


def arrays_blob(spec: Spec, arrays: Arrays) -> Blob:
    """A blob of arrays that are no component, such as a trace; `spec` says what they are."""
    return _blob(content_digest(spec, arrays), str(spec), arrays)


def _blob(digest: str, what: str, arrays: Arrays) -> Blob:
    data = encode(arrays)
    if len(data) > LARGEST:
        raise UserError(f"{what} has {len(data):,} bytes of weights; the database takes {LARGEST:,} at most.")
    return Blob(digest, data)


def put(connection: Connection, blobs: Iterable[Blob]) -> None:
    """Write the blobs that are not stored yet."""
    wanted = {blob.digest: blob for blob in blobs}
    known = set(connection.scalars(select(WeightsRow.digest).where(WeightsRow.digest.in_(wanted))))
    for digest, blob in wanted.items():
        if digest not in known:
            connection.execute(
                insert(WeightsRow).values(digest=digest, n_bytes=len(blob.data), data=blob.data),
            )
            connection.execute(delete(CollectedRow).where(CollectedRow.digest == digest))


def specs(connection: Connection, digests: Sequence[str]) -> dict[str, Spec]:
    """Specs of the known components among `digests`."""
    found: dict[str, Spec] = {}
    for some in chunks(digests):
        rows = connection.execute(select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.digest.in_(some)))
        found.update({digest: checked(Spec.from_json(spec)) for digest, spec in rows})
    return found


def stored(connection: Connection, digests: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The encoded arrays of those of `digests` that have weights, one at a time."""
    for some in chunks(digests):
        query = select(WeightsRow.digest, WeightsRow.data).where(WeightsRow.digest.in_(some))
        with connection.execute(query.execution_options(yield_per=1)) as rows:
            for row in rows:
                yield row.digest, row.data


def read_components(connection: Connection, digests: Iterable[str]) -> dict[str, Component]:
    """Components by digest, each checked against it. Raises Damaged when one is missing or differs."""
    wanted = list(dict.fromkeys(digests))
    kinds = specs(connection, wanted)
    found: dict[str, Component] = {}
    for digest, data in stored(connection, [digest for digest in wanted if digest in kinds]):
        component = Component(kinds[digest], decode(data))
        _check(component.digest, digest, str(component.spec))
        found[digest] = component
    for digest in wanted:
        if digest not in found:
            raise _missing(connection, digest, str(kinds.get(digest, "unknown component")))
    return {digest: found[digest] for digest in wanted}


def read_arrays(connection: Connection, spec: Spec, digest: str) -> Mapping[str, np.ndarray[Any, Any]]:
    """Arrays that are no component, checked against their digest. Raises Damaged when they are missing or differ."""
    for _, data in stored(connection, [digest]):
        arrays = decode(data)
        _check(content_digest(spec, arrays), digest, spec.kind)
        return arrays
    raise _missing(connection, digest, spec.kind)


def chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """`values` in pieces that fit in one query."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _check(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise Damaged(
            f"The weights of {what} with the digest {wanted[:12]} have changed: now it is {found[:12]}.",
            hint="Restore the database from a copy. What else differs: mutant verify",
        )


def _missing(connection: Connection, digest: str, what: str) -> UserError:
    collected = connection.scalar(select(CollectedRow.at).where(CollectedRow.digest == digest))
    if collected is not None:
        return Collected(
            f"The weights of {what} with the digest {digest[:12]} were collected on {collected:%Y-%m-%d}.",
            hint="They belonged to a path that lost; its row of lineage stays.",
        )
    return Damaged(
        f"The weights of {what} with the digest {digest[:12]} are not in the database.",
        hint="Restore it from a copy. What else is missing: mutant verify",
    )
