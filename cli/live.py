"""A run as it goes on: `mutant status --watch`. It reads the database alone, so it can look on from anywhere."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from mutant.cli.display import console, laid_out, right, say, tell
from mutant.cli.stopping import Stopped
from mutant.cli.words import UNKNOWN, duration, percent, plural
from mutant.tasks.errors import UserError, printable

if TYPE_CHECKING:
    from mutant.storage.store import Store
    from mutant.storage.worked import Working

ROWS_BESIDES = 10
"""Lines of a terminal that the table of workers leaves to the rest."""


def watch(store: "Store", *, every: float, as_json: bool) -> None:
    """Show the run that goes on, or the latest, again every so many seconds until Ctrl-C."""
    with _ended_by_signals():
        if as_json:
            _repeat(store, every, _emit_line)
        elif not console().is_terminal:
            _repeat(store, every, _Changes().show)
        else:
            with Live(console=console(), auto_refresh=False) as live:
                _repeat(store, every, lambda found: live.update(picture(found, console().height), refresh=True))


@contextmanager
def _ended_by_signals() -> Generator[None]:
    """Ctrl-C is how a watch ends, SIGTERM another way; a reader of our output that has gone is a third."""

    def terminated(number: int, _: FrameType | None) -> None:
        raise Stopped(number, "Stopped.")

    handlers = {signal.SIGTERM: terminated, signal.SIGINT: signal.default_int_handler}  # a shell's & ignores the latter
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes nowhere
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _repeat(store: "Store", every: float, show: Callable[[dict[str, Any]], None]) -> None:
    """Look and show. A database that cannot be read for a while is told once, and looked at again."""
    trouble = ""
    show(live_facts(store))
    while True:
        time.sleep(every)
        try:
            found = live_facts(store)
        except UserError as error:
            if error.message != trouble:
                tell(f"{error.message} Looking again every {every:g} s.")
            trouble = error.message
            continue
        trouble = ""
        show(found)


def live_facts(store: "Store") -> dict[str, Any]:
    """What goes on at this moment, as plain data: the run's children by state, and every worker of its controller."""
    from mutant.storage.records import now
    from mutant.storage.worked import workers

    moment, holder = now(), store.holder()
    runs, tallies = store.runs(), store.tallies()
    run = next((run for run in runs if run.state == "open"), runs[-1] if runs else None)
    states: Counter[str] = Counter()
    segments: list[dict[str, Any]] = []
    for segment in run.segments if run is not None else ():
        tally = tallies.get(segment.key)
        if tally is not None:
            states.update(tally.states)
        told = {"task": segment.task, "state": segment.state, "children": run.children if run else None}
        segments.append(told | {"done": tally.done if tally else 0, "best": tally.best if tally else None})
    return {
        "at": moment.isoformat(),
        "at_work": None if holder is None else {"process": str(holder.process), "purpose": holder.purpose},
        "run": None if run is None else run.id,
        "state": None if run is None else run.state,
        "candidates": dict(sorted(states.items())),
        "segments": segments,
        "workers": [] if holder is None else [_worker(one, moment) for one in workers(store, holder.token)],
    }


def _worker(one: "Working", moment: datetime) -> dict[str, Any]:
    seat, since = one.seat, one.running_since
    rows = one.reused_rows + one.computed_rows
    return {
        "worker": one.name,
        "host": seat.host if seat else None,
        "pid": seat.pid if seat else None,
        "device": seat.device if seat else None,
        "since": one.since.isoformat(),
        "running": None if one.task is None else f"{one.task} {one.generation}.{one.child}",
        "running_since": None if since is None else since.isoformat(),
        "running_seconds": None if since is None else round(max(0.0, (moment - since).total_seconds()), 3),
        "done": one.done,
        "failed": one.failed,
        "device_seconds": round(one.device_seconds, 3),
        "utilisation": one.utilisation(moment),
        "reused_rows": one.reused_rows,
        "computed_rows": one.computed_rows,
        "cache_hits": one.reused_rows / rows if rows else None,
    }


def _emit_line(found: dict[str, Any]) -> None:
    """One document per look, on a line of its own."""
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def picture(found: dict[str, Any], height: int) -> Group:
    """What a terminal of so many lines shows."""
    busy_first = sorted(found["workers"], key=lambda one: one["running"] is None)
    shown = busy_first[: max(3, height - ROWS_BESIDES - len(found["segments"]))]
    parts: list[Any] = [Text(_headline(found)), Text(_by_state(found)), Text()]
    parts += [Text(f"  {_segment_words(segment)}") for segment in found["segments"]]
    if shown:
        columns = ["worker", "host", "device", "trains", right("since"), right("children"), right("busy"),
                   right("cached")]  # fmt: skip
        parts += [Text(), laid_out(columns, map(_row, shown), width=console().width)]
    if len(shown) < len(busy_first):
        parts.append(Text(f"and {len(busy_first) - len(shown):,} more workers"))
    return Group(*parts)


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["worker"],
        one["host"] or UNKNOWN,
        one["device"] or UNKNOWN,
        one["running"] or "nothing",
        duration(one["running_seconds"]),
        f"{one['done'] + one['failed']:,}",
        percent(one["utilisation"]),
        percent(one["cache_hits"]),
    ]


def _headline(found: dict[str, Any]) -> str:
    if found["run"] is None:
        return "No run yet. Begin one: mutant add URI"
    at_work = found["at_work"]
    who = f"{at_work['process']} ({at_work['purpose']})" if at_work else "nobody is at work"
    return f"{_time(found)}  run {found['run']}, {found['state']}: {printable(who)}"


def _time(found: dict[str, Any]) -> str:
    return f"{datetime.fromisoformat(found['at']).astimezone():%H:%M:%S}"


def _by_state(found: dict[str, Any]) -> str:
    states = ", ".join(f"{number:,} {state.lower()}" for state, number in found["candidates"].items())
    return f"children: {states or 'none yet'}"


def _segment_words(segment: dict[str, Any]) -> str:
    children = UNKNOWN if segment["children"] is None else f"{segment['children']:,}"
    best = f", best {percent(segment['best'])}" if segment["best"] is not None else ""
    return f"{printable(segment['task'])}: {segment['done']:,} of {children} children, {segment['state']}{best}"


class _Changes:
    """A line for everything that is not as it was at the look before."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def show(self, found: dict[str, Any]) -> None:
        """Print what has changed."""
        at = _time(found)
        told = {"": f"{_headline(found).partition('  ')[2] or _headline(found)}", "children": _by_state(found)}
        told |= {f"segment {number}": _segment_words(one) for number, one in enumerate(found["segments"])}
        told |= {one["worker"]: _worker_words(one) for one in found["workers"]}
        for name, words in told.items():
            if self._before.get(name) != words:
                say(f"{at}  {words}")
        self._before = told
        sys.stdout.flush()


def _worker_words(one: dict[str, Any]) -> str:
    where = f" on {one['host']}, {one['device']}" if one["host"] else ""
    done = plural(one["done"] + one["failed"], "child", "children")
    return f"{one['worker']}{where}: trains {one['running'] or 'nothing'}, {done} before"
