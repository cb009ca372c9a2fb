"""`mutant replay`: whether every child of a run follows from the run's log."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.display import emit, fixed, right, say, table
from mutant.cli.opening import opened
from mutant.cli.options import Db, Json
from mutant.cli.words import plural

if TYPE_CHECKING:
    from mutant.search.replay import Replay

DIFFERENT = 1
SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Using")(replay)


def replay(
    run: Annotated[int | None, typer.Option("--run", metavar="N", help="This run alone; all by default.")] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Draw every child of the runs again from their log, and compare parents, mutations and seeds. Nothing is trained.

    Exit code 1 when a child differs.
    """
    with opened(db, read_only=True) as system:
        found = system.replay(run)
    if as_json:
        emit({"ok": all(one.ok for one in found), "runs": [{"ok": one.ok, **asdict(one)} for one in found]})
    else:
        _show(found)
    if not all(one.ok for one in found):
        raise typer.Exit(DIFFERENT)


def _show(found: "tuple[Replay, ...]") -> None:
    if not found:
        say("No run has drawn a child.")
        return
    columns = [right("run"), "drawn", right("children"), right("differing"), "what was found"]
    table(
        columns,
        ([str(one.run), _mode(one), f"{one.children:,}", f"{len(one.differing):,}", _found(one)] for one in found),
    )
    differing = [(one.run, child) for one in found for child in one.differing]
    if differing:
        say()
        columns = [right("run"), "task", right("generation"), right("child"), fixed("differs in")]
        table(
            columns,
            (
                [str(run), child.task, str(child.generation + 1), str(child.child + 1), ", ".join(child.what)]
                for run, child in differing[:SHOWN]
            ),
        )
        more = len(differing) - SHOWN
        if more > 0:
            say(f"And {plural(more, 'child', 'children')} more.")
        say("Another version of mutant may draw otherwise. Were rows changed? See: mutant verify --everything")


def _mode(one: "Replay") -> str:
    return "one by one" if one.asynchronous else "by generations"


def _found(one: "Replay") -> str:
    if one.unknown:
        return f"tasks were taken out or brought back; not drawn again: {', '.join(one.unknown)}"
    return "every child follows from the log" if one.ok else "not what the log gives"
