"""TFDS's split slicing language, for every source: `train[:90%]`, `train[100:200]`, `train[-10%:]+test`.

Boundaries in percent are rounded to the closest example, halves to even, as TFDS does by default
(tensorflow_datasets/core/splits.py, `_pct_to_abs_closest`). Shards are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mutant.tasks.errors import UserError, nearest

SYNONYMS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""Directory and key names that stand for a split."""

_SLICE = re.compile(r"(?P<split>[\w.-]+)(?:\[(?P<start>[^\[\]:]*):(?P<stop>[^\[\]:]*)\])?")
_BOUNDARY = re.compile(r"(?P<value>-?\d{1,12}(?:\.\d{1,12})?)(?P<percent>%?)")
_HINT = "Write for example train[:90%], train[100:200] or train[-10%:]+test."


@dataclass(frozen=True)
class Selection:
    """Examples `start` to `stop` (exclusive) of the source's split `split`."""

    split: str
    start: int
    stop: int


def canonical(split: str) -> str:
    """`train`, `validation` or `test` for a synonym in any case, else the name itself."""
    return SYNONYMS.get(split.casefold(), split)


def select(instruction: str, sizes: Mapping[str, int]) -> tuple[Selection, ...]:
    """The parts that `instruction` selects from splits of the given sizes, in its order.

    Raises UserError for bad grammar, an unknown split, or a boundary outside the split.

    >>> select("train[:25%]+test", {"train": 10, "test": 4})
    (Selection(split='train', start=0, stop=2), Selection(split='test', start=0, stop=4))
    """
    return tuple(_part(part.strip(), instruction, sizes) for part in instruction.split("+"))


def named_splits(instruction: str) -> tuple[str, ...]:
    """The source's splits that `instruction` names, in its order, whatever their sizes.

    Raises UserError for bad grammar.

    >>> named_splits("train[:800]+extra")
    ('train', 'extra')
    """
    parts = [part.strip() for part in instruction.split("+")]
    names = [found["split"] for part in parts if (found := _SLICE.fullmatch(part)) is not None]
    select(instruction, dict.fromkeys(names, 10**12))
    return tuple(names)


def _part(part: str, instruction: str, sizes: Mapping[str, int]) -> Selection:
    found = _SLICE.fullmatch(part)
    if found is None:
        raise UserError(f"'{instruction}' does not select a split.", hint=_HINT)
    split = _known(found["split"], sizes)
    size = sizes[split]
    if found["start"] is None:
        return Selection(split, 0, size)
    units = {_percent(found[side], instruction) for side in ("start", "stop") if found[side].strip()}
    if not units:
        raise UserError(f"'{part}' has no boundary.", hint=_HINT)
    if len(units) == 2:
        raise UserError(f"'{part}' mixes percent and numbers of examples.", hint=_HINT)
    start = _boundary(found["start"], 0, size, part)
    stop = _boundary(found["stop"], size, size, part)
    return Selection(split, start, max(start, stop))


def _known(name: str, sizes: Mapping[str, int]) -> str:
    if name in sizes:
        return name
    if canonical(name) in sizes:
        return canonical(name)
    best = nearest(name, sizes)
    hint = f"Nearest: '{best}'." if best else f"Splits there: {', '.join(sorted(sizes))}."
    raise UserError(f"The source has no split '{name}'.", hint=hint)


def _percent(text: str, instruction: str) -> bool:
    found = _BOUNDARY.fullmatch(text.strip())
    if found is None:
        raise UserError(f"'{text}' is no boundary in '{instruction}'.", hint=_HINT)
    return bool(found["percent"])


def _boundary(text: str, default: int, size: int, part: str) -> int:
    found = _BOUNDARY.fullmatch(text.strip())
    if found is None:
        return default
    value = float(found["value"])
    if found["percent"]:
        if abs(value) > 100:
            raise UserError(f"'{part}' has a percentage outside -100 to 100.", hint=_HINT)
        place = round(value * size / 100.0)
    elif "." in found["value"]:
        raise UserError(f"'{part}' has a fraction of an example.", hint=_HINT)
    else:
        place = int(value)
    if abs(place) > size:
        raise UserError(f"'{part}' reaches beyond the {size:,} examples of the split.")
    return size + place if place < 0 else place
