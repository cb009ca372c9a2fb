"""What leaves a system: `mutant plot`, `mutant export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mutant.cli.display import emit, say
from mutant.cli.opening import opened, reading
from mutant.cli.options import Db, Json

PANEL = "Using"


class Kind(StrEnum):
    """What to draw."""

    MODEL = "model"
    QUALITY = "quality"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(plot)
    app.command(rich_help_panel=PANEL)(export)


def plot(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A .png, .svg or .pdf (mutant-KIND.png).")] = None,
    kind: Annotated[
        Kind, typer.Option(help="The grown model by depth and task, or quality against size.")
    ] = Kind.MODEL,
    db: Db = None,
) -> None:
    """Draw the grown model, or quality against size."""
    from mutant.search.plot import plot_model, plot_quality

    file = out or Path(f"mutant-{kind}.png")
    with reading(db) as store:
        if kind is Kind.MODEL:
            plot_model(store, file)
        else:
            plot_quality(store, file)
    say(f"Wrote {file}")


def export(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the system; with --system, the directory.")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A new or empty directory.", show_default=False)
    ] = None,
    whole: Annotated[bool, typer.Option("--system", help="The whole system: mutant export --system DIR.")] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Write a task's model as safetensors, config, model card and lineage, or a whole system: complete by itself."""
    from mutant.tasks.errors import UserError

    if whole == (directory is not None):
        raise UserError(
            "A whole system takes a directory and no task." if whole else "There is no directory to write to.",
            hint="Write: mutant export TASK DIR, or: mutant export --system DIR",
        )
    with opened(db, read_only=True) as system:
        written = system.export(None if whole else task, directory or task)
    files = sorted(file.name for file in written.iterdir())
    if as_json:
        emit({"task": None if whole else task, "directory": str(written), "files": files})
    else:
        say(f"Wrote {directory or task}: {', '.join(files)}")
