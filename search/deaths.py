"""What ended a child's training from outside, whose fault it was, and whether the child is trained again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mutant.outcome import Failed

Cause = Literal["out of memory", "worker lost", "hung", "preempted"]

ATTEMPTS = 2
"""A child whose worker dies is trained again with the same identity; if that worker dies too, the child has failed."""
PREEMPTIONS = 8
"""Machines that may go away under a child before it is given up; that is not its fault, but some end must be."""


@dataclass(frozen=True)
class Death:
    """Why a worker ended while it trained a child: the `cause`, and what is known of it in words."""

    cause: Cause
    text: str

    @property
    def by_the_child(self) -> bool:
        """Whether the child may have caused it. A machine that went away it did not."""
        return self.cause != "preempted"


def verdict(candidate: str, deaths: Sequence[Death]) -> Failed | None:
    """The failure of a candidate under which so many workers died, in order; None when it is to be trained again.

    >>> lost = Death("worker lost", "killed")
    >>> verdict("c", [lost]), verdict("c", [lost, Death("preempted", "away"), lost]).kind
    (None, 'worker lost')
    """
    own = [death for death in deaths if death.by_the_child]
    if len(own) >= ATTEMPTS:
        causes = ", then ".join(dict.fromkeys(death.cause for death in own))
        return Failed(candidate, own[-1].cause, f"its worker died {len(own)} times ({causes}): {own[-1].text}")
    away = len(deaths) - len(own)
    if away >= PREEMPTIONS:
        return Failed(candidate, "preempted", f"the machine of its worker went away {away} times: {deaths[-1].text}")
    return None
