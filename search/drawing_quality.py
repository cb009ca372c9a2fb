"""The picture of a search: quality against accounted parameters of every trained child, and quality by generation."""

# matplotlib's methods take keyword arguments without types.
# pyright: reportUnknownMemberType=false

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mutant.palette import FAINT, GRID, INK, colour
from mutant.search.drawing import count, percent

MARKERS = "osD^vPXhp<>d"
SPREAD = 0.8
LONGEST_NAME = 22


@dataclass(frozen=True)
class Trial:
    """One trained child: parameters accounted against the pool as it is now, quality 0 to 1.

    `generation` counts over all the task's segments, from 0; `won` marks the path that answers for the task.
    """

    accounted: float
    quality: float
    generation: int
    won: bool = False


@dataclass(frozen=True)
class Series:
    """All of one task: its trials in the order of their places, and the head-only baseline as (accounted, quality)."""

    task: str
    number: int
    trials: tuple[Trial, ...]
    failed: int = 0
    head_only: tuple[float, float] | None = None


def draw(title: str, series: Sequence[Series]) -> Figure:
    """The figure; each series has at least one trial."""
    legend_rows = len(series) + 2
    height = max(4.5, 1.4 + 0.22 * legend_rows)
    figure = Figure(figsize=(11.5, height))
    figure.text(0.25 / 11.5, 1 - 0.32 / height, title, fontsize=13, weight="bold", color=INK, va="center")
    figure.text(0.25 / 11.5, 1 - 0.57 / height, _subtitle(series), fontsize=8.5, color=FAINT, va="center")
    bottom, top = 0.62 / height, 1 - 0.85 / height
    by_size = figure.add_axes((0.062, bottom, 0.36, top - bottom))
    by_generation = figure.add_axes((0.452, bottom, 0.30, top - bottom), sharey=by_size)
    for each in series:
        _draw_sizes(by_size, each)
        _draw_generations(by_generation, each)
    _set_axes(by_size, by_generation, series)
    _draw_legend(figure, series)
    return figure


def _subtitle(series: Sequence[Series]) -> str:
    trained, failed = sum(len(each.trials) for each in series), sum(each.failed for each in series)
    text = f"{trained} trained {'child' if trained == 1 else 'children'} of {len(series)} task{'s' * (len(series) > 1)}"
    return f"{text} · {failed} failed" if failed else text


def _marker(series: Series) -> str:
    return MARKERS[(series.number - 1) % len(MARKERS)]


def _draw_sizes(axes: Axes, series: Series) -> None:
    face, marker = colour(series.number - 1), _marker(series)
    lost = [trial for trial in series.trials if not trial.won]
    axes.scatter(
        [t.accounted for t in lost], [t.quality for t in lost],
        s=26, marker=marker, color=face, alpha=0.55, linewidths=0, zorder=3,
    )  # fmt: skip
    for trial in series.trials:
        if trial.won:
            axes.scatter(
                trial.accounted,
                trial.quality,
                s=90,
                marker=marker,
                color=face,
                edgecolors=INK,
                linewidths=1.4,
                zorder=5,
            )
    if series.head_only is not None:
        axes.scatter(
            *series.head_only, s=64, marker=marker, facecolors="white", edgecolors=face, linewidths=1.5, zorder=4
        )


def _draw_generations(axes: Axes, series: Series) -> None:
    """Children side by side in their generation, and a line that rises with each that is better than all before it."""
    face, marker = colour(series.number - 1), _marker(series)
    xs = _places(series.trials)
    best = list(accumulate((trial.quality for trial in series.trials), max))
    axes.plot(xs, best, color=face, linewidth=1.7, zorder=2, drawstyle="steps-post")
    for x, trial in zip(xs, series.trials, strict=True):
        style: dict[str, Any] = (
            {"s": 60, "edgecolors": INK} if trial.won else {"s": 20, "alpha": 0.55, "edgecolors": "none"}
        )
        axes.scatter(x, trial.quality, marker=marker, color=face, linewidths=1.3, zorder=3 + trial.won, **style)


def _places(trials: Sequence[Trial]) -> list[float]:
    """Where each trial stands: its generation counted from 1, give or take its place among its siblings."""
    born = Counter(trial.generation for trial in trials)
    seen: Counter[int] = Counter()
    places: list[float] = []
    for trial in trials:
        seen[trial.generation] += 1
        share = (seen[trial.generation] - 0.5) / born[trial.generation]
        places.append(trial.generation + 1 + SPREAD * (share - 0.5))
    return places


def _tick_percent(y: float, _: object) -> str:
    return f"{100 * y:.4g}%"


def _tick_size(x: float, _: object) -> str:
    return f"{x / 1e6:.3g} M" if x >= 1e6 else f"{x / 1e3:.3g} k"


def _set_axes(by_size: Axes, by_generation: Axes, series: Sequence[Series]) -> None:
    for axes in (by_size, by_generation):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=FAINT, labelsize=8, labelcolor=INK, which="both")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    by_size.yaxis.set_major_formatter(FuncFormatter(_tick_percent))
    by_size.set_ylabel("quality (validation accuracy)", fontsize=8.5, color=INK)
    by_size.set_xlabel("accounted parameters", fontsize=8.5, color=INK)
    by_generation.tick_params(labelleft=False)
    by_generation.set_xlabel("generation (line: best quality so far)", fontsize=8.5, color=INK)
    by_generation.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    last = max(trial.generation for each in series for trial in each.trials) + 1
    by_generation.set_xlim(0.5, last + 0.5)
    sizes = [trial.accounted for each in series for trial in each.trials]
    sizes += [each.head_only[0] for each in series if each.head_only is not None]
    if min(sizes) > 0 and max(sizes) > 4 * min(sizes):
        by_size.set_xscale("log")
        by_size.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        by_size.xaxis.set_minor_formatter(NullFormatter())
    else:
        by_size.xaxis.set_major_locator(MaxNLocator(6))
    by_size.xaxis.set_major_formatter(FuncFormatter(_tick_size))


def _draw_legend(figure: Figure, series: Sequence[Series]) -> None:
    def mark(marker: str, **style: object) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, **style)  # pyright: ignore[reportArgumentType]

    entries = [
        (
            mark("o", markersize=8, color="white", markeredgecolor=INK, markeredgewidth=1.4),
            "ringed: answers for its task",
        ),
        (
            mark("o", markersize=7, color="white", markeredgecolor=FAINT, markeredgewidth=1.4),
            "hollow: head alone on the root",
        ),
    ]
    for each in series:
        won = next((trial for trial in each.trials if trial.won), None)
        text = f"{each.number} {each.task if len(each.task) <= LONGEST_NAME else each.task[: LONGEST_NAME - 1] + '…'}"
        if won is not None:
            text += f"  {percent(won.quality)}, {count(won.accounted)}"
        entries.append((mark(_marker(each), markersize=7, color=colour(each.number - 1)), text))
    handles, texts = zip(*entries, strict=True)
    place = (0.762, 1 - 0.8 / figure.get_figheight())
    figure.legend(handles, texts, loc="upper left", bbox_to_anchor=place, frameon=False, fontsize=8, labelcolor=INK)
