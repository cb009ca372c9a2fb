"""Content-addressed arrays: stored once under the digest of their content, as safetensors, checked when read.

No pickle: safetensors hold numbers only. Arrays are written in the transaction of the rows that name them, or, when
they are large, into the blob store before it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import deserialize  # pyright: ignore[reportUnknownVariableType]
from safetensors.numpy import save
from sqlalchemy import Connection, Select, delete, func, insert, select

from mutant.component import Arrays, Component, Spec, content_digest
from mutant.storage.blobs.placement import Depot
from mutant.storage.blobs.protocol import keep
from mutant.storage.checks import checked
from mutant.storage.faults import DECODING, decoding
from mutant.storage.locks import DEPOT
from mutant.storage.refusals import BlobDamaged, Collected, Damaged
from mutant.storage.schema import CollectedRow, ComponentRow, WeightsRow
from mutant.tasks.errors import UserError

_tensors: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
TRACE = Spec.of("trace")
GOLDEN = Spec.of("golden")

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


@dataclass(frozen=True)
class Stored:
    """A row of weights: encoded arrays in the database (`data`), or under their digest in the depot's blob store."""

    digest: str
    n_bytes: int
    data: bytes | None
    depot: Depot

    def read(self) -> bytes:
        """The encoded arrays. Raises BlobDamaged when they are missing from the store or have another length."""
        if self.data is not None:
            return self.data
        blobs = self.depot.blobs
        found = None if blobs is None else blobs.get(self.digest)
        where = "a blob store that the system does not name" if blobs is None else f"'{blobs.where}'"
        if found is None:
            raise self._damaged(f"are missing from {where}", "missing")
        if len(found) != self.n_bytes:
            raise self._damaged(f"in {where} are torn: {len(found):,} of {self.n_bytes:,} bytes are there", "torn")
        return found

    def _damaged(self, how: str, reason: str) -> BlobDamaged:
        hint = "Restore the blob store from a copy. What else differs: mutant verify"
        text = f"The weights with the digest {self.digest[:12]} {how}."
        return BlobDamaged(text, hint=hint, digest=self.digest, reason=reason)


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
    return Blob(component.digest, encode(component.arrays))


def arrays_blob(spec: Spec, arrays: Arrays) -> Blob:
    """A blob of arrays that are no component, such as a trace; `spec` says what they are."""
    return Blob(content_digest(spec, arrays), encode(arrays))


def depot_of(connection: Connection) -> Depot:
    """Where the weights of the system of `connection` lie."""
    return connection.get_execution_options()[DEPOT]


def ship(depot: Depot, blobs: Iterable[Blob]) -> None:
    """Write the large ones of `blobs` into the store, before the transaction that `put`s them begins.

    Raises UserError for one that is too large for a system without a store.
    """
    for blob in blobs:
        if depot.takes(len(blob.data)):
            assert depot.blobs is not None
            keep(blob.data, blob.digest, depot.blobs)


def put(connection: Connection, blobs: Iterable[Blob]) -> None:
    """Write rows for the blobs that are not stored yet.

    Of a large one, which `ship` wrote, it is seen to that the store has it: the sweeper holds the write lock too.
    """
    wanted, depot = {blob.digest: blob for blob in blobs}, depot_of(connection)
    known = set(connection.scalars(select(WeightsRow.digest).where(WeightsRow.digest.in_(wanted))))
    new = [blob for digest, blob in wanted.items() if digest not in known]
    for blob in new:  # one at a time: those of a root are large, and a driver may hold what it is given at once
        row = {"digest": blob.digest, "n_bytes": len(blob.data), "data": _inside(blob, depot)}
        connection.execute(insert(WeightsRow), row)
    if new:
        connection.execute(delete(CollectedRow).where(CollectedRow.digest.in_([blob.digest for blob in new])))


def _inside(blob: Blob, depot: Depot) -> bytes | None:
    """What the database keeps of a blob: its data, or nothing when it lies in the store, where it is looked for."""
    if not depot.takes(len(blob.data)):
        return blob.data
    assert depot.blobs is not None
    if depot.blobs.size(blob.digest) != len(blob.data):
        depot.blobs.put(blob.digest, blob.data)
    return None


@decoding()
def specs(connection: Connection, digests: Sequence[str]) -> dict[str, Spec]:
    """Specs of the known components among `digests`."""
    found: dict[str, Spec] = {}
    for some in chunks(digests):
        rows = connection.execute(select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.digest.in_(some)))
        found.update({digest: checked(Spec.from_json(spec)) for digest, spec in rows})
    return found


def stored(connection: Connection, digests: Sequence[str]) -> Iterator[Stored]:
    """The rows of weights of those of `digests` that have some, one at a time."""
    row = WeightsRow
    for some in chunks(digests):
        yield from rows(connection, select(row.digest, row.n_bytes, row.data).where(row.digest.in_(some)))


def rows(connection: Connection, query: Select[str, int, bytes | None]) -> Iterator[Stored]:
    """The rows of weights that a query of digest, size and data finds, one at a time."""
    depot = depot_of(connection)
    with decoding(), connection.execute(query.execution_options(yield_per=1)) as found:
        for digest, n_bytes, data in found:
            yield Stored(digest, n_bytes, data, depot)


@dataclass(frozen=True)
class Held:
    """How many weights lie in a place, and their bytes."""

    count: int
    bytes: int


@decoding()
def held(connection: Connection) -> tuple[Held, Held]:
    """What lies in the database, and what in the blob store."""
    outside = WeightsRow.data.is_(None)
    query = select(outside, func.count(), func.sum(WeightsRow.n_bytes)).group_by(outside)
    found = {bool(out): checked(Held(count, int(n_bytes))) for out, count, n_bytes in connection.execute(query)}
    return found.get(False, Held(0, 0)), found.get(True, Held(0, 0))


@decoding()
def read_components(connection: Connection, digests: Iterable[str]) -> dict[str, Component]:
    """Components by digest, each checked against it. Raises Damaged when one is missing or differs."""
    wanted = list(dict.fromkeys(digests))
    kinds = specs(connection, wanted)
    found: dict[str, Component] = {}
    for row in stored(connection, [digest for digest in wanted if digest in kinds]):
        component = Component(kinds[row.digest], _decoded(row))
        _check(component.digest, row.digest, str(component.spec))
        found[row.digest] = component
    for digest in wanted:
        if digest not in found:
            raise _missing(connection, digest, str(kinds.get(digest, "unknown component")))
    return {digest: found[digest] for digest in wanted}


@decoding()
def read_arrays(connection: Connection, spec: Spec, digest: str) -> Mapping[str, np.ndarray[Any, Any]]:
    """Arrays that are no component, checked against their digest. Raises Damaged when they are missing or differ."""
    for row in stored(connection, [digest]):
        arrays = _decoded(row)
        _check(content_digest(spec, arrays), digest, spec.kind)
        return arrays
    raise _missing(connection, digest, spec.kind)


def collected(connection: Connection, digests: Sequence[str]) -> frozenset[str]:
    """Those of `digests` whose components' weights were dropped by `gc`."""
    found: list[str] = []
    for some in chunks(digests):
        found += connection.scalars(select(CollectedRow.digest).where(CollectedRow.digest.in_(some)))
    return frozenset(found)


def check_not_collected(connection: Connection, missing: BlobDamaged) -> None:
    """Raise Collected when weights whose blob is missing are collected by now: whoever missed it had begun to read
    before, and a blob goes after the rows that named it."""
    if connection.scalar(select(WeightsRow.key).where(WeightsRow.digest == missing.digest)) is not None:
        return
    error = _missing(connection, missing.digest, "a path")
    if isinstance(error, Collected):
        raise error from missing


def chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """`values` in pieces that fit in one query."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _decoded(row: Stored) -> dict[str, np.ndarray[Any, Any]]:
    data = row.read()
    try:
        return decode(data)
    except DECODING as error:
        if row.data is not None or row.depot.blobs is None:
            raise  # it is the database that is damaged, and `decoding` says so
        raise Damaged(
            f"The weights with the digest {row.digest[:12]} in '{row.depot.blobs.where}' cannot be read ({error}).",
            hint="Restore the blob store from a copy. What else differs: mutant verify",
        ) from error


def _check(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise Damaged(
            f"The weights of {what} with the digest {wanted[:12]} have changed: now it is {found[:12]}.",
            hint="Restore the system from a copy. What else differs: mutant verify",
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
