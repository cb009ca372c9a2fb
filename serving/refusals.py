"""What a server answers when it does not answer: a status of HTTP, words for people, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mutant.tasks.errors import UserError


@dataclass(eq=False)
class Refused(Exception):
    """A request that is not answered. `status` is HTTP's; `headers` go with it."""

    status: int
    message: str
    hint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"


def not_found(error: UserError, hint: str | None = None) -> Refused:
    """404 for what the store does not know. Its hint is for a terminal; `hint` takes its place."""
    return Refused(404, error.message, hint)


def busy(rows: int) -> Refused:
    return Refused(429, f"{rows:,} images are waiting already.", "Try again in a second.", {"Retry-After": "1"})


def late(milliseconds: float) -> Refused:
    return Refused(504, f"No answer within the deadline of {milliseconds:.0f} ms.", "Give it more time, or try again.")


def not_ready(why: str) -> Refused:
    return Refused(503, why, "Try again in a few seconds.", {"Retry-After": "2"})
