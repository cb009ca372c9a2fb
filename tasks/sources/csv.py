"""`csv:FILE?image=COL&label=COL&split=COL`: a table that names image files and their classes.

Image paths are relative to the table. The columns are called `image`, `label` and `split` unless the URI says
otherwise; without a split column all rows are train. A .tsv file is separated by tabs.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mutant.tasks.content import FileContent
from mutant.tasks.errors import UserError, printable, unknown
from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawSplit, RawTask, index_labels
from mutant.tasks.slicing import canonical
from mutant.tasks.sources.folder import existing
from mutant.tasks.uri import TaskURI


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The rows of the table, those without an image or a label left out and noted."""
    path = existing(Path(uri.target))
    if not path.is_file():
        raise UserError(f"'{path}' is not a file.", hint=f"For a directory, use folder:{path}")
    header, rows = _table(path, limits)
    image = _column(uri, "image", header, path)
    label = _column(uri, "label", header, path)
    split = _column(uri, "split", header, path) if uri.option("split") or "split" in header else None
    paths: defaultdict[str, list[str]] = defaultdict(list)
    classes: defaultdict[str, list[str]] = defaultdict(list)
    empty = 0
    for row in rows:
        cells = (row + [""] * len(header))[: len(header)]
        name, kind = cells[image].strip(), printable(cells[label].strip())
        if not name or not kind:
            empty += 1
            continue
        where = "train" if split is None else canonical(printable(cells[split].strip())) or "train"
        paths[where].append(name)
        classes[where].append(kind)
    if not paths:
        raise UserError(f"'{path}' has no row with an image and a label.")
    splits = sorted(paths)
    class_names, labels = index_labels([classes[name] for name in splits])
    return RawTask(
        tuple(
            RawSplit(name, FileContent(path.parent, paths[name]), found)
            for name, found in zip(splits, labels, strict=True)
        ),
        class_names,
        notes=(f"{empty:,} rows without an image or a label were left out",) if empty else (),
    )


def _table(path: Path, limits: Limits) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
                if row:
                    rows.append(row)
                if len(rows) > limits.max_examples:
                    raise UserError(f"'{path}' has more rows than the limit of {limits.max_examples:,}.")
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not text in UTF-8: {error.reason} at byte {error.start:,}.") from error
    except (csv.Error, OSError) as error:
        raise UserError(f"'{path}' cannot be read as a table: {error}.") from error
    if not rows:
        raise UserError(f"'{path}' is empty.", hint="Its first row names the columns.")
    return [cell.strip() for cell in rows[0]], rows[1:]


def _column(uri: TaskURI, role: str, header: Sequence[str], path: Path) -> int:
    name = uri.option(role) or role
    if name not in header:
        error = unknown(f"column of '{path.name}'", name, header)
        raise UserError(error.message, hint=f"{error.hint} Name it with ?{role}=COLUMN")
    return header.index(name)
