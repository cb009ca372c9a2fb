"""The one object language that torch checkpoints need, interpreted: dictionaries, lists, numbers, text and tensors.

A torch file keeps its index in Python's object stream. Its opcodes are listed by the standard library without running
them (`pickletools.genops`); those that describe data are followed here, and every other one, and every name that is
not in `_CONSTRUCTORS` or `_TYPES`, is an error. Nothing is imported and nothing of the file's choosing is called.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from mutant.tasks.errors import UserError


@dataclass(frozen=True)
class StorageRef:
    """Raw values kept elsewhere in the file: their type (`FloatStorage`), key and number."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A view of a storage; offset and strides count values."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A name that the stream mentions; it can be applied if it is a constructor, and is never looked up."""

    text: str


_MARK = object()


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        raise UserError("a tensor's shape is not a tuple.")
    sizes = cast("tuple[object, ...]", value)
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise UserError("a tensor's shape is not made of sizes.")
    return cast("tuple[int, ...]", sizes)


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> TensorRef:
    if not isinstance(storage, StorageRef) or type(offset) is not int or offset < 0:
        raise UserError("a tensor without a storage.")
    ref = TensorRef(storage, offset, _sizes(shape), _sizes(strides))
    if len(ref.shape) != len(ref.strides):
        raise UserError("a tensor's shape and strides disagree.")
    return ref


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _dictionary(*items: object) -> dict[Any, Any]:
    if items:
        raise UserError("a dictionary made of something.")
    return {}


_CONSTRUCTORS: Mapping[str, Callable[..., object]] = {
    "collections OrderedDict": _dictionary,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
_TYPES = frozenset(
    f"torch {kind}Storage"
    for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
_VALUES = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Mapping[str, int] = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_object(stream: BinaryIO) -> object:
    """The next object of the stream, which is left after it. Raises `UserError` for all that is not plain data."""
    machine = _Machine()
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes in damaged text
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return machine.pop()
                machine.step(opcode.name, argument)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise UserError(f"its index is damaged ({type(error).__name__}).") from error
    raise UserError("its index ends early.")


class _Machine:
    """A stack and a memo; one instance reads one object."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError(count)
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def pop_to_mark(self) -> list[Any]:
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise IndexError("mark")
        taken = self.stack[position + 1 :]
        del self.stack[position:]
        return taken

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop_many(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            self._compose(name, argument)

    def _compose(self, name: str, argument: Any) -> None:
        match name:
            case "MARK":
                self.stack.append(_MARK)
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_LIST":
                self.stack.append([])
            case "TUPLE":
                self.stack.append(tuple(self.pop_to_mark()))
            case "SETITEM" | "SETITEMS":
                self._set(self.pop_many(2) if name == "SETITEM" else self.pop_to_mark())
            case "APPEND" | "APPENDS":
                self._extend(self.pop_many(1) if name == "APPEND" else self.pop_to_mark())
            case _:
                self._construct(name, argument)

    def _construct(self, name: str, argument: Any) -> None:
        match name:
            case "GLOBAL":
                self.stack.append(_known(argument))
            case "STACK_GLOBAL":
                self.stack.append(_known(" ".join(self.pop_many(2))))
            case "REDUCE":
                function, arguments = self.pop_many(2)
                self.stack.append(_apply(function, arguments))
            case "BINPERSID":
                self.stack.append(_storage(self.pop()))
            case "BUILD":  # a state dict's own attributes (versions of modules): not wanted
                self.pop_many(1)
            case _:
                raise UserError(f"its index uses the opcode {name}, which tensors do not need.")

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("items")
        target.update(zip(items[::2], items[1::2], strict=True))  # pyright: ignore[reportUnknownMemberType]

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("list")
        cast("list[Any]", self.stack[-1]).extend(items)


def _known(name: str) -> _Name:
    if name not in _CONSTRUCTORS and name not in _TYPES:
        raise UserError(f"it wants to use {name.replace(' ', '.', 1)[:80]!r}, which is not a tensor; it was not run.")
    return _Name(name)


def _apply(function: object, arguments: object) -> object:
    if not isinstance(function, _Name) or function.text not in _CONSTRUCTORS or not isinstance(arguments, tuple):
        raise TypeError("call")
    return _CONSTRUCTORS[function.text](*arguments)


def _storage(value: Any) -> StorageRef:
    """('storage', type, key, device, count[, view]): the device is ignored, views are of the oldest files only."""
    match value:
        case ("storage", _Name(text), str(key), str(), int(count)) | (
            "storage",
            _Name(text),
            str(key),
            str(),
            int(count),
            None,
        ) if text in _TYPES and count >= 0:
            return StorageRef(text.removeprefix("torch "), key, count)
        case _:
            raise UserError("a storage of an unknown kind.")
