"""A cost in the columns of a row: they have the names of its fields."""

from dataclasses import fields
from typing import Any

from mutant.outcome import Cost
from mutant.storage.checks import checked


def cost_of(row: Any) -> Cost:
    """The cost that a row of candidates or baselines holds."""
    return checked(Cost(*(getattr(row, field.name) for field in fields(Cost))))
