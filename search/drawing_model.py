"""The picture of a grown model: depth upwards, a column and a coloured route per task, one box per component."""

# matplotlib's methods take keyword arguments without types.
# pyright: reportUnknownMemberType=false

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from mutant.layout import Box, Row, rows
from mutant.palette import FAINT, INK, ROOT, colour, on
from mutant.path import Path
from mutant.search.drawing import count, percent

# Inches.
MARGIN, LABELS, TITLE, CAPTION = 0.3, 1.5, 0.75, 0.27
GAP, COLUMN_GAP = 0.068, 0.14
THIN, BRIDGE = 0.14, 0.05
ADAPTER_SHARE = 0.52


@dataclass(frozen=True)
class Column:
    """What stands above a task's route: test accuracy (0 to 1, None where not measured) and accounted parameters."""

    task: str
    number: int
    path: Path
    test: float | None
    accounted: float


@dataclass(frozen=True)
class _Frame:
    """The sizes of one picture in inches: width of a column, and each row's bottom and height."""

    column: float
    bottoms: Mapping[str, float]
    heights: Mapping[str, float]
    top: float
    heading: float

    def left(self, column: int) -> float:
        return LABELS + MARGIN + column * self.column

    def centre(self, column: int) -> float:
        return self.left(column) + (self.column - COLUMN_GAP) / 2

    def middle(self, slot: str) -> float:
        return self.bottoms[slot] + self.heights[slot] / 2


def draw(title: str, root: Path, columns: Sequence[Column], numbers: Mapping[str, int]) -> Figure:
    """The figure. `columns` in the order drawn; `numbers`: every task's place in the order of arrival, from 1."""
    shown = rows(root, [column.path for column in columns] or [root])
    column_width, width = _widths(len(columns))
    captions = _lines(_captions(shown, numbers, routes=bool(columns)), width - 2 * MARGIN)
    frame = _frame(root, shown, columns, column_width, legend=MARGIN + CAPTION * len(captions))
    height = frame.top + frame.heading + TITLE
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.text(MARGIN, height - 0.36, title, fontsize=13, weight="bold", color=INK, va="center")
    axes.text(MARGIN, height - 0.6, _subtitle(root, columns), fontsize=8.5, color=FAINT, va="center")
    _draw_labels(axes, shown, root, frame)
    for row in shown:
        for box in row.boxes:
            _draw_box(axes, row, box, frame, numbers)
    for place, column in enumerate(columns):
        _draw_route(axes, place, column, frame)
        _draw_heading(axes, place, column, frame)
    _draw_legend(axes, captions)
    return figure


def _subtitle(root: Path, columns: Sequence[Column]) -> str:
    paths = [column.path for column in columns] or [root]
    used = {part.digest: part.n_parameters for path in paths for part in path.parts}
    alone = sum(column.path.n_parameters for column in columns)
    tasks = f"{len(columns) or 'no'} task{'s' * (len(columns) != 1)}"
    text = f"{tasks} · {count(sum(used.values()))} parameters in all"
    return f"{text} · {count(alone)} if nothing were shared" if len(columns) > 1 else text


def _widths(columns: int) -> tuple[float, float]:
    """Width of a column and of the whole figure."""
    column = 3.2 if columns <= 1 else 1.8 if columns == 2 else 1.5 if columns <= 4 else 1.28 if columns <= 8 else 1.12
    return column, LABELS + MARGIN + max(1, columns) * column - COLUMN_GAP + MARGIN


def _frame(root: Path, shown: Sequence[Row], columns: Sequence[Column], width: float, *, legend: float) -> _Frame:
    sizes = {part.slot: part.n_parameters for part in root.parts}
    largest = max((n for slot, n in sizes.items() if slot.startswith("block_")), default=1)
    tallest = min(0.4, max(0.22, 6 / max(1, root.depth)))
    bottoms: dict[str, float] = {}
    heights: dict[str, float] = {}
    y = legend + 0.12
    for row in shown:
        share = min(1.0, max((*row.sizes, sizes.get(row.slot, 0))) / largest)
        heights[row.slot] = THIN if row.narrow else THIN + (tallest - THIN) * share**0.5
        bottoms[row.slot] = y
        y += heights[row.slot] + GAP
    lines = max((len(_wrapped(column.task)) for column in columns), default=1)
    return _Frame(width, bottoms, heights, y, 0.6 + 0.17 * lines if columns else 0.0)


def _draw_labels(axes: Axes, shown: Sequence[Row], root: Path, frame: _Frame) -> None:
    root_sizes = {part.slot: part.n_parameters for part in root.parts}
    for row in shown:
        sizes = row.sizes or (root_sizes[row.slot],)
        text = count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])} – {count(sizes[-1])}"
        y = frame.middle(row.slot)
        strength = INK if row.boxes and not row.narrow else FAINT
        axes.text(MARGIN, y, row.name, fontsize=7.5, color=strength, va="center")
        axes.text(LABELS + MARGIN - 0.14, y, text, fontsize=7, color=FAINT, va="center", ha="right")


def _draw_box(axes: Axes, row: Row, box: Box, frame: _Frame, numbers: Mapping[str, int]) -> None:
    face = ROOT if box.task is None else colour(numbers[box.task] - 1)
    bottom, height = frame.bottoms[row.slot], frame.heights[row.slot]
    inset = (frame.column - COLUMN_GAP) * (1 - ADAPTER_SHARE) / 2 if row.narrow else 0.0
    for (_, last), (first, _) in zip(box.runs, box.runs[1:], strict=False):
        left, right = frame.left(last + 1) - COLUMN_GAP, frame.left(first)
        y = bottom + (height - BRIDGE) / 2
        axes.add_patch(Rectangle((left - inset, y), right - left + 2 * inset, BRIDGE, facecolor=face, zorder=1))
    for first, last in box.runs:
        left, right = frame.left(first) + inset, frame.left(last + 1) - COLUMN_GAP - inset
        _rounded(axes, left, bottom, right - left, height, face)
        if box.task is not None:
            axes.text(
                left + 0.07, bottom + height / 2 - 0.005, str(numbers[box.task]),
                fontsize=6.5, weight="bold", color=on(face), va="center", zorder=5,
            )  # fmt: skip


def _rounded(axes: Axes, left: float, bottom: float, width: float, height: float, face: str) -> None:
    style = f"round,pad=0,rounding_size={min(0.05, height / 2):.3f}"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=style, facecolor=face, edgecolor="none"))


def _draw_route(axes: Axes, place: int, column: Column, frame: _Frame) -> None:
    """A line through all that the task uses, with a dot in each component; a dropped block is passed without."""
    x, slots = frame.centre(place), [part.slot for part in column.path.parts]
    ys = [frame.middle(slot) for slot in slots]
    ends = [ys[0], frame.top - GAP + 0.05]
    axes.plot([x, x], ends, color="white", linewidth=4.2, solid_capstyle="round", zorder=3)
    axes.plot([x, x], ends, color=colour(column.number - 1), linewidth=1.9, solid_capstyle="round", zorder=4)
    axes.plot(
        [x] * len(ys), ys, "o", markersize=3.6, zorder=4.5,
        markerfacecolor=colour(column.number - 1), markeredgecolor="white", markeredgewidth=0.9,
    )  # fmt: skip


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name.replace("_", "_ "), 13, max_lines=2, placeholder="…") or [name]


def _draw_heading(axes: Axes, place: int, column: Column, frame: _Frame) -> None:
    x, y = frame.centre(place), frame.top + 0.1
    facts = (
        (f"{count(column.accounted)} accounted", FAINT),
        (f"validation {percent(column.path.quality)}", FAINT),
        (f"test {percent(column.test)}", INK),
    )
    for text, ink in facts:
        axes.text(x, y, text, fontsize=7.5, color=ink, ha="center", va="bottom")
        y += 0.155
    for line in reversed(_wrapped(column.task)):
        axes.text(
            x, y + 0.02, line.replace("_ ", "_"), fontsize=8.8, weight="bold", color=INK, ha="center", va="bottom"
        )
        y += 0.17


@dataclass(frozen=True)
class _Caption:
    """One entry of the legend: what it looks like, what it means."""

    text: str
    face: str
    mark: str = ""
    kind: Literal["box", "adapter", "shared", "route"] = "box"

    @property
    def swatch(self) -> float:
        return {"box": 0.24, "adapter": 0.16, "shared": 0.5, "route": 0.24}[self.kind]

    @property
    def width(self) -> float:
        return self.swatch + 0.1 + 0.058 * len(self.text) + 0.24


def _captions(shown: Sequence[Row], numbers: Mapping[str, int], *, routes: bool) -> list[_Caption]:
    boxes = [box for row in shown for box in row.boxes]
    trainers = {box.task for box in boxes if box.task is not None}
    captions = [_Caption("pretrained root", ROOT)]
    for task in sorted(trainers, key=lambda name: numbers[name]):
        number = numbers[task]
        captions.append(_Caption(f"trained by {task}", colour(number - 1), str(number)))
    if any(row.narrow for row in shown):
        captions.append(_Caption("adapter", FAINT, kind="adapter"))
    if routes:
        captions.append(_Caption("route of a task", FAINT, kind="route"))
    if any(len(box.columns) > 1 for box in boxes):
        captions.append(_Caption("one component, shared by the tasks it spans", FAINT, kind="shared"))
    return captions


def _lines(captions: Sequence[_Caption], width: float) -> list[list[_Caption]]:
    """The captions in as many lines as they need."""
    lines: list[list[_Caption]] = [[]]
    for caption in captions:
        if lines[-1] and sum(c.width for c in [*lines[-1], caption]) > width:
            lines.append([])
        lines[-1].append(caption)
    return lines


def _draw_legend(axes: Axes, lines: Sequence[Sequence[_Caption]]) -> None:
    y = MARGIN + CAPTION * (len(lines) - 1)
    for line in lines:
        x = MARGIN
        for caption in line:
            _draw_swatch(axes, x, y, caption)
            axes.text(x + caption.swatch + 0.08, y, caption.text, fontsize=7.5, color=INK, va="center")
            x += caption.width
        y -= CAPTION


def _draw_swatch(axes: Axes, x: float, y: float, caption: _Caption) -> None:
    height = 0.08 if caption.kind == "adapter" else 0.15
    middle = x + caption.swatch / 2
    if caption.kind == "route":
        axes.plot([middle, middle], [y - 0.1, y + 0.1], color=caption.face, linewidth=1.9, solid_capstyle="round")
        axes.plot([middle], [y], "o", markersize=3.6, color=caption.face, markeredgecolor="white", markeredgewidth=0.9)
        return
    face = ROOT if caption.kind == "shared" else caption.face
    _rounded(axes, x, y - height / 2, caption.swatch, height, face)
    if caption.kind == "shared":
        for place in (x + 0.14, x + 0.36):
            axes.plot([place, place], [y - 0.1, y + 0.1], color="white", linewidth=3.4, zorder=3)
            axes.plot([place, place], [y - 0.1, y + 0.1], color=caption.face, linewidth=1.6, zorder=4)
    if caption.mark:
        ink = on(caption.face)
        axes.text(middle, y - 0.005, caption.mark, fontsize=6.5, weight="bold", color=ink, va="center", ha="center")
