"""A run as a trace in the Chrome JSON format, which Perfetto shows: a row per worker, and one for the controller.

Format: "Trace Event Format" of Chromium's tracing: complete events (`X`) and metadata (`M`), times in microseconds,
here since 1970 UTC by the clock of the machine where they were measured.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mutant.mutation import describe
from mutant.spans import Span
from mutant.storage.worked import Timing

Event = dict[str, Any]
CONTROLLER = 1
"""The process of the trace to which commits belong; hosts have the numbers after it."""


@dataclass
class Summary:
    """What a trace holds: its children, rows of workers, and the seconds of all spans by kind."""

    children: int = 0
    rows: list[str] = field(default_factory=list[str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])


def child_name(timing: Timing) -> str:
    """The child's task, generation and number, as `mutant status` names it."""
    return f"{timing.task} {timing.generation}.{timing.child}"


class _Rows:
    """The rows of workers, by host and name. Where a clock was set back, times that would overlap get another row."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._hosts: dict[str, int] = {}
        self._threads: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self._number = 0

    def place(self, host: str, worker: str, device: str, span: tuple[int, int]) -> tuple[int, int, list[Event]]:
        """The process and the thread that `span` is shown in, and the events that name them where they are new."""
        named: list[Event] = []
        if host not in self._hosts:
            self._hosts[host] = CONTROLLER + 1 + len(self._hosts)
            named.append(_named("process_name", self._hosts[host], 0, host))
        process = self._hosts[host]
        rows = self._threads.setdefault((process, worker), [])
        begin, end = span
        for place, (thread, until) in enumerate(rows):
            if until <= begin:
                rows[place] = (thread, end)
                return process, thread, named
        self._number += 1
        again = f" ({len(rows) + 1})" if rows else ""
        title = f"{worker}{again}, {device}" if device else f"{worker}{again}"
        rows.append((self._number, end))
        named.append(_named("thread_name", process, self._number, title))
        self._summary.rows.append(f"{host}: {title}")
        return process, self._number, named


def _named(what: str, process: int, thread: int, name: str) -> Event:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def events(timings: Iterable[Timing], now: datetime, summary: Summary) -> Iterator[Event]:
    """The events of the trace, while `summary` is filled. A child that is being trained lasts until `now`."""
    rows = _Rows(summary)
    yield _named("process_name", CONTROLLER, 0, "controller")
    yield _named("thread_name", CONTROLLER, 0, "commits")
    for timing in timings:
        whole = _whole(timing, now)
        if whole is None:
            continue
        host, device = (timing.seat.host, timing.seat.device) if timing.seat else ("unknown host", "")
        begin, end = whole
        process, thread, named = rows.place(host, timing.worker or "a worker", device, (begin, end))
        yield from named
        place = {"pid": process, "tid": thread}
        name = child_name(timing)
        yield {"name": name, "cat": "child", "ph": "X", "ts": begin, "dur": end - begin, **place, "args": _told(timing)}
        for event in _phases(timing.account.spans if timing.account else (), summary):
            yield event | place
        for event in _phases((timing.commit,) if timing.commit else (), summary):
            yield event | {"pid": CONTROLLER, "tid": 0, "args": {"child": name}}
        summary.children += 1


def _whole(timing: Timing, now: datetime) -> tuple[int, int] | None:
    """Begin and end of a child in microseconds; None where nobody told when it was."""
    if timing.account is not None and timing.account.spans:
        first, last = timing.account.spans[0], timing.account.spans[-1]
        return round(first.start * 1e6), round(last.end * 1e6)
    if timing.began_at is None:
        return None
    begin, end = (round(at.timestamp() * 1e6) for at in (timing.began_at, timing.committed_at or now))
    return begin, max(begin, end)


def _phases(spans: Sequence[Span], summary: Summary) -> Iterator[Event]:
    """Spans that follow each other without a gap. Each ends where the next begins, whatever rounding does to them."""
    edges = [round(span.start * 1e6) for span in spans] + [round(span.end * 1e6) for span in spans[-1:]]
    for span, begin, end in zip(spans, edges, edges[1:], strict=False):
        summary.seconds[span.kind] = summary.seconds.get(span.kind, 0.0) + span.seconds
        yield {"name": span.kind, "cat": "phase", "ph": "X", "ts": begin, "dur": end - begin}


def _told(timing: Timing) -> dict[str, Any]:
    """What is known of a child, beside its times."""
    ended = {"DONE": "trained", "FAILED": f"failed: {timing.failure}"}
    told: dict[str, Any] = {
        "outcome": ended.get(timing.state, "running"),
        "quality": timing.quality,
        "parent": timing.parent,
        "mutations": [describe(mutation) for mutation in timing.mutations],
        "FLOPs": timing.cost.flops,
        "examples": timing.cost.examples,
        "seconds": timing.cost.seconds,
        "device seconds": timing.cost.device_seconds,
        "programs compiled": timing.cost.compilations,
        "segment": timing.segment,
        "attempt": timing.attempt,
    }
    if timing.account is not None:
        told["process"] = timing.account.seat.pid
        told["activations reused"] = timing.account.reused_rows
        told["activations computed"] = timing.account.computed_rows
    return told


def write(file: Path, found: Iterable[Event], about: dict[str, Any]) -> None:
    """Write a trace, whole or not at all; `about` is kept with it."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as out:
            out.write('{"displayTimeUnit": "ms", "otherData": ' + json.dumps(about, default=str))
            out.write(', "traceEvents": [')
            for number, event in enumerate(found):
                out.write(",\n" if number else "\n")
                json.dump(event, out, ensure_ascii=False)
            out.write("\n]}\n")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
