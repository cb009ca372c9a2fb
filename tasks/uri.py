"""The grammar of task URIs: `scheme:target?option=value&option=value`.

Options are written as they are meant: `+` is a plus, and only `%25`, `%26` and `%3F` (`%`, `&`, `?`) are escapes,
so that `?train=train[:90%]+extra` needs none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mutant.tasks.errors import UserError, nearest, unknown
from mutant.tasks.task import SPLIT_NAMES

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tfds": ("image", "label", "data_dir"),
    "folder": (),
    "csv": ("image", "label", "split"),
    "arrays": ("images", "labels", "class_names"),
    "hf": ("image", "label", "config", "revision"),
    "sample": ("size",),
}
"""The options of each scheme, besides `train`, `validation`, `test` and `untrained`, which all have."""
UNTRAINED = "untrained"
"""The option that says what becomes of a class without a training example."""

FILE_SCHEMES = frozenset({"folder", "csv", "arrays"})
_EXAMPLES = "folder:PATH, csv:FILE, arrays:FILE.npz, tfds:NAME, hf:ORG/NAME or sample:NAME"
_ESCAPED = re.compile(r"%(25|26|3[Ff])")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class TaskURI:
    """A parsed task URI. `str()` gives the canonical form, which parses to an equal value.

    >>> str(parse("csv:pets.csv?label=kind&image=file"))
    'csv:pets.csv?image=file&label=kind'
    """

    scheme: str
    target: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = "&".join(f"{name}={_escape(value, '&')}" for name, value in self.options)
        return f"{self.scheme}:{_escape(self.target, '?')}" + (f"?{options}" if options else "")

    def option(self, name: str) -> str | None:
        """The option's value, or None."""
        return dict(self.options).get(name)

    def resolved(self) -> TaskURI:
        """The same task from any working directory: a file's path made absolute, `~` expanded."""
        if self.scheme not in FILE_SCHEMES:
            return self
        return TaskURI(self.scheme, str(Path(self.target).expanduser().absolute()), self.options)


def parse(text: str) -> TaskURI:
    """The URI written in `text`. Raises UserError that names the nearest scheme or option.

    >>> parse("sample:digits").target
    'digits'
    """
    scheme, colon, rest = text.strip().partition(":")
    if not colon or not scheme:
        raise _no_scheme(text)
    if scheme not in OPTIONS:
        best = nearest(scheme, OPTIONS)
        hint = f"Nearest: '{best}:'." if best else f"Write {_EXAMPLES}."
        raise UserError(f"Unknown kind of task '{scheme}:' in '{text}'.", hint=hint)
    target, _, query = rest.partition("?")
    target = _unescape(target)
    if not target or "\0" in target:
        raise UserError(f"The task URI '{text}' names nothing after '{scheme}:'.", hint=f"Write {_EXAMPLES}.")
    return TaskURI(scheme, target, _parse_options(scheme, query))


def portable(text: str) -> str:
    """The URI `text` without the directories of this machine: a file by its name, no `data_dir`.

    >>> portable("csv:/home/ann/pets/pets.csv?label=kind"), portable("tfds:mnist?data_dir=/data/tfds")
    ('csv:pets.csv?label=kind', 'tfds:mnist')
    """
    uri = parse(text)
    target = Path(uri.target).name or uri.target if uri.scheme in FILE_SCHEMES else uri.target
    return str(TaskURI(uri.scheme, target, tuple(option for option in uri.options if option[0] != "data_dir")))


def default_name(uri: TaskURI) -> str:
    """A short name for the task: of the file, data set or sample, in lower case.

    >>> default_name(parse("folder:data/Garden Birds.zip"))
    'garden-birds'
    """
    target = uri.target
    if uri.scheme in FILE_SCHEMES:
        path = Path(target).expanduser().absolute()
        target = path.name
        for suffix in (".zip", ".csv", ".tsv", ".npz", ".gz"):
            target = target.removesuffix(suffix)
    elif uri.scheme == "tfds":
        target = target.split(":")[0]
    elif uri.scheme == "hf":
        target = target.rsplit("/", 1)[-1]
    slug = re.sub(r"[^a-z0-9._]+", "-", target.casefold()).strip("-._")[:64]
    return slug or uri.scheme


def check_name(name: str) -> str:
    """`name` itself when it can name a task: lower-case letters, digits, `.`, `_`, `-`; at most 64."""
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"A task cannot be called '{name}'.",
            hint="A name has lower-case letters, digits, '.', '_' and '-', starts with a letter or digit, at most 64.",
        )
    return name


def _parse_options(scheme: str, query: str) -> tuple[tuple[str, str], ...]:
    known = (*SPLIT_NAMES, UNTRAINED, *OPTIONS[scheme])
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if name not in known:
            raise unknown(f"option of {scheme}:", name, known)
        if name in options:
            raise UserError(f"The option '{name}' is given twice.")
        if not equals or not value:
            raise UserError(f"The option '{name}' has no value.", hint=f"Write {name}=VALUE.")
        options[name] = _unescape(value)
    return tuple(sorted(options.items()))


def _no_scheme(text: str) -> UserError:
    word = text.strip()
    path = Path(word).expanduser()
    try:
        found = path.exists() and bool(word)
    except (OSError, ValueError):
        found = False
    if found and not path.is_char_device():
        suffixes = {".csv": "csv", ".tsv": "csv", ".npz": "arrays", ".gz": "arrays"}
        return UserError(
            f"'{word}' is no task URI.", hint=f"Did you mean {suffixes.get(path.suffix, 'folder')}:{word} ?"
        )
    return UserError(f"'{word}' is no task URI.", hint=f"Write {_EXAMPLES}. See: mutant tasks")


def _escape(text: str, special: str) -> str:
    text = re.sub(r"%(?=25|26|3[Ff])", "%25", text)
    return text.replace(special, "%26" if special == "&" else "%3F")


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)
