"""How far gradients travel back: end to end, or within windows of groups (arXiv 2010.04116).

The suffix of a child is cut into groups. Within a window of N groups, a group's weights follow the loss that is
furthest ahead: N = 1 is local training, 2 pairwise, and a window of all groups is end-to-end training.
"""

import re
from dataclasses import dataclass

from mutant.tasks.errors import UserError, nearest

END_TO_END = "end-to-end"
NAMED = {"local": 1, "pairwise": 2}
MOST_GROUPS = 1_000


@dataclass(frozen=True)
class Backprop:
    """A window of `window` groups (None: however many there are), and its name."""

    window: int | None
    text: str

    def within(self, groups: int) -> int:
        """The window among `groups` groups.

        >>> parse_backprop("3-wise").within(2), parse_backprop("end-to-end").within(5)
        (2, 5)
        """
        return groups if self.window is None else min(self.window, groups)


def parse_backprop(text: str) -> Backprop:
    """`end-to-end`, `local`, `pairwise` or `N-wise`. Raises `UserError` naming the nearest for anything else.

    >>> parse_backprop("local").window, parse_backprop("3-wise").window, parse_backprop("2-wise").text
    (1, 3, 'pairwise')
    """
    if text == END_TO_END:
        return Backprop(None, text)
    found = re.fullmatch(r"([0-9]{1,9})-wise", text)
    if text not in NAMED and found is None:
        close = nearest(text, (END_TO_END, *NAMED, "3-wise"))
        raise UserError(
            f"backprop = {text!r} is not one of {END_TO_END}, {', '.join(NAMED)} and N-wise.",
            hint=f"Nearest: {close!r}." if close else None,
        )
    window = NAMED[text] if found is None else int(found[1])
    if not 1 <= window <= MOST_GROUPS:
        close = "local" if window < 1 else f"{MOST_GROUPS}-wise"
        raise UserError(
            f"backprop = {text!r} is out of range: 1-wise to {MOST_GROUPS}-wise.", hint=f"Nearest: {close!r}."
        )
    return Backprop(window, next((name for name, n in NAMED.items() if n == window), f"{window}-wise"))
