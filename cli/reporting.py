"""Reports: `mutant report metrics`, `mutant report speed`, `mutant report trace`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutant.cli.display import emit, facts, right, say, table
from mutant.cli.opening import reading
from mutant.cli.options import Db, Json
from mutant.cli.words import UNKNOWN, count, duration, listed, percent, plural, points
from mutant.tasks.errors import UserError

if TYPE_CHECKING:
    from mutant.search.metrics import Metric, MetricsReport
    from mutant.storage.records import Run
    from mutant.storage.store import Store

PANEL = "Looking"
reports = typer.Typer(help="Reports over the whole system.", no_args_is_help=True)
MOST_COLUMNS = 6
"""Tasks whose accuracies the matrix shows; all of them are in the JSON."""


def register(app: typer.Typer) -> None:
    app.add_typer(reports, name="report", rich_help_panel=PANEL)


@reports.command()
def metrics(db: Db = None, as_json: Json = False) -> None:
    """Accuracy matrix, average accuracies, backward transfer, forgetting, and the gain over fine-tuning the root."""
    from mutant.search.metrics import metrics as metrics_of

    with reading(db) as store:
        found = metrics_of(store)
    if as_json:
        emit(asdict(found))
        return
    _show_matrix(found)
    facts(
        {
            "average accuracy": _value(found.average_accuracy, percent),
            "average incremental accuracy": _value(found.average_incremental_accuracy, percent),
            "backward transfer": _value(found.backward_transfer, _points),
            "forgetting": _value(found.forgetting, _points),
            "gain over full fine-tuning": _value(found.gain_over_fine_tuning, _points),
        }
    )


@reports.command()
def speed(db: Db = None, as_json: Json = False) -> None:
    """Model FLOPs per second of every segment and run, as a share of this machine's peak, and children per minute."""
    from mutant import backend
    from mutant.search.speed import speeds
    from mutant.storage.effort import efforts

    with reading(db) as store:
        spent = efforts(store)
    backend.prepare()
    from mutant.peak import measured_peak

    peak = measured_peak()
    found = speeds(spent, peak.flops_per_second)
    if as_json:
        emit({"peak": asdict(peak), "speeds": [asdict(one) for one in found]})
        return
    table(
        [right("run"), "task", right("children"), "time", right("FLOP"), right("FLOP/s"), right("of peak"),
         right("children/min"), right("waiting"), right("programs")],
        (
            [
                str(one.run),
                one.task,
                str(one.children),
                duration(one.seconds),
                count(one.flops),
                count(one.flops_per_second),
                percent(one.share),
                UNKNOWN if one.children_per_minute is None else f"{one.children_per_minute:.1f}",
                percent(one.waiting),
                str(one.compilations),
            ]
            for one in found
        ),
    )  # fmt: skip
    say(
        "Times are the workers' own, rates those of one worker. Waiting: the device, for data. Programs: compiled anew."
    )
    say(f"Peak, measured now by a product of {peak.size:,} x {peak.size:,} in {peak.dtype}: "
        f"{count(peak.flops_per_second)}FLOP/s on {peak.device}")  # fmt: skip


@reports.command()
def trace(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write it there.")] = Path("trace.json"),
    run: Annotated[
        int | None, typer.Option("--run", min=1, metavar="N", help="That run; the latest by default.")
    ] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Write what every worker did when as a trace that Perfetto and Chrome show: of a run that ended or goes on."""
    from mutant.search.trace import Summary, events, write
    from mutant.storage.records import now
    from mutant.storage.worked import timings

    summary, moment = Summary(), now()
    with reading(db) as store:
        chosen = _run(store, run)
        about = {"run": chosen.id, "state": chosen.state, "started_at": chosen.started_at, "written_at": moment}
        write(out, events(timings(store, chosen.id), moment, summary), about)
        done = sum(tally.done for key, tally in store.tallies().items() if key.run == chosen.id)
    left_out = max(0, done - summary.children)
    if as_json:
        emit({"file": str(out), "run": chosen.id, "state": chosen.state, "left_out": left_out, **asdict(summary)})
        return
    total = sum(summary.seconds.values())
    table(
        ["what", right("time"), right("share")],
        (
            [kind, duration(seconds), percent(seconds / total if total else None)]
            for kind, seconds in sorted(summary.seconds.items(), key=lambda item: -item[1])
        ),
    )
    children, rows = plural(summary.children, "child", "children"), plural(len(summary.rows), "worker")
    say(f"Run {chosen.id}: {children} on {rows}, in {out}")
    if left_out:
        say(f"Left out, because nobody recorded their times: {plural(left_out, 'child', 'children')}")
    say("Open it in https://ui.perfetto.dev, which shows it without sending it anywhere, or in chrome://tracing.")


def _run(store: "Store", number: int | None) -> "Run":
    """The run of that number, or the latest."""
    if number is not None:
        return store.run(number)
    runs = store.runs()
    if not runs:
        raise UserError("There is no run yet to trace.", hint="Begin one: mutant add URI")
    return runs[-1]


def _show_matrix(found: "MetricsReport") -> None:
    matrix = found.matrix
    if not matrix.steps:
        return
    shown = matrix.tasks[-MOST_COLUMNS:]
    first = len(matrix.tasks) - len(shown)
    if first:
        say(f"The {plural(len(shown), 'latest task')} of {len(matrix.tasks):,}; --json has all.")
    table(
        [right("step"), "after", *(right(task[:10]) for task in shown)],
        (
            [
                str(number),
                step.task,
                *(percent(value) for value in row[first:]),
                *[""] * (len(matrix.tasks) - len(row)),
            ][: 2 + len(shown)]
            for number, (step, row) in enumerate(zip(matrix.steps, matrix.accuracies, strict=True), 1)
        ),
    )
    say("Test accuracy on each task after each step.")
    if matrix.pathless:
        say(f"Left out, because no path came of them: {listed(matrix.pathless)}")
    say()


def _points(value: float | None) -> str:
    """A difference in points; exactly 0 is told from one that rounds to it."""
    if value == 0:
        return "0 (exactly)"
    return UNKNOWN if value is None else f"{points(value)} points"


def _value(metric: "Metric", written: Callable[[float | None], str]) -> str:
    if metric.value is None:
        return f"not defined: {metric.reason}"
    return written(metric.value) + (f" ({metric.reason})" if metric.reason else "")
