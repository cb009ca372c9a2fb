"""Components: the immutable, content-addressed blocks of parameters that paths are made of."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast

import numpy as np

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
Arrays = Mapping[str, np.ndarray[Any, Any]]
"""Array names (`attention/query/kernel`) to values; see `is_buffer` for those that are never trained."""

BUFFERS = frozenset({"mean", "var"})


@dataclass(frozen=True)
class Spec:
    """What a component computes, without its numbers: enough to build its layer.

    `kind` is `family/layer` (`vit/block`); `config` holds the static settings, sorted by name.

    >>> spec = Spec.of("adapter", features=384, width=32)
    >>> spec["width"], str(spec)
    (32, 'adapter(features=384, width=32)')
    """

    kind: str
    config: tuple[tuple[str, Value], ...] = ()

    @staticmethod
    def of(kind: str, **config: Value) -> "Spec":
        return Spec(kind, tuple(sorted(config.items())))

    def __getitem__(self, name: str) -> Any:
        return dict(self.config)[name]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{k}={v!r}' for k, v in self.config)})"

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        return json.dumps([self.kind, dict(self.config)], sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Spec":
        kind, config = json.loads(text)
        return Spec.of(kind, **{name: _value(value) for name, value in config.items()})


def _value(data: Any) -> Value:
    return tuple(cast("list[Scalar]", data)) if isinstance(data, list) else data


def is_buffer(name: str) -> bool:
    """Whether an array is a statistic that is never trained and not counted (a batch norm's mean and variance)."""
    return name.rsplit("/", 1)[-1] in BUFFERS


def content_digest(spec: Spec, arrays: Arrays) -> str:
    """SHA-256 (hex) over kind, static settings and every array's name, dtype, shape and bytes."""
    sha = hashlib.sha256(spec.to_json().encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _frozen(arrays: Arrays) -> Arrays:
    copies: dict[str, np.ndarray[Any, Any]] = {}
    for name, array in arrays.items():
        copy = np.ascontiguousarray(array)
        if copy.flags.writeable:
            copy = copy.copy() if copy is array else copy
            copy.flags.writeable = False
        copies[name] = copy
    return MappingProxyType(dict(sorted(copies.items())))


@dataclass(frozen=True, eq=False)
class Component:
    """One immutable named block of parameters. Two components are equal when their digests are."""

    spec: Spec
    arrays: Arrays = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", _frozen(self.arrays))

    @cached_property
    def digest(self) -> str:
        return content_digest(self.spec, self.arrays)

    @cached_property
    def n_parameters(self) -> int:
        return count_parameters(self.arrays)

    @property
    def n_bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> Any:
        return Component, (self.spec, dict(self.arrays))


def count_parameters(arrays: Arrays) -> int:
    """Trainable numbers in `arrays`; buffers are not counted."""
    return sum(int(array.size) for name, array in arrays.items() if not is_buffer(name))
