"""Baselines to compare with: `mutant baseline`."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.display import emit, right, say, table, tell
from mutant.cli.grouping import grouped
from mutant.cli.opening import opened
from mutant.cli.options import Db, EngineOptions, Json
from mutant.cli.words import count, duration, percent
from mutant.tasks.errors import UserError, printable

if TYPE_CHECKING:
    from mutant.outcome import Outcome

PANEL = "Growing"
UNTRAINED = 1


class Kinds(StrEnum):
    full = "full"
    head = "head"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(grouped(baseline))


def baseline(
    engine: EngineOptions,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="All by default.")] = None,
    kind: Annotated[Kinds, typer.Option(help="Train the whole root, or a new head alone.")] = Kinds.full,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Train tasks from the root without the search, at the budget that it spent on them, to compare with."""
    from mutant.search.growth import Engine

    engine.check()
    if engine.metrics_port is not None:
        raise UserError("--metrics-port is for add, evolve and resume.", hint="A baseline has no metrics.")
    with opened(db) as system:
        running = Engine(
            engine.workers,
            engine.ray_address,
            cache=engine.cache,
            pipeline=engine.pipeline,
            patience=engine.patient,
            share=engine.share,
        )
        found = system.baseline(tasks or (), kind=kind.value, engine=running, heard=_tell)
        missing = [name for name in tasks or () if name not in {one.task for one in found}]
    if as_json:
        emit([asdict(one) | {"at": one.at.isoformat()} for one in found])
    else:
        table(
            ["task", "baseline", right("val"), right("test"), right("parameters"), right("time")],
            (
                [
                    one.task,
                    one.name,
                    percent(one.validation_accuracy),
                    percent(one.test_accuracy),
                    count(one.n_parameters),
                    duration(one.cost.seconds),
                ]
                for one in found
            ),
        )
        say("Next: mutant report metrics")
    if missing or not found:
        tell(f"No candidate could be trained: {', '.join(missing) or 'of any task'}", style="bold red")
        raise typer.Exit(UNTRAINED)


def _tell(task: str, done: int, of: int, outcome: "Outcome") -> None:
    from mutant.outcome import Trained

    came = (
        f"{percent(outcome.path.quality):>6}"
        if isinstance(outcome, Trained)
        else f"failed: {printable(outcome.reason)}"
    )
    tell(f"  {task} {done:,}/{of:,}  {came}  {duration(outcome.cost.seconds)}")
