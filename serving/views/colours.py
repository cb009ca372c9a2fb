"""Which number and colour stands for a task: the same on every picture of a system, and after tasks were removed."""

from collections.abc import Mapping
from dataclasses import dataclass

from mutant.palette import ROOT, colour
from mutant.storage.store import Store


@dataclass(frozen=True)
class Badge:
    """A task's place in the order of arrival, from 1, and its colour (`#rrggbb`)."""

    number: int
    colour: str


def badges(store: Store) -> Mapping[str, Badge]:
    """Of every task that ever came, removed ones too, since others may use what they trained."""
    names = [task.name for task in store.tasks(removed=True)]
    return {name: Badge(place + 1, colour(place)) for place, name in enumerate(names)}


PRETRAINED = ROOT
"""The colour of what came with the root."""
