"""What a worker did when: spans of time that follow each other without a gap, on the worker's own clock."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

SpanKind = Literal["load", "prepare", "wait", "activations", "compile", "train", "validate", "pack", "commit"]
"""load: the child's components and data come to the worker; prepare: its first arrays are made; wait: the device waits
for data; activations: frozen ones are computed for it; compile: XLA; train, validate: programs run; pack: what it
learnt is hashed. commit is the controller's: the outcome goes to the database."""

MOST_SPANS = 500
"""A child's spans are at least so small a part of its time, which bounds how many there are."""
LEAST_SECONDS = 0.0005


@dataclass(frozen=True)
class Span:
    """`seconds` of doing one thing, from `start` in seconds since 1970 UTC."""

    kind: SpanKind
    start: float
    seconds: float

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(frozen=True)
class Seat:
    """Where a worker is: its host, its process there, and the kind of its device (`cpu`, `gpu NVIDIA A100`)."""

    host: str
    pid: int
    device: str


@dataclass(frozen=True)
class Account:
    """Where and how a child's time went, for whoever looks; it has no part in what a system means.

    `reused_rows` and `computed_rows` of frozen activations were read from the cache, and not; `held_bytes` is what the
    cache of the worker's host held afterwards.
    """

    seat: Seat
    spans: tuple[Span, ...]
    reused_rows: int = 0
    computed_rows: int = 0
    held_bytes: int = 0

    @property
    def start(self) -> float:
        return self.spans[0].start if self.spans else 0.0


Interval = tuple[float, float]
"""Begin and end."""


def flattened(phases: Sequence[Span], inside: Sequence[Span]) -> tuple[Span, ...]:
    """The `phases`, of which what happened `inside` them takes its part, compiling before computing activations.

    What is computed while a program trains, in another thread, takes nothing from the training.

    >>> [(s.kind, s.seconds) for s in flattened([Span("wait", 0, 4)], [Span("compile", 1, 2)])]
    [('wait', 1), ('compile', 2), ('wait', 1)]
    """
    by_kind = {kind: _union((s.start, s.end) for s in inside if s.kind == kind) for kind in ("activations", "compile")}
    spans: Iterable[Span] = phases
    for kind, intervals in by_kind.items():
        spans = [piece for span in spans for piece in _carved(span, kind, intervals)]  # pyright: ignore[reportArgumentType]
    return tuple(_joined(spans))


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time as disjoint intervals in order."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _carved(span: Span, kind: SpanKind, intervals: Sequence[Interval]) -> Iterator[Span]:
    """`span` with its parts inside of `intervals` (disjoint, in order) as spans of `kind`."""
    at, end = span.start, span.end
    if not (kind == "activations" and span.kind == "train"):
        first = bisect_right(intervals, at, key=lambda one: one[1])
        last = bisect_left(intervals, end, key=lambda one: one[0])
        for interval in intervals[first:last]:
            begin, until = max(at, interval[0]), min(end, interval[1])
            if begin > at:
                yield Span(span.kind, at, begin - at)
            yield Span(kind, begin, until - begin)
            at = until
    if end > at:
        yield Span(span.kind, at, end - at)


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Neighbours of one kind as one span."""
    for kind, group in groupby(spans, key=attrgetter("kind")):
        some = [*group]
        yield Span(kind, some[0].start, some[-1].end - some[0].start)


def coarse(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same time in at most about `MOST_SPANS` spans: short ones become one with those that follow, under the kind
    that has most of it.

    >>> [(s.kind, s.seconds) for s in coarse([Span("wait", 0, 1), Span("train", 1, 2), Span("validate", 3, 2000)])]
    [('train', 3), ('validate', 2000)]
    """
    least = max(LEAST_SECONDS, sum(span.seconds for span in spans) / MOST_SPANS)
    found: list[Span] = []
    gathered: list[Span] = []
    for span in spans:
        long = span.seconds >= least
        if gathered and (long or span.end - gathered[0].start >= 2 * least):
            found.append(_mostly(gathered))
            gathered = []
        if long:
            found.append(span)
        else:
            gathered.append(span)
    if gathered:
        found.append(_mostly(gathered))
    return tuple(_joined(found))


def _mostly(spans: Sequence[Span]) -> Span:
    seconds: dict[SpanKind, float] = {}
    for span in spans:
        seconds[span.kind] = seconds.get(span.kind, 0.0) + span.seconds
    return Span(max(seconds, key=lambda kind: seconds[kind]), spans[0].start, spans[-1].end - spans[0].start)
