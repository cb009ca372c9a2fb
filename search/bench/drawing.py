"""The pictures of a benchmark: accuracy against parameters per task, and accuracy task by task."""

# matplotlib's methods take keyword arguments without types.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mutant.palette import COLOURS, FAINT, GRID, INK
from mutant.search.bench.summary import MethodSummary, Spread

_MARKERS = {"search": "o", "ablation": "^", "scale": "o", "baseline": "s", "witness": "D"}
_COLOURS = {"search": COLOURS[0], "ablation": COLOURS[2], "scale": COLOURS[4], "baseline": COLOURS[5], "witness": FAINT}
_WORDS = {
    "search": "search", "ablation": "ablation of the search", "scale": "search, by scale factor",
    "baseline": "tuned baseline", "witness": "witness",
}  # fmt: skip

_FONT = 8
"""Of a method's name, in points."""


@dataclass(frozen=True)
class Box:
    """A rectangle by its lower left corner, in points."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "Box") -> bool:
        beside = self.x < other.x + other.width and other.x < self.x + self.width
        return beside and self.y < other.y + other.height and other.y < self.y + self.height


def draw_sizes(title: str, methods: Sequence[MethodSummary]) -> Figure:
    """Average test accuracy against accounted parameters per task, every method a point with its spread."""
    figure = Figure(figsize=(9, 5.6))
    axes = figure.add_axes((0.09, 0.11, 0.88, 0.76))
    figure.text(0.02, 0.945, title, fontsize=13, weight="bold", color=INK)
    figure.text(0.02, 0.905, "average over tasks; bars: standard deviation over repeats", fontsize=8.5, color=FAINT)
    seen: set[str] = set()
    for method in methods:
        label = None if method.group in seen else _WORDS[method.group]
        seen.add(method.group)
        axes.errorbar(
            method.accounted.mean,
            100 * method.accuracy.mean,
            xerr=method.accounted.deviation or 0,
            yerr=100 * (method.accuracy.deviation or 0),
            fmt=_MARKERS[method.group],
            color=_COLOURS[method.group],
            markersize=7,
            linewidth=1.2,
            label=label,
            zorder=3,
        )
    _join(axes, [m for m in methods if m.group == "scale"], _COLOURS["scale"])
    _join(axes, [m for m in methods if m.group == "baseline"], _COLOURS["baseline"])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(_size))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("accounted parameters per task", fontsize=9, color=INK)
    axes.set_ylabel("test accuracy, %", fontsize=9, color=INK)
    _style(axes)
    _name(axes, methods)
    axes.legend(frameon=False, fontsize=8, loc="best", labelcolor=INK)
    return figure


def draw_tasks(title: str, methods: Sequence[MethodSummary], shown: Sequence[str]) -> Figure:
    """Test accuracy of the `shown` methods on every task, a row each."""
    chosen = [m for name in shown for m in methods if m.name == name]
    tasks = list(chosen[0].by_task)
    height = 1.3 + 0.42 * len(tasks)
    figure = Figure(figsize=(9, height))
    axes = figure.add_axes((0.17, 0.62 / height, 0.80, 1 - 1.45 / height))
    figure.text(0.02, 1 - 0.32 / height, title, fontsize=13, weight="bold", color=INK)
    for index, method in enumerate(chosen):
        spreads = [method.by_task.get(task, Spread(float("nan"))) for task in tasks]
        offset = 0.16 * (index - (len(chosen) - 1) / 2)
        axes.errorbar(
            [100 * spread.mean for spread in spreads],
            [place + offset for place in range(len(tasks))],
            xerr=[100 * (spread.deviation or 0) for spread in spreads],
            fmt=_MARKERS[method.group],
            color=COLOURS[index % len(COLOURS)],
            markersize=6,
            linewidth=1.2,
            label=method.name,
            zorder=3,
        )
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %", fontsize=9, color=INK)
    _style(axes)
    axes.legend(
        frameon=False, fontsize=8, ncol=4, loc="lower left", bbox_to_anchor=(0, 1.0), labelcolor=INK, borderaxespad=0.2
    )
    return figure


def apart(labels: Sequence[Box], others: Sequence[Box]) -> list[float]:
    """New y of the labels, so that none lies over another or over `others`: from the top down, each is moved to below
    what it would lie on.

    >>> apart([Box(0, 10, 5, 8), Box(20, 10, 5, 8), Box(1, 12, 5, 8), Box(2, 3, 5, 8)], [Box(20, -9, 2, 2)])
    [4, 10, 12, -4]
    >>> apart([Box(0, 0, 5, 8)], [Box(4, 4, 2, 2), Box(4, -3, 2, 2), Box(9, -10, 2, 2)])
    [-11]
    """
    placed: dict[int, Box] = {}
    for index in sorted(range(len(labels)), key=lambda index: -labels[index].y):
        box = labels[index]
        for other in sorted((*placed.values(), *others), key=lambda other: -other.y):
            if box.meets(other):
                box = replace(box, y=other.y - box.height)
        placed[index] = box
    return [placed[index].y for index in range(len(labels))]


def _name(axes: Axes, methods: Sequence[MethodSummary]) -> None:
    """Each method's name at its point, the axes' scales being as they will be."""
    axes.autoscale_view()
    points = [(m.accounted.mean, 100 * m.accuracy.mean) for m in methods]
    in_points = axes.transData.transform(points) * 72 / axes.figure.dpi
    at = [(float(x), float(y)) for x, y in in_points]
    labels = [
        Box(x + 6, y + 5, 0.62 * _FONT * len(m.name), 1.25 * _FONT) for (x, y), m in zip(at, methods, strict=True)
    ]
    moved = apart(labels, [Box(x - 4, y - 4, 8, 8) for x, y in at])
    for method, point, (_, y), to in zip(methods, points, at, moved, strict=True):
        far = abs(to - y) > 2 * _FONT
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None
        axes.annotate(
            method.name, point, xytext=(6, to - y), textcoords="offset points", fontsize=_FONT, color=INK,
            arrowprops=line, zorder=4,
        )  # fmt: skip


def _join(axes: Axes, methods: Sequence[MethodSummary], colour: str) -> None:
    """A line through methods in the order of their size."""
    ordered = sorted(methods, key=lambda one: one.accounted.mean)
    xs, ys = [m.accounted.mean for m in ordered], [100 * m.accuracy.mean for m in ordered]
    axes.plot(xs, ys, color=colour, linewidth=0.9, alpha=0.6, zorder=2)


def _size(x: float, _: object) -> str:
    return f"{x / 1e6:.3g} M" if x >= 1e6 else f"{x / 1e3:.3g} k"


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=8, labelcolor=INK, which="both")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
