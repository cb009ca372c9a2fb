"""What became of a candidate: trained with a quality, or failed with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from mutant.component import Arrays, Component
from mutant.path import Path
from mutant.spans import Account

FailureKind = Literal["out of memory", "not finite", "worker lost", "hung", "preempted", "error"]
"""Why a child failed: memory that ran out; a loss that is not finite; a worker that was killed, that made no progress,
or whose machine went away; an error of the training itself.
"""


@dataclass(frozen=True)
class Cost:
    """What training took: wall seconds, examples trained on, counted model FLOPs above the frozen prefix.

    Of the wall seconds `device_seconds` were spent inside device programs, `wait_seconds` while the device waited for
    data and `compile_seconds` on `compilations` programs that no cache held. They depend on the machine and on what
    ran before; examples and FLOPs do not.
    """

    seconds: float = 0.0
    examples: int = 0
    flops: float = 0.0
    device_seconds: float = 0.0
    wait_seconds: float = 0.0
    compile_seconds: float = 0.0
    compilations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def on_device(self) -> float:
        """Seconds in device programs; all seconds where nobody measured (a failed child, one of an older version)."""
        return self.device_seconds or self.seconds


@dataclass(frozen=True, eq=False)
class Trained:
    """A candidate's path with the components that its training made, by digest; what it shares is not repeated.

    `validations` holds the accuracy (0 to 1) of each validation in order; the path's quality is the best of them.
    `traces` holds the optimizer's momentum per trained part, by trace digest. `account` tells where its time went.
    """

    path: Path
    components: Mapping[str, Component]
    traces: Mapping[str, Arrays]
    validations: tuple[float, ...]
    cost: Cost = Cost()
    account: Account | None = None


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be trained; the generation goes on without it."""

    candidate: str
    kind: FailureKind
    reason: str
    cost: Cost = Cost()
    account: Account | None = None


Outcome = Trained | Failed
