"""Answers and proofs: `mutant predict`, `mutant evaluate`, `mutant verify`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.display import emit, fixed, right, say, table
from mutant.cli.opening import opened
from mutant.cli.options import Db, Json
from mutant.cli.words import percent, plural, short
from mutant.tasks.errors import UserError

if TYPE_CHECKING:
    from mutant.predict import Prediction
    from mutant.search.system import System
    from mutant.storage.verify import Report, TaskReport

PANEL = "Using"
DIFFERENT = 1
"""Exit code when a check found a difference."""


def register(app: typer.Typer) -> None:
    for command in (predict, evaluate, verify):
        app.command(rich_help_panel=PANEL)(command)


def predict(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the system: mutant list.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, WebP, ...")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, metavar="K", help="How many classes to name.")] = 3,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Name the most probable classes of images."""
    with opened(db, read_only=True) as system:
        predictions = _predict(system, task, images, top_k)
    if as_json:
        emit([{"image": str(image), **asdict(found)} for image, found in zip(images, predictions, strict=True)])
        return
    table(
        ["image", "class", right("probability")],
        (
            [str(image) if place == 0 else "", label.name, percent(label.probability)]
            for image, found in zip(images, predictions, strict=True)
            for place, label in enumerate(found.labels)
        ),
    )


def _predict(system: "System", task: str, images: Sequence[Path], top_k: int) -> "tuple[Prediction, ...]":
    from mutant.tasks.images import ImageError

    try:
        return system.predict(task, images, top_k=top_k)
    except ImageError:
        _name_culprit(images)
        raise


def _name_culprit(images: Sequence[Path]) -> None:
    """Raise the error of the first image that cannot be decoded, with its name."""
    from mutant.tasks.images import ImageError, decode

    for image in images:
        try:
            decode(image.read_bytes())
        except ImageError as error:
            raise UserError(f"Cannot use image '{image}': {error.message}", hint=error.hint) from error


def evaluate(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="All by default.")] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Measure accuracy on a split of each task's source, and record it."""
    with opened(db) as system:
        found = system.evaluate(tasks or (), split=split)
    if as_json:
        emit([asdict(evaluation) | {"at": evaluation.at.isoformat()} for evaluation in found])
        return
    if not found:
        say("There is no task with a finished path. Next: mutant add URI")
        return
    table(
        ["task", "split", right("examples"), right("accuracy"), fixed("path")],
        ([e.task, e.split, f"{e.examples:,}", percent(e.accuracy), short(e.path)] for e in found),
    )


def verify(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="All by default.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Also all that is stored beside: components and momentum of every path, and the outputs of paths that "
            "were a task's best before or whose task was removed. (Paths that never won have no stored outputs.)",
        ),
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Prove that nothing was forgotten: hashes and every task's stored outputs, computed again, to the bit.

    Exit code 1 when a task or component differs.
    """
    with opened(db, read_only=True) as system:
        report = system.verify(tasks or (), everything=everything)
    if as_json:
        emit({"ok": report.ok, **asdict(report)})
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(DIFFERENT)


def show_report(report: "Report") -> None:
    """A row per task, per earlier path and per damaged component, and the sum of it."""
    columns = [fixed("outputs"), right("values"), right("differing"), "what was found"]
    if report.tasks:
        table(["task", *columns], ([task.task, *_row(task)] for task in report.tasks))
    if report.earlier:
        say()
        say("Paths that are no task's best any more")
        table(["task", fixed("path"), *columns], ([p.task, short(p.path or ""), *_row(p)] for p in report.earlier))
    if report.damaged:
        say()
        say("Damaged weights")
        table(
            [fixed("digest"), "kind", "how"],
            ([short(found.digest), found.spec, found.reason] for found in report.damaged),
        )
    say()
    if report.components_collected:
        say(
            f"Collected by mutant gc, and no damage: {plural(report.components_collected, 'component')} of "
            f"{plural(report.paths_collected, 'path')} that lost."
        )
    checked = [plural(report.components_checked, "component")]
    checked += [plural(report.traces_checked, "trace of momentum", "traces of momentum")] * bool(report.traces_checked)
    say(f"{' and '.join(checked)} checked, {len(report.damaged)} damaged. {_sum(report)}")


def _row(path: "TaskReport") -> list[str]:
    return [path.verdict, f"{path.values:,}", f"{path.differing:,}", _finding(path)]


def _finding(task: "TaskReport") -> str:
    largest = task.largest_difference
    words = [task.reason, task.component or "", f"largest difference {largest:.3g}" if largest else ""]
    return "; ".join(word for word in words if word)


def _intact(report: "Report") -> bool:
    """Whether nothing stored has changed, so that a difference can only come of computing."""
    return not report.damaged and all(
        path.component is None and path.values > 0 for path in report.paths if path.verdict == "different"
    )


def _sum(report: "Report") -> str:
    different = any(path.verdict == "different" for path in report.paths)
    unknown = sum(task.verdict == "not comparable" for task in report.tasks)
    if different and _intact(report):
        return (
            "Every hash holds, so the weights are intact: the back end computes differently here than it did then. "
            "See docs/reproducibility.md."
        )
    if different or report.damaged:
        return "This system is not what it was: restore it from a copy."
    if not report.tasks:
        return "There are no tasks yet."
    if unknown:
        return f"No difference found; {plural(unknown, 'task')} could not be compared."
    return "Every task answers as on the day it was learnt, to the bit."
