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
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the system: mutant list.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Write a task's model as safetensors, config and model card, complete by itself."""
    with opened(db, read_only=True) as system:
        written = system.export(task, directory)
    if as_json:
        emit({"task": task, "directory": str(written), "files": sorted(file.name for file in written.iterdir())})
    else:
        say(f"Wrote {directory}: {', '.join(sorted(file.name for file in written.iterdir()))}")
