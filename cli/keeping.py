"""What is kept: `mutant rm`, `mutant gc`, `mutant import`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutant.cli.display import emit, fixed, right, say, table
from mutant.cli.opening import opened
from mutant.cli.options import Db, Json
from mutant.cli.words import listed, plural, short

if TYPE_CHECKING:
    from mutant.storage.collection import Collection

PANEL = "Keeping"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(rm)
    app.command(rich_help_panel=PANEL)(gc)
    app.command("import", rich_help_panel=PANEL)(import_)


def rm(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the system: mutant list.")],
    force: Annotated[bool, typer.Option("--force", help="Also when other tasks build on it.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back, if it was not collected since.")] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Remove a task: it answers no more. The others go on unchanged; its lineage stays."""
    with opened(db) as system:
        if undo:
            system.bring_back(task)
        builders = () if undo else system.remove(task, force=force).builders
    if as_json:
        emit({"task": task, "removed": not undo, "builders": [asdict(builder) for builder in builders]})
        return
    if undo:
        say(f"Task {task} is back, with the model that it had.")
        return
    say(f"Removed {task}. Its name stays taken, because lineage bears it.")
    if builders:
        say(f"These build on it and go on unchanged: {listed(builder.task for builder in builders)}.")
    say(f"Bring it back: mutant rm {task} --undo. Free the space of what only it used: mutant gc")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="The blob store is this database's now: the one it was copied from is gone.")
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Drop the weights of paths that lost. Every answer and every row of lineage stays."""
    with opened(db, read_only=dry_run) as system:
        found = system.gc(dry_run=dry_run, adopt=adopt)
    if as_json:
        emit({"dry_run": dry_run, **asdict(found)})
        return
    say(_collected(found, dry_run=dry_run))
    if found.database_bytes is not None:
        before, after = found.database_bytes
        say(f"The weights' storage went from {before:,} to {after:,} bytes.")
    if found.loose_blobs:
        verb = "Would sweep" if dry_run else "Swept"
        say(f"{verb} {plural(found.loose_blobs, 'loose blob')} that a crash had left: {found.loose_bytes:,} bytes.")
    if found.note:
        say(found.note)


def _collected(found: "Collection", *, dry_run: bool) -> str:
    counts = ((found.components, "component"), (found.traces, "momentum trace"), (found.goldens, "golden output"))
    what = ", ".join(plural(number, word) for number, word in counts)
    verb = "Would drop" if dry_run else "Dropped"
    return (
        f"{verb} {what} of {plural(found.paths, 'path')} that lost: {found.freed_bytes:,} bytes; "
        f"{found.kept_bytes:,} bytes of weights stay."
    )


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A directory that mutant export wrote, or a system's database.")
    ],
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="All by default.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name for a single task here.")] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Bring tasks of another system of the same root into this one, with their lineage, all of them or none."""
    with opened(db) as system:
        found = system.import_(source, tasks or (), name=name)
    rows: list[dict[str, Any]] = [asdict(one) for one in found]
    if as_json:
        emit(rows)
        return
    if not rows:
        say(f"There is no task with a finished path in {source}.")
        return
    table(
        ["task", fixed("path"), right("paths"), right("components"), right("shared"), "what happened"],
        (
            [
                one.name,
                short(one.path),
                f"{one.paths:,}",
                f"{one.components:,}",
                f"{one.shared:,}",
                "imported" if one.new else "here already",
            ]
            for one in found
        ),
    )
