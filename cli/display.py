"""What a terminal shows: results on stdout, everything else on stderr, one JSON document when asked for."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from mutant.tasks.errors import UserError, printable

PLAIN_WIDTH = 200
"""Columns where there is no terminal, so that a pipe or a file gets each row on one line."""


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: brackets in `train[:90%]` are no markup."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=PLAIN_WIDTH)
    return made


def width() -> int:
    """Columns that results can have."""
    return console().width


def say(text: str = "") -> None:
    """A line of results."""
    shown = console()
    shown.print(text, soft_wrap=not shown.is_terminal)


def tell(text: str = "", *, style: str | None = None) -> None:
    """A line beside the results."""
    shown = console(stderr=True)
    shown.print(text, soft_wrap=not shown.is_terminal, style=style)


def complain(error: UserError) -> None:
    """An error for people, with what to do about it."""
    message = error.message.rstrip()
    tell(f"Error: {message}", style="bold red")
    if error.hint:
        tell(error.hint)


def emit(document: Any) -> None:
    """One JSON document, alone on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


@dataclass(frozen=True)
class Column:
    """A column: `right` for numbers, `fixed` never folds, not shown on a terminal narrower than `least`."""

    title: str
    right: bool = False
    fixed: bool = False
    least: int = 0


def right(title: str, *, least: int = 0) -> Column:
    return Column(title, right=True, fixed=True, least=least)


def fixed(title: str, *, least: int = 0) -> Column:
    return Column(title, fixed=True, least=least)


def table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None
) -> None:
    """Print rows of text under their titles, `total` under a line."""
    shown = console()
    _put(laid_out(columns, rows, width=shown.width, total=total), shown)


def laid_out(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[str]],
    *,
    width: int,
    total: Sequence[str] | None = None,
) -> Table:
    """What `table` prints, for a terminal of `width` columns."""
    known = [Column(column) if isinstance(column, str) else column for column in columns]
    places = [place for place, column in enumerate(known) if width >= column.least]
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for column in (known[place] for place in places):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        made.add_column(column.title, justify=justify, no_wrap=column.fixed, overflow="fold")
    for row in rows:
        made.add_row(*(printable(row[place]) for place in places))
    if total is not None:
        made.add_section()
        made.add_row(*(total[place] for place in places))
    return made


def facts(values: Mapping[str, str]) -> None:
    """Print names and values in two columns; long values fold under themselves."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name, printable(value))
    _put(made, console())


def _put(made: Table, shown: Console) -> None:
    """Print a table; where there is no terminal, without the spaces that fill its last column."""
    if shown.is_terminal:
        shown.print(made)
        return
    with shown.capture() as captured:
        shown.print(made)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
