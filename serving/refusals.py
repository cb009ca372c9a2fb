"""What a server answers when it does not answer: a status of HTTP, words for people, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mutant.storage.refusals import Collected, Conflict, Damaged, Held, Superseded
from mutant.tasks.errors import Unknown, UserError


@dataclass(eq=False)
class Refused(Exception):
    """A request that is not answered. `status` is HTTP's; `headers` go with it."""

    status: int
    message: str
    hint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"


def as_refused(error: UserError) -> Refused:
    """What a client is told of an error: all of it where it is about what was asked, else not even which database.

    404 for a name that nothing has, 410 for what was collected, 409 for what cannot be done now, 503 for the rest.
    """
    match error:
        case Unknown():
            return Refused(404, error.message, error.hint)
        case Collected():
            return Refused(410, "Its weights were collected.")
        case Held() | Superseded():  # they name a process, its host and its user
            return Refused(409, "Another process is changing this system.", "Try again when it has ended.")
        case Conflict():
            return Refused(409, error.message, error.hint)
        case Damaged():
            return Refused(503, "What the database holds of it is damaged.", "See what is wrong: mutant verify")
        case _:
            return unreadable()


def unreadable() -> Refused:
    return not_ready("The database cannot be used now.")


def broken() -> Refused:
    return Refused(500, "Something went wrong in the server.", "Its log has the reason, under the request's id.")


def slow(seconds: float) -> Refused:
    return Refused(408, f"The request's body did not come within {seconds:g} seconds.", None, {"Connection": "close"})


def too_many(images: int, most: int) -> Refused:
    return Refused(413, f"{images:,} images are more than the {most:,} of a request.")


def busy(rows: int) -> Refused:
    return Refused(429, f"{rows:,} images are waiting already.", "Try again in a second.", {"Retry-After": "1"})


def late(milliseconds: float) -> Refused:
    return Refused(504, f"No answer within the deadline of {milliseconds:.0f} ms.", "Give it more time, or try again.")


def not_ready(why: str) -> Refused:
    return Refused(503, why, "Try again in a few seconds.", {"Retry-After": "2"})
