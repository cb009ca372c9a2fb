"""Strategies: the search by evolution, and the ways to train a task without it that it is compared with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mutant.hyperparameters import HyperparameterValue
from mutant.path import NORM, Path, slot_index
from mutant.tasks.errors import UserError, nearest, printable

Kind = Literal["evolution", "random", "full", "freeze", "adapters", "head"]
EVOLUTION = "evolution"
WITH_NUMBER: Mapping[str, str] = {"freeze": "freeze-12", "adapters": "adapters-32"}
"""Kinds that take a number, with an example of each."""


@dataclass(frozen=True)
class Strategy:
    """How a run's children are made.

    `evolution` mutates what came before; every other one trains independent children of the root, whose
    hyperparameters are drawn at random: `random` with the mutations of the search, `full` all of the root, `freeze` all
    but its embedding and first `number` blocks, `adapters` one of width `number` after each block, `head` a head alone.

    >>> parse_strategy("freeze-12")
    Strategy(kind='freeze', number=12)
    """

    kind: Kind
    number: int = 0

    @property
    def text(self) -> str:
        """Its name, which `parse_strategy` reads."""
        return f"{self.kind}-{self.number}" if self.kind in WITH_NUMBER else self.kind

    @property
    def evolves(self) -> bool:
        return self.kind == EVOLUTION

    def trains(self, slot: str) -> bool:
        """Whether a copy of the root's component in `slot` is trained."""
        index = slot_index(slot)
        match self.kind:
            case "full":
                return True
            case "freeze":
                return slot in ("top", NORM) if index is None else index >= self.number
            case "adapters":
                return slot == NORM
            case _:
                return False

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates that are tried, each once before one is tried again; the first one first.

        The more is trained, the lower they are (arXiv 2205.10937 starts from 0.01 for all).
        """
        match self.kind:
            case "full":
                return (0.01, 0.02, 0.005, 0.05, 0.002)
            case "freeze":
                return (0.02, 0.01, 0.05, 0.005, 0.1)
            case "adapters":
                return (0.05, 0.02, 0.1, 0.01, 0.2)
            case "head":
                return (0.05, 0.1, 0.2, 0.02, 0.5)
            case _:
                return (0.02, 0.01, 0.05, 0.005, 0.1)


SPACE: Mapping[str, tuple[HyperparameterValue, ...]] = {
    "schedule": ("cosine", "linear", "constant"),
    "warmup_ratio": (0.02, 0.05, 0.1, 0.2),
    "momentum": (0.8, 0.9, 0.95),
    "nesterov": (False, True),
}
"""What independent children draw from beside the learning rate: the neighbourhood of the defaults (Bergstra & Bengio
2012 on random search). The first child of a segment has the defaults themselves."""


def parse_strategy(text: str) -> Strategy:
    """A strategy by its name. Raises `UserError` for anything else, naming the nearest."""
    found = re.fullmatch(r"([a-z]+)(?:-([0-9]{1,4}))?", text)
    kind, number = (found[1], found[2]) if found else ("", None)
    if kind in get_args(Kind) and (kind in WITH_NUMBER) == (number is not None):
        strategy = Strategy(kind, int(number or 0))  # pyright: ignore[reportArgumentType]
        if strategy.kind != "adapters" or strategy.number:
            return strategy
    known = [WITH_NUMBER.get(name, name) for name in get_args(Kind)]
    close = nearest(text, known) or WITH_NUMBER.get(kind)
    hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(known)}."
    raise UserError(f"There is no strategy '{printable(text)}'.", hint=hint)


def check_fits(strategy: Strategy, root: Path) -> None:
    """Raise `UserError` for a strategy that freezes more blocks than the root has."""
    if strategy.kind == "freeze" and strategy.number > root.depth:
        raise UserError(
            f"Strategy 'freeze-{strategy.number}': the root has {root.depth} blocks.",
            hint=f"Nearest: 'freeze-{root.depth}'.",
        )
