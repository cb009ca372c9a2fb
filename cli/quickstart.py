"""`mutant quickstart`: a system grown over real tasks in minutes, with the proof that the first is not forgotten."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutant.cli.answering import DIFFERENT, show_report
from mutant.cli.display import emit, say, tell
from mutant.cli.growing import grow, mean, show
from mutant.cli.options import MOST_SEED, EngineOptions, Json
from mutant.cli.shortfall import tell_untrained, untrained
from mutant.cli.words import listed, percent, points
from mutant.tasks.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutant.search.growth import Engine
    from mutant.search.system import System, TaskSummary
    from mutant.tasks.load import LoadedTask

ROOT = "efficientnet-lite0"
BLOCKS: int | None = None
IMAGE_SIZE = 64
TASKS = ("sample:digits", "sample:letters", "sample:cyrillic", "sample:textures")
"""Visited in this order: handwriting, printed letters of two alphabets, patches of photographs."""
SETTINGS: Mapping[str, Any] = {
    "preset": "mutant",
    "children": 8,
    "generation_size": 4,
}
MOST_WORKERS = 4
DATABASE, PICTURE, DRAWING = "mutant.db", "example.png", "model.png"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Starting")(quickstart)


def quickstart(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where everything is written.")],
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, metavar="N", help="Seed of all randomness.")] = 0,
    workers: Annotated[
        str | None, typer.Option(metavar="auto|N", help="1 trains in this process, more on Ray (one per core).")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"The weights of {ROOT}, where they cannot be fetched.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no activations; compute them again.")] = False,
    as_json: Json = False,
) -> None:
    """Grow a model over four real tasks, prove that nothing was forgotten, predict, draw. About three minutes."""
    from mutant.search.workers import cores

    if directory.exists() and not directory.is_dir():
        raise UserError(f"'{directory}' is not a directory.", hint="Name a new one: mutant quickstart --dir DIR")
    options = EngineOptions(workers=workers or str(min(cores(), MOST_WORKERS)), no_cache=no_cache)
    options.check()
    directory.mkdir(parents=True, exist_ok=True)
    with _system(directory / DATABASE, seed, file) as system:
        if system.store.tasks() and system.store.unfinished_run() is None and not _pathless(system):
            tell(f"The quick start in {directory} is finished. Start over: rm -r {directory}")
            summaries = system.summary()
        else:
            summaries = _grown(system, options)
        if not as_json:
            _tell_results(summaries)
        failed = untrained(system.store)
        report = system.verify()
        if not as_json:
            _tell_proof(system, report)
        prediction = _predicted(system, directory / PICTURE) if summaries[0].path else None
        drawing = _drawn(system, directory / DRAWING)
    if as_json:
        emit(
            {
                "tasks": [asdict(summary) for summary in summaries],
                "average_gain": _gain(summaries),
                "verify": {"ok": report.ok, **asdict(report)},
                "prediction": prediction,
                "database": str(directory / DATABASE),
                "drawing": drawing,
            }
        )
    else:
        if prediction is not None:
            _tell_prediction(prediction)
        _tell_next(directory, drawing)
    tell_untrained(failed, db=f" --db {directory / DATABASE}")
    if failed or not report.ok:
        raise typer.Exit(DIFFERENT)


def _system(database: Path, seed: int, file: Path | None) -> "System":
    """The system of an earlier call, or a new one from the default root."""
    from mutant.search.config import Settings
    from mutant.search.system import System

    if database.exists():
        system = System.open(str(database))
        try:
            _refuse_another(system, database, seed)
        except BaseException:
            system.close()
            raise
        return system
    tell(f"A new system in {database}, grown from {ROOT} at {IMAGE_SIZE} x {IMAGE_SIZE} pixels")
    settings = Settings(**SETTINGS)
    return System.create(
        str(database), root=ROOT, blocks=BLOCKS, image_size=IMAGE_SIZE, seed=seed, settings=settings, file=file
    )


def _refuse_another(system: "System", database: Path, seed: int) -> None:
    """Raise UserError for a system that is another; tasks may have been added after the quick start's."""
    from mutant.tasks.uri import default_name, parse

    info, tasks = system.store.info, [task.name for task in system.store.tasks()]
    wanted = [default_name(parse(uri)) for uri in TASKS]
    checks = (
        ("root", info.root, ROOT),
        ("image size", info.image_size, IMAGE_SIZE),
        ("seed", info.seed, seed),
    )
    differing = [f"its {what} is {found} instead of {right}" for what, found, right in checks if found != right]
    if tasks and tasks[: len(wanted)] != wanted:
        differing.append(f"its tasks are {listed(tasks)} instead of {listed(wanted)}")
    if differing:
        raise UserError(
            f"'{database}' is not this quick start's: {'; '.join(differing)}.",
            hint="Choose another directory: mutant quickstart --dir DIR",
        )


def _grown(system: "System", options: EngineOptions) -> "tuple[TaskSummary, ...]":
    def work(system: "System", engine: "Engine") -> "tuple[TaskSummary, ...]":
        if system.store.unfinished_run() is not None:
            tell("Going on where the quick start was stopped.")
            return system.resume(engine=engine)
        if system.store.tasks():
            system.evolve(_pathless(system), engine=engine)
            return system.summary()
        return system.add(TASKS, engine=engine)

    return grow(system, options, work, fresh=not system.store.tasks())


def _pathless(system: "System") -> list[str]:
    """Tasks whose run was given up, or failed, before they had a path."""
    return [task.name for task in system.store.tasks() if system.store.best(task.name) is None]


def _gain(summaries: "Sequence[TaskSummary]") -> float | None:
    """How much better the evolved paths are than heads alone, on average over the tasks, on their test splits."""
    evolved, heads = mean([s.test_accuracy for s in summaries]), mean([s.head_only_test_accuracy for s in summaries])
    return None if evolved is None or heads is None else evolved - heads


def _tell_results(summaries: "Sequence[TaskSummary]") -> None:
    say()
    show(summaries)
    say(f"Evolved against a head on the frozen root: {points(_gain(summaries))} points of test accuracy on average.")


def _tell_proof(system: "System", report: Any) -> None:
    say()
    show_report(report)
    first = report.tasks[0]
    after = len(report.tasks) - 1
    if first.verdict == "identical":
        say(f"'{first.task}' was learnt first: its outputs are the same to the bit after {after} more tasks.")


def _predicted(system: "System", picture: Path) -> dict[str, Any]:
    """An image of the first task's test split as a file, with what the model says of it."""
    from mutant.tasks.load import load

    task = system.store.tasks()[0]
    loaded = load(task.uri, name=task.name)
    _write_picture(loaded, picture)
    (prediction,) = system.predict(task.name, [picture], top_k=3)
    truth = task.class_names[int(loaded.test.labels[0])]
    return {"task": task.name, "image": str(picture), "truth": truth, **asdict(prediction)}


def _write_picture(loaded: "LoadedTask", picture: Path) -> None:
    """The first image of the test split, at its own size, as a PNG."""
    from PIL import Image

    with loaded.test.content.reader(loaded.test.limits) as read:
        Image.fromarray(read(0)).save(picture)


def _tell_prediction(prediction: Mapping[str, Any]) -> None:
    say()
    named = ", ".join(f"{label['name']} {percent(label['probability'])}" for label in prediction["labels"])
    say(f"{prediction['image']} from the test split of '{prediction['task']}' is: {prediction['truth']}")
    say(f"The model says: {named}")


def _drawn(system: "System", drawing: Path) -> str | None:
    """The picture of the grown model; None, and why, without the package that draws."""
    from mutant.search.plot import plot_model

    try:
        plot_model(system.store, drawing)
    except MissingExtra as error:
        tell(f"No picture was drawn. {error}")
        return None
    return str(drawing)


def _tell_next(directory: Path, drawing: str | None) -> None:
    database = directory / DATABASE
    say()
    if drawing is not None:
        say(f"The grown model: {drawing}")
    say("Next, with images of your own in FOLDER/class/image:")
    for words in ("add folder:FOLDER", "predict TASK IMAGE", "list"):
        say(f"  {_program()} {words} --db {database}")


def _program() -> str:
    """How this program is called from here: by name where the shell finds it, else by its path."""
    if shutil.which("mutant"):
        return "mutant"
    program = Path(sys.executable).parent / "mutant"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)
