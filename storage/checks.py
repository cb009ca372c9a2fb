"""Values read from a database, checked against the types that their dataclasses declare.

SQLite keeps any type in any column, so a damaged or edited file can hold a text where a number belongs.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Predicate = Callable[[Any], bool]


def checked(value: T) -> T:
    """The dataclass instance `value` itself; raises ValueError when a field is not of its declared type.

    >>> from mutant.outcome import Cost
    >>> checked(Cost(1.5, 10)).examples
    10
    >>> checked(Cost(1.5, "ten"))
    Traceback (most recent call last):
    ValueError: Cost.examples cannot be 'ten'
    """
    for name, fits in _fields(type(value)):
        found = getattr(value, name)
        if not fits(found):
            raise ValueError(f"{type(value).__name__}.{name} cannot be {str(found)[:40]!r}")
    return value


def checked_text(value: Any) -> str:
    """The text `value` itself; raises ValueError when it is none, where the database has a type of its own for it."""
    if not isinstance(value, str):
        raise ValueError(f"a text cannot be {str(value)[:40]!r}")
    return value


def checked_key(value: Any) -> int:
    """The key `value` itself; raises ValueError when it is no whole number."""
    if not isinstance(value, int):
        raise ValueError(f"a key cannot be {str(value)[:40]!r}")
    return value


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Predicate], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _predicate(hints[field.name])) for field in fields(kind))


def _predicate(hint: Any) -> Predicate:
    """Whether a value is of the type `hint`; whole numbers are real numbers too."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda _: True
    if origin in (Union, UnionType):
        choices = [_predicate(argument) for argument in arguments]
        return lambda value: any(fits(value) for fits in choices)
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in arguments
    if origin is tuple:
        return _tuple(arguments)
    if origin is not None and issubclass(origin, Mapping):
        key, item = map(_predicate, arguments)
        return lambda value: isinstance(value, Mapping) and all(key(k) and item(v) for k, v in value.items())  # pyright: ignore[reportUnknownVariableType]
    plain = {float: (float, int), int: (int,), NoneType: (NoneType,)}.get(hint, (origin or hint,))
    if bool in plain or (float not in plain and int not in plain):
        return lambda value: isinstance(value, plain)
    return lambda value: isinstance(value, plain) and not isinstance(value, bool)


def _tuple(arguments: tuple[Any, ...]) -> Predicate:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        each = _predicate(arguments[0])
        return lambda value: isinstance(value, tuple) and all(each(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    items = [_predicate(argument) for argument in arguments]
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(items)  # pyright: ignore[reportUnknownArgumentType]
        and all(fits(item) for fits, item in zip(items, value, strict=True))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    )
