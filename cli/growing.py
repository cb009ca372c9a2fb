"""Growing a system: `mutant add`, `mutant evolve`, `mutant resume`, `mutant abandon`."""

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.display import emit, fixed, right, say, table
from mutant.cli.grouping import grouped
from mutant.cli.leaking import leakage_facts, show_leaks
from mutant.cli.metering import metered
from mutant.cli.opening import opened
from mutant.cli.options import Db, EngineOptions, Json, SettingOptions
from mutant.cli.shortfall import UNTRAINED, tell_untrained, untrained
from mutant.cli.stopping import Signals, Stopped
from mutant.cli.watching import watching
from mutant.cli.words import count, duration, percent, plural, short

if TYPE_CHECKING:
    from mutant.search.growth import Engine
    from mutant.search.progress import Progress as Event
    from mutant.search.system import System, TaskSummary
    from mutant.search.workers import Crew
    from mutant.storage.records import Run
    from mutant.storage.store import Store

PANEL = "Growing"
Work = Callable[["System", "Engine"], "tuple[TaskSummary, ...]"]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(grouped(add))
    app.command(rich_help_panel=PANEL)(grouped(evolve))
    app.command(rich_help_panel=PANEL)(grouped(resume))
    app.command(rich_help_panel=PANEL)(abandon)


def add(
    uris: Annotated[
        list[str], typer.Argument(metavar="URI...", help="folder:PATH, sample:NAME, ... See: mutant tasks")
    ],
    settings: SettingOptions,
    engine: EngineOptions,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Call the task so; by default after its source.")
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Train no head on the frozen root to compare.")
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Add tasks and evolve a model for each. The tasks that are in stay as they are."""
    chosen, baseline = engine.over(settings.settings()), not no_baseline

    def work(system: "System", running: "Engine") -> "tuple[TaskSummary, ...]":
        return system.add(uris, name=name, settings=chosen, engine=running, baseline=baseline)

    _grow(db, engine, work, as_json=as_json, fresh=True)


def evolve(
    settings: SettingOptions,
    engine: EngineOptions,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK...]", help="All by default.")] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Spend more segments on tasks that are in already."""
    chosen = engine.over(settings.settings())
    _grow(
        db, engine, lambda system, running: system.evolve(tasks or (), settings=chosen, engine=running), as_json=as_json
    )


def resume(settings: SettingOptions, engine: EngineOptions, db: Db = None, as_json: Json = False) -> None:
    """Go on with the run that was stopped, at the first child that is open, as if nothing had happened.

    How it is worked off may change, and so may its budget. Of the settings only --scale-factor and --compute-factor
    may, for segments that have not begun; others are refused unless they are the run's own.
    """
    chosen = engine.over(settings.settings())
    _grow(db, engine, lambda system, running: system.resume(settings=chosen, engine=running), as_json=as_json)


def abandon(db: Db = None, as_json: Json = False) -> None:
    """Give the unfinished run up, so that another can begin. What it trained stays; its tasks can be evolved."""
    with opened(db) as system:
        store, run_id = system.store, system.abandon()
        run = next(run for run in store.runs() if run.id == run_id)
        done, total = children_done(store, run)
        names = dict.fromkeys(segment.task for segment in run.segments)
        pathless = [name for name in names if store.best(name) is None]
        named = named_database(store)
    if as_json:
        emit({"run": run_id, "done": done, "children": total, "tasks_without_path": pathless})
        return
    say(f"Run {run_id} is given up after {done:,} of {plural(total, 'child', 'children')}; all of them are kept.")
    for name in pathless:
        say(f"Task {name} has no finished path. When its source is there: mutant evolve {name}{named}")


def _grow(db: str | None, options: EngineOptions, work: Work, *, as_json: bool, fresh: bool = False) -> None:
    with opened(db) as system:
        summaries = grow(system, options, work, fresh=fresh)
        failed, named = untrained(system.store), named_database(system.store)
        leaks = {s.task: leakage_facts(system.store, system.best(s.task)) for s in summaries if s.path is not None}
    if as_json:
        emit([asdict(summary) | {"leakage": leaks.get(summary.task)} for summary in summaries])
    else:
        say()
        show(summaries)
        for found in leaks.values():
            show_leaks(found)
        if not failed:
            say("Try: mutant predict TASK IMAGE · mutant show TASK · mutant verify")
    if failed:
        tell_untrained(failed, db=named)
        raise typer.Exit(UNTRAINED)


def grow(system: "System", options: EngineOptions, work: Work, *, fresh: bool) -> "tuple[TaskSummary, ...]":
    """Do the work while it is watched. Raises `Stopped`, which tells what is kept, when the process is asked to end."""
    from mutant.search.growth import Engine
    from mutant.search.progress import SegmentStarted

    options.check()
    store = system.store
    before = len(store.runs()) - (store.unfinished_run() is not None)
    with metered(options) as meters, Signals() as signals:
        try:
            with watching(store, fresh=fresh) as watch:

                def heard(event: "Event") -> None:
                    if isinstance(event, SegmentStarted):  # the workers have started by now
                        signals.arm()
                    if meters is not None:
                        meters.heard(event)
                    watch.heard(event)

                def told(crew: "Crew") -> None:
                    if meters is not None:
                        meters.told(crew)
                    watch.told(crew)

                workers, address, pipeline = options.workers, options.ray_address, options.pipeline
                engine = Engine(
                    workers, address, options.seconds, heard, told, options.cache, pipeline, options.patient,
                    options.share,
                )  # fmt: skip
                with contextlib.redirect_stdout(sys.stderr):  # Ray prints to stdout when a worker dies
                    return work(system, engine)
        except KeyboardInterrupt:
            number = signals.received or signal.SIGINT
        except SystemExit:  # SIGTERM while Ray was starting
            number = signal.SIGTERM
        raise Stopped(number, kept(store, begun=len(store.runs()) > before))


def kept(store: "Store", *, begun: bool) -> str:
    """What a stopped run leaves behind, and how to go on."""
    run = store.unfinished_run()
    if run is None and begun:
        return f"Stopped. The run is finished and all of it is kept. Measure it: mutant evaluate{named_database(store)}"
    if run is None:
        return "Stopped before anything was written."
    done, total = children_done(store, run)
    children = plural(total, "child", "children")
    return f"Stopped. Kept: {done} of {children} of run {run.id}. Resume: mutant resume{named_database(store)}"


def children_done(store: "Store", run: "Run") -> tuple[int, int]:
    """How many children of a run have an outcome, and how many it was to train."""
    records = [record for segment in run.segments for record in store.candidates(segment.key)]
    done = sum(record.state in ("DONE", "FAILED") for record in records)
    return done, (run.children or 0) * len(run.segments)


def named_database(store: "Store") -> str:
    """The option that names this database in the next command; nothing where it would be found without."""
    from mutant.storage.url import database_url, label

    return "" if store.url == database_url() else f" --db {label(store.url)}"


def show(summaries: "Sequence[TaskSummary]") -> None:
    """The table of what tasks reached, with the averages when there are several."""
    table(
        [
            "task",
            right("classes"),
            right("head only"),
            right("evolved"),
            right("parameters"),
            right("shared"),
            right("time"),
            fixed("path"),
        ],
        (
            [
                summary.task,
                str(summary.classes),
                percent(summary.head_only_test_accuracy),
                percent(summary.test_accuracy),
                count(summary.accounted_parameters),
                percent(summary.shared),
                duration(summary.seconds),
                short(summary.path),
            ]
            for summary in summaries
        ),
        total=_averages(summaries) if len(summaries) > 1 else None,
    )
    say("head only, evolved: accuracy on the test split. parameters: accounted, a shared one by its share.")


def mean(values: Sequence[float | None]) -> float | None:
    """The average; None when any value was not measured, since an average of the others would mislead."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _averages(summaries: "Sequence[TaskSummary]") -> list[str]:
    return [
        "average",
        "",
        percent(mean([s.head_only_test_accuracy for s in summaries])),
        percent(mean([s.test_accuracy for s in summaries])),
        count(mean([s.accounted_parameters for s in summaries])),
        percent(mean([s.shared for s in summaries])),
        duration(mean([s.seconds for s in summaries])),
        "",
    ]
