"""Benchmarks of the method: `mutant bench`."""

import contextlib
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.checking import check_suite
from mutant.cli.display import emit, right, say, table, tell
from mutant.cli.grouping import grouped
from mutant.cli.options import EngineOptions, Json
from mutant.cli.stopping import Signals, Stopped
from mutant.cli.words import duration, percent
from mutant.tasks.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutant.search.bench.running import Bench, Cell
    from mutant.search.bench.summary import MethodSummary
    from mutant.search.progress import Progress
    from mutant.search.suites.suite import Suite

PANEL = "Growing"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(grouped(bench))


@dataclass(frozen=True)
class BenchOptions:
    """What is compared, at which budget, and where it is kept."""

    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Of the search. See: mutant presets")] = None
    repeats: Annotated[int, typer.Option(min=1, max=1_000, metavar="N", help="Each with another seed.")] = 1
    budget: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Of each task: 3TF, 12children, 60ds.")] = None
    methods: Annotated[str | None, typer.Option(metavar="A,B,...", help="Only these, or others than the suite's.")] = (
        None
    )
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the suite's files lie.")] = None
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where results are kept (bench-SUITE).")
    ] = None
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="The root's weights; fetch nothing.")] = None
    workers: Annotated[str, typer.Option(metavar="auto|N", help="1 trains in this process, more on Ray.")] = "auto"

    def of(self, suite: "Suite") -> "Bench":
        """The benchmark that a suite becomes by these options, every value checked."""
        from mutant.search.bench.methods import method
        from mutant.search.bench.running import Bench
        from mutant.search.budget import run_budget
        from mutant.search.config import Settings, check

        check(Settings(preset=self.preset), where="the options")
        each = suite.budget if self.budget is None else run_budget(self.budget).text
        suite = replace(suite.at(self.data), preset=self.preset or suite.preset, budget=each)
        names = suite.methods if self.methods is None else [name.strip() for name in self.methods.split(",")]
        chosen = tuple(method(name, suite.preset) for name in dict.fromkeys(filter(None, names)))
        if not chosen:
            raise UserError("--methods names none.", hint=f"The suite's: {','.join(suite.methods)}")
        where = self.directory or Path(f"bench-{suite.name}")
        if where.exists() and not where.is_dir():
            raise UserError(f"'{where}' is not a directory.", hint="Name another: --dir DIR")
        return Bench(suite, chosen, self.repeats, where, self.file)


def bench(
    options: BenchOptions,
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="A name or a .toml file; none: list them.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Run nothing: find the root and every task.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the search with tuned fine-tuning and with its own ablations, at one budget; write a report.

    Interrupted, the same command goes on; more methods and repeats are added to what is there.
    """
    from mutant.search.suites.suite import read_suite

    if suite is None:
        if check:
            raise UserError("--check names no suite.", hint="See: mutant bench")
        _list(as_json=as_json)
        return
    work = options.of(read_suite(suite))
    if check:
        check_suite(work.suite, named=suite, as_json=as_json)
        return
    summaries = _run(work, EngineOptions(workers=options.workers))
    if as_json:
        emit([asdict(one) for one in summaries])
    else:
        _tell(summaries, work.directory)


def _list(*, as_json: bool) -> None:
    """The suites that come with the program."""
    from mutant.search.suites.suite import read_suite, suites

    known = [read_suite(name) for name in suites()]
    if as_json:
        emit([{"suite": s.name, "title": s.title, "root": s.root, "budget": s.budget, "tasks": dict(s.tasks),
               "methods": s.methods} for s in known])  # fmt: skip
        return
    table(
        ["suite", right("tasks"), "root", right("budget"), "what it is"],
        ([s.name, str(len(s.tasks)), s.root, s.budget, s.title] for s in known),
    )
    say("Run one: mutant bench SUITE. Find its tasks first: mutant bench SUITE --check")


def _run(work: "Bench", options: EngineOptions) -> "Sequence[MethodSummary]":
    """Work the benchmark off while it is watched, and write the report."""
    from mutant.search.bench.report import write_report
    from mutant.search.bench.running import open_results, run_bench
    from mutant.search.bench.summary import summarize
    from mutant.search.growth import Engine
    from mutant.search.progress import SegmentStarted

    options.check()
    with Signals() as signals:
        watch = _Watch()

        def heard(event: "Progress") -> None:
            if isinstance(event, SegmentStarted):
                signals.arm()
            watch.heard(event)

        try:
            with contextlib.redirect_stdout(sys.stderr):
                run_bench(work, Engine(options.workers), watch.began, heard)
        except KeyboardInterrupt:
            raise Stopped(signals.received or signal.SIGINT, _KEPT) from None
        except SystemExit:
            raise Stopped(signal.SIGTERM, _KEPT) from None
    results = open_results(work)
    try:
        cells, settings = results.cells(), results.settings()
    finally:
        results.close()
    write_report(cells, settings, work.directory)
    return summarize(cells)


_KEPT = "Stopped. All that is done is kept. Go on with the same command."


def _tell(summaries: "Sequence[MethodSummary]", where: Path) -> None:
    from mutant.search.bench.report import accuracy, comparisons, sentence
    from mutant.search.drawing import count

    table(
        ["method", "kind", right("repeats"), right("test accuracy"), right("parameters"), right("device time")],
        (
            [
                one.name,
                one.group,
                str(one.repeats),
                accuracy(one.accuracy),
                count(one.accounted.mean),
                duration(one.device_seconds.mean),
            ]
            for one in summaries
        ),
    )
    say("test accuracy: average over tasks, % ± deviation over repeats. parameters: accounted, per task.")
    for found in comparisons(summaries):
        if found.search in ("evolution", "mutant"):
            say(sentence(found))
    say(f"Report: {where / 'report.html'} and {where / 'report.md'}")


class _Watch:
    """A line for every method and repeat, and one for every task of it."""

    def __init__(self) -> None:
        self._children = 0

    def began(self, cell: "Cell", number: int, of: int) -> None:
        tell(f"{number + 1} of {of}: {cell.method.name}, repeat {cell.repeat}")

    def heard(self, event: "Progress") -> None:
        from mutant.search import progress as events

        match event:
            case events.SegmentStarted():
                self._children = event.done
            case events.ChildFinished():
                self._children += 1
            case events.SegmentFinished(winner=winner, effort=effort):
                quality = percent(None if winner is None else winner.quality)
                took = "" if effort is None else f", {duration(effort.seconds)} of training"
                tell(f"  {event.task}: {self._children} children, validation {quality}{took}")
            case events.Notice():
                tell(event.text)
            case _:
                pass
