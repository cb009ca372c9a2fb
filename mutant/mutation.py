"""Mutations as data: recorded edits that turn a parent path into a child (arXiv 2205.10937 section 3, 2209.07326)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mutant.hyperparameters import HyperparameterValue


@dataclass(frozen=True)
class SetHyperparameter:
    """Move a hyperparameter to `value`, one step from the parent's in its ordered list."""

    name: str
    value: HyperparameterValue


@dataclass(frozen=True)
class Clone:
    """Train a copy of the component in `slot`; the original stays as it is."""

    slot: str


@dataclass(frozen=True)
class InsertAdapter:
    """Add a residual adapter of `width` after encoder block `block`; the function computed is unchanged."""

    block: int
    width: int


@dataclass(frozen=True)
class RemoveAdapter:
    """Take out the adapter after encoder block `block`."""

    block: int


@dataclass(frozen=True)
class DropTopBlock:
    """Take out encoder block `block`, the top one, with its adapter."""

    block: int


@dataclass(frozen=True)
class RestoreTopBlock:
    """Put encoder block `block` back on top, from the nearest ancestor that has it."""

    block: int


@dataclass(frozen=True)
class NewHead:
    """A zero-initialised head with `classes` outputs: a head is never taken from another task."""

    classes: int


@dataclass(frozen=True)
class SetProbability:
    """Set the learned probability of a mutation action, one step from the parent's (arXiv 2209.07326)."""

    action: str
    value: float


Mutation = (
    SetHyperparameter
    | Clone
    | InsertAdapter
    | RemoveAdapter
    | DropTopBlock
    | RestoreTopBlock
    | NewHead
    | SetProbability
)

MUTATIONS: Mapping[str, type[Mutation]] = {
    cls.__name__: cls
    for cls in (
        SetHyperparameter,
        Clone,
        InsertAdapter,
        RemoveAdapter,
        DropTopBlock,
        RestoreTopBlock,
        NewHead,
        SetProbability,
    )
}


def to_dict(mutation: Mutation) -> dict[str, Any]:
    """Plain JSON data; `from_dict` gives the mutation back.

    >>> to_dict(InsertAdapter(3, 32))
    {'kind': 'InsertAdapter', 'block': 3, 'width': 32}
    """
    return {"kind": type(mutation).__name__, **asdict(mutation)}


def from_dict(data: Mapping[str, Any]) -> Mutation:
    values = dict(data)
    return MUTATIONS[values.pop("kind")](**values)


def describe(mutation: Mutation) -> str:
    """One short phrase for people.

    >>> describe(SetHyperparameter("momentum", None))
    'momentum = none'
    """
    match mutation:
        case SetHyperparameter(name, value):
            return f"{name} = {'none' if value is None else value}"
        case Clone(slot):
            return f"clone {slot}"
        case InsertAdapter(block, width):
            return f"insert adapter of width {width} after block {block}"
        case RemoveAdapter(block):
            return f"remove the adapter after block {block}"
        case DropTopBlock(block):
            return f"drop block {block}"
        case RestoreTopBlock(block):
            return f"restore block {block}"
        case NewHead(classes):
            return f"new head with {classes} classes"
        case SetProbability(action, value):
            return f"probability of {action} = {value}"
