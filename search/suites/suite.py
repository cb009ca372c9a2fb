"""A benchmark suite: which tasks, from which root, at which budget, by which methods."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from mutant.search.budget import Budget, run_budget
from mutant.search.config import Settings, settings_from
from mutant.tasks.errors import UserError, nearest, printable
from mutant.tasks.uri import check_name, parse

FOLDER = FilePath(__file__).parent
DATA = "{data}"
_TEXTS = ("title", "root", "budget", "preset")
_NUMBERS = ("image_size", "blocks")
_KEYS = (*_TEXTS, *_NUMBERS, "methods", "tasks", "settings")


@dataclass(frozen=True)
class Suite:
    """`tasks` by name in the order of arrival, each a URI; `budget` is one task's; `settings` hold for every method.

    A URI that begins below `{data}` lies in a directory that the user names.
    """

    name: str
    title: str
    root: str
    budget: str
    methods: tuple[str, ...]
    tasks: Mapping[str, str]
    image_size: int | None = None
    blocks: int | None = None
    preset: str | None = None
    settings: Settings = field(default_factory=Settings)

    def __hash__(self) -> int:
        return hash((self.name, self.root, self.budget))

    @property
    def run_budget(self) -> Budget:
        """The budget of a run over all tasks."""
        each = run_budget(self.budget)
        return replace(each, amount=each.amount * len(self.tasks))

    def at(self, data: FilePath | None) -> "Suite":
        """The suite with its tasks' files in directory `data`.

        Raises `UserError` when there is no such directory, or when the suite needs one and none is named.
        """
        if not any(DATA in uri for uri in self.tasks.values()):
            return self
        if data is None:
            raise UserError(
                f"Suite '{self.name}' reads its tasks from a directory of yours.", hint="Name it: --data DIRECTORY"
            )
        if not data.is_dir():
            raise UserError(f"There is no directory '{data}' to read the tasks from.", hint="Name it: --data DIRECTORY")
        where = str(data.expanduser().absolute())
        return replace(self, tasks={name: uri.replace(DATA, where) for name, uri in self.tasks.items()})


def suites() -> tuple[str, ...]:
    """Names of the suites that come with the program."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def read_suite(name: str) -> Suite:
    """A suite by its name, or from a TOML file. Raises `UserError` for what cannot be read, naming the nearest."""
    file = FilePath(name)
    if name in suites():
        file = FOLDER / f"{name}.toml"
    elif file.suffix != ".toml":
        close = nearest(name, suites())
        hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(suites())}. Or name a .toml file."
        raise UserError(f"There is no suite '{printable(name)}'.", hint=hint)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read suite '{file}': {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{file}' is not valid TOML: {error}.") from error
    return suite_from(data, name=file.stem, where=str(name))


def suite_from(data: Mapping[str, Any], *, name: str, where: str) -> Suite:
    """A suite from plain data, every value checked. Raises `UserError`."""
    for key in data:
        if key not in _KEYS:
            close = nearest(key, _KEYS)
            hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(_KEYS)}."
            raise UserError(f"Unknown key '{printable(key)}' in suite {where}.", hint=hint)
    for key in ("root", "budget", "methods", "tasks"):
        if key not in data:
            raise UserError(f"Suite {where} has no '{key}'.")
    texts = {key: _typed(data[key], str, key, where) for key in _TEXTS if key in data}
    numbers = {key: _typed(data[key], int, key, where) for key in _NUMBERS if key in data}
    methods = [_typed(one, str, "methods", where) for one in _typed(data["methods"], list, "methods", where)]
    tasks = {
        check_name(task): _typed(uri, str, f"tasks.{task}", where)
        for task, uri in _typed(data["tasks"], dict, "tasks", where).items()
    }
    if not tasks or not methods:
        raise UserError(f"Suite {where} has no {'methods' if tasks else 'tasks'}.")
    for uri in tasks.values():
        parse(uri)
    run_budget(texts["budget"])
    settings = settings_from(_typed(data.get("settings", {}), dict, "settings", where), where=f"suite {where}")
    for key in ("budget", "preset"):
        if key in settings.given():
            raise UserError(f"'{key}' in the settings of suite {where}.", hint="It is a key of the suite itself.")
    title = texts.pop("title", name)
    return Suite(name=name, title=title, methods=tuple(methods), tasks=tasks, settings=settings, **texts, **numbers)


def _typed(value: Any, kind: type, key: str, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}
        raise UserError(f"{key} in suite {where} must be {words[kind]}, not {printable(repr(value))}.")
    return value
