"""How fast a search was: counted model FLOPs over the workers' seconds, against what the machine can do."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from mutant.storage.effort import Effort

WHOLE_RUN = "all"
"""Stands for the task where a speed is that of a whole run."""


@dataclass(frozen=True)
class Speed:
    """A segment's or a whole run's speed; `segment` and `visit` are None for a run.

    `seconds` are those of the workers while they trained a child, all that a child costs them among it: compiling,
    reading, validation. Rates are per worker and None where no time was recorded; `share` is that of the peak.
    `waiting` is the share of the seconds in which the device waited for data.
    """

    run: int
    segment: int | None
    task: str
    visit: int | None
    children: int
    seconds: float
    examples: int
    flops: float
    device_seconds: float
    wait_seconds: float
    compile_seconds: float
    compilations: int
    flops_per_second: float | None
    share: float | None
    children_per_minute: float | None
    waiting: float | None


def speeds(efforts: Iterable[Effort], peak: float | None) -> tuple[Speed, ...]:
    """The speed of every segment, each run's followed by the run's own. `peak` is in FLOP/s of one worker.

    >>> [(s.task, s.share) for s in speeds([Effort(1, 0, "a", 1, 2, 4.0, 9, 8e9)], 8e9)]
    [('a', 0.25), ('all', 0.25)]
    """
    by_run: dict[int, list[Effort]] = {}
    for effort in efforts:
        by_run.setdefault(effort.run, []).append(effort)
    found: list[Speed] = []
    for parts in by_run.values():
        found += [_speed(part, peak) for part in parts]
        found.append(replace(_speed(reduce(add, parts), peak), segment=None, task=WHOLE_RUN, visit=None))
    return tuple(found)


def _speed(effort: Effort, peak: float | None) -> Speed:
    timed = effort.seconds > 0
    rate = effort.flops / effort.seconds if timed else None
    return Speed(
        **vars(effort),
        flops_per_second=rate,
        share=None if rate is None or peak is None else rate / peak,
        children_per_minute=60 * effort.children / effort.seconds if timed else None,
        waiting=effort.wait_seconds / effort.seconds if timed else None,
    )
