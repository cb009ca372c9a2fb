"""`mutant bench SUITE --check`: whether every task of a suite can be found, without running anything."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mutant.cli.display import emit, right, say, table
from mutant.cli.words import plural
from mutant.tasks.errors import UserError, printable

if TYPE_CHECKING:
    from mutant.search.suites.suite import Suite
    from mutant.tasks.checking import Checked


@dataclass(frozen=True)
class _Found:
    """A task of the suite with what its URI leads to, or why it leads nowhere."""

    task: str
    uri: str
    checked: "Checked | None"
    error: str | None = None

    def row(self) -> list[str]:
        if self.checked is None:
            return [self.task, "error", "", printable(self.error or "")]
        return [self.task, "ok", f"{self.checked.classes:,}", f"{self.checked.what}, {_splits(self.checked)}"]

    def to_json(self) -> dict[str, Any]:
        checked = self.checked
        return {
            "task": self.task,
            "uri": self.uri,
            "ok": checked is not None,
            "what": None if checked is None else checked.what,
            "classes": None if checked is None else checked.classes,
            "examples": None if checked is None or checked.examples is None else dict(checked.examples),
            "error": self.error,
        }


def check_suite(suite: "Suite", *, named: str, as_json: bool) -> None:
    """Say of every task of a suite, `named` so by the user, what its URI leads to.

    Raises `UserError` when the root or a task cannot be found.
    """
    from mutant.roots import find

    find(suite.root)
    found = [_look(name, uri) for name, uri in suite.tasks.items()]
    if as_json:
        emit([one.to_json() for one in found])
    else:
        table(["task", "", right("classes"), "what it is"], (one.row() for one in found))
    lost = [one.task for one in found if one.checked is None]
    if lost:
        shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        raise UserError(f"{len(lost)} of {plural(len(found), 'task')} cannot be found: {shown}.")
    if not as_json:
        say(f"{plural(len(found), 'task')} found. Run them: mutant bench {named}")


def _look(task: str, uri: str) -> _Found:
    from mutant.tasks.checking import check

    try:
        return _Found(task, uri, check(uri))
    except UserError as error:
        return _Found(task, uri, None, str(error))


def _splits(checked: "Checked") -> str:
    if checked.examples is None:
        return "not prepared here: its splits are not checked"
    return ", ".join(f"{name} {count:,}" for name, count in checked.examples)
