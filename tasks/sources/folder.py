"""`folder:PATH`: a directory or a .zip of `{split}/{class}/image` or `{class}/image`."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from mutant.tasks.content import Content, FileContent, ZipContent, open_zip
from mutant.tasks.errors import UserError, nearest, printable
from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.sources.layout import lay_out
from mutant.tasks.uri import TaskURI


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The images of the directory or archive; splits come from directory names only, never from file names."""
    path = existing(Path(uri.target))
    if path.is_dir():
        return _raw_task(path, _files(path, limits), ())
    if not zipfile.is_zipfile(path):
        raise UserError(f"'{path}' is neither a directory nor a .zip archive.", hint="For a table, use csv:FILE.")
    with open_zip(path) as archive:
        names, notes = _entries(archive, limits)
    return _raw_task(path, names, notes)


def existing(path: Path) -> Path:
    """`path` itself; raises UserError that names the nearest path when there is nothing."""
    try:
        if path.exists():
            return path
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise UserError(f"'{printable(str(path))}' cannot be read: {error}.") from error
    best = nearest(path.name, siblings)
    hint = f"Nearest: '{path.parent / best}'." if best else f"The directory is '{path.parent}'."
    raise UserError(f"No such file or directory: '{printable(str(path))}'.", hint=hint)


def _raw_task(path: Path, names: list[str], notes: tuple[str, ...]) -> RawTask:
    layout = lay_out(names, str(path))

    def content(split: str) -> Content:
        paths = layout.paths[split]
        return FileContent(path, paths) if path.is_dir() else ZipContent(path, paths)

    splits = tuple(RawSplit(split, content(split), labels) for split, labels in layout.labels.items())
    return RawTask(splits, layout.class_names, notes=notes + layout.notes)


def _files(root: Path, limits: Limits) -> list[str]:
    """Relative paths of all files below `root`, links followed, no directory entered twice on one way down."""
    found: list[str] = []
    pending = [(str(root), "", frozenset({os.path.realpath(root)}))]
    while pending:
        directory, prefix, above = pending.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if not entry.is_dir():
                        found.append(name)
                    elif (real := os.path.realpath(entry.path)) not in above:
                        pending.append((entry.path, name + "/", above | {real}))
        except OSError as error:
            raise UserError(f"'{printable(directory)}' cannot be read: {error.strerror}.") from error
        if len(found) > limits.max_examples:
            raise UserError(f"'{root}' has more files than the limit of {limits.max_examples:,}.")
    return found


def _entries(archive: zipfile.ZipFile, limits: Limits) -> tuple[list[str], tuple[str, ...]]:
    """Names of the archive's files. Those that lead out of it, links, and repeated names are ignored and noted."""
    kept: dict[str, None] = {}
    refused: list[str] = []
    for info in archive.infolist():
        if info.is_dir():
            continue
        if _escapes(info) or info.filename in kept:
            refused.append(info.filename)
        else:
            kept[info.filename] = None
    if len(kept) > limits.max_examples:
        raise UserError(f"The archive has more files than the limit of {limits.max_examples:,}.")
    if not refused:
        return list(kept), ()
    what = "entries that leave the archive, are links or come twice were ignored, the first"
    return list(kept), (f"{len(refused):,} {what} '{printable(refused[0])}'",)


def _escapes(info: zipfile.ZipInfo) -> bool:
    name = info.filename.replace("\\", "/")
    absolute = name.startswith("/") or name[1:2] == ":"
    return absolute or ".." in name.split("/") or stat.S_ISLNK(info.external_attr >> 16)
