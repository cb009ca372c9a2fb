"""The colours of all pictures: one per task, which colour-blind people tell apart, and the ink that reads on each."""

INK = "#22262b"
FAINT = "#6d747c"
GRID = "#e4e7ea"
ROOT = "#c9ced4"
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
    "#332288", "#c9b400", "#882255", "#44aa99", "#999933", "#aa4499",
)  # fmt: skip
"""Okabe and Ito's palette and, beyond it, Tol's muted one; text and numbers repeat what the colours say."""


def colour(index: int) -> str:
    """The colour of the task that came as number `index` from 0; from the 13th on colours repeat."""
    return COLOURS[index % len(COLOURS)]


def on(background: str) -> str:
    """Black or white, whichever reads better on a colour (WCAG's relative luminance).

    >>> on("#332288"), on("#e69f00")
    ('white', '#22262b')
    """
    red, green, blue = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.24 else "white"
