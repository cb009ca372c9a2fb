"""Budgets: how much a run may spend, in wall time, device seconds, counted FLOPs or children."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum, isfinite
from typing import Any, Literal, cast, get_args

from mutant.outcome import Cost
from mutant.storage.records import CandidateRecord
from mutant.tasks.errors import UserError, nearest, printable

Unit = Literal["seconds", "device-seconds", "flops", "children"]

_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DEVICE = {"ds": 1.0, "device-s": 1.0, "device-m": 60.0, "device-min": 60.0, "device-h": 3600.0}
_FLOPS = {f"{letter}{word}": 1000.0**power for power, letter in enumerate("kmgtpe", 1) for word in ("f", "flops")}
_UNITS: Mapping[str, tuple[Unit, float]] = {
    **{word: ("seconds", factor) for word, factor in _TIMES.items()},
    **{word: ("device-seconds", factor) for word, factor in _DEVICE.items()},
    **{word: ("flops", factor) for word, factor in {"flops": 1.0, **_FLOPS}.items()},
    "child": ("children", 1.0),
    "children": ("children", 1.0),
}
_EXAMPLES = "Write for example 90s, 10m, 2h30m, 300device-s, 500TF or 40children."
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_ONE = re.compile(rf"({_NUMBER})\s*([a-z-]*)")
_SEVERAL = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?\s*(?:h|min|m|s)\s*)+")


@dataclass(frozen=True)
class Budget:
    """An amount of one unit. One of wall time belongs to a call; any other to the run, which it is stored with.

    >>> parse_budget("2h30m"), parse_budget("500 TF").text
    (Budget(amount=9000.0, unit='seconds'), '500000000000000flops')
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        number = isinstance(cast("Any", self.amount), int | float) and not isinstance(cast("Any", self.amount), bool)
        if self.unit not in get_args(Unit) or not number or not 0 < self.amount < float("inf"):
            raise ValueError(f"{self.amount!r} {self.unit!r} is no budget")

    @property
    def of_the_call(self) -> bool:
        return self.unit == "seconds"

    @property
    def text(self) -> str:
        """How it can be written; `parse_budget` gives the value back."""
        number = str(int(self.amount)) if self.unit == "children" else f"{self.amount!r}".removesuffix(".0")
        return number + {"seconds": "s", "device-seconds": "device-s"}.get(self.unit, self.unit)

    def spent(self, spent: "Spent") -> float:
        """The part of what was spent that counts."""
        return {"flops": spent.flops, "children": float(spent.children), "device-seconds": spent.device_seconds}.get(
            self.unit, spent.seconds
        )


@dataclass(frozen=True)
class Spent:
    """What children took: their number, counted FLOPs, seconds inside device programs, seconds in all."""

    children: int = 0
    flops: float = 0.0
    device_seconds: float = 0.0
    seconds: float = 0.0

    @staticmethod
    def on(records: Iterable[CandidateRecord]) -> "Spent":
        """What the children with an outcome took. A sum that does not depend on the order of the records."""
        return Spent.of(record.cost for record in records if not record.is_open)

    @staticmethod
    def of(children: Iterable[Cost]) -> "Spent":
        """What children with these costs took, in whatever order they are."""
        costs = list(children)
        return Spent(
            len(costs),
            fsum(cost.flops for cost in costs),
            fsum(cost.on_device for cost in costs),
            fsum(cost.seconds for cost in costs),
        )


def parse_budget(text: str) -> Budget:
    """A budget from words: `90s`, `10m`, `2h30m`, `600`; `300device-s`, `300ds`; `2e15flops`, `2PF`; `40children`.

    Raises `UserError` for anything else, naming the nearest right form.
    """
    words = text.strip().lower()
    if _SEVERAL.fullmatch(words):
        parts = cast("list[tuple[str, str]]", re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*(h|min|m|s)", words))
        return _budget(text, sum(float(number) * _TIMES[unit] for number, unit in parts), "seconds")
    found = _ONE.fullmatch(words)
    if found is None or found[2] not in _UNITS:
        raise _refusal(text, found)
    unit, factor = _UNITS[found[2]]
    return _budget(text, float(found[1]) * factor, unit)


def parse_time(text: str, *, option: str) -> float:
    """Seconds from words: `90s`, `10m`, `2h30m`, `600`. Raises `UserError` for anything else, naming the `option`."""
    try:
        found = parse_budget(text)
    except UserError:
        found = None
    if found is None or not found.of_the_call:
        raise UserError(f"{option} '{printable(text)}' is no time.", hint="Write for example 90s, 10m or 2h30m.")
    return found.amount


def budget_of(config: Mapping[str, Any]) -> Budget | None:
    """The budget in a run's stored settings. Raises `UserError` for one that cannot be read."""
    found = config.get("budget")
    try:
        return None if found is None else Budget(**found)
    except (TypeError, ValueError) as error:
        raise UserError(f"The stored budget of a run cannot be read: {printable(str(error))}.") from error


def run_budget(text: str) -> Budget:
    """A budget that a run can be stored with. Raises `UserError` for one of wall time, which belongs to a call."""
    budget = parse_budget(text)
    if budget.of_the_call:
        raise UserError(
            f"A budget of wall time, {printable(text)}, is one call's and no setting of the run.",
            hint=f"Give it to the command: --budget {printable(text)}",
        )
    return budget


def _budget(text: str, amount: float, unit: Unit) -> Budget:
    if not isfinite(amount) or amount <= 0:
        raise UserError(f"A budget of '{printable(text)}' is out of range.", hint=_EXAMPLES)
    if unit == "children" and amount != int(amount):
        hint = f"Nearest: {max(1, int(amount))}children"
        raise UserError(f"'{printable(text)}' is no whole number of children.", hint=hint)
    return Budget(amount, unit)


def _refusal(text: str, found: "re.Match[str] | None") -> UserError:
    close = None if found is None else nearest(found[2], (unit for unit in _UNITS if unit))
    if found is None or close is None:
        return UserError(f"'{printable(text)}' is no budget.", hint=_EXAMPLES)
    return UserError(f"'{printable(text)}' is no budget.", hint=f"Nearest: {found[1]}{close}. {_EXAMPLES}")


def fitting(costs: Iterable[float], room: float) -> int:
    """How many children fit, the first ones in order, as long as the sum of their costs is within `room`.

    >>> fitting([2.0, 2.0, 1.0], 4.5), fitting([2.0], 1.0)
    (2, 0)
    """
    total, number = 0.0, 0
    for cost in costs:
        total += cost
        if total > room:
            break
        number += 1
    return number


def allowance(budget: Budget, before: Spent, open_segments: int) -> float:
    """What a segment may spend: an equal share, with the segments after it, of what those before it left."""
    return max(0.0, budget.amount - budget.spent(before)) / max(1, open_segments)
