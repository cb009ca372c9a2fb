"""The picture of the model: components as boxes on rows by depth, tasks as routes through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mutant.layout import Box, Row, neighbours_first, rows
from mutant.path import Path, is_adapter, is_block
from mutant.pool import Pool, accounted_parameters
from mutant.serving.views.colours import PRETRAINED, Badge, badges
from mutant.serving.views.tasks import tested
from mutant.storage.store import Store

RowKind = Literal["block", "adapter", "other"]


@dataclass(frozen=True)
class BoxView:
    """One component: `kind` is what it computes; `task` trained it (None: pretrained), with the task's number.

    `runs` are pairs of first and last neighbouring column that use it, both included.
    """

    digest: str
    kind: str
    parameters: int
    task: str | None
    number: int | None
    colour: str
    runs: list[tuple[int, int]]


@dataclass(frozen=True)
class RowView:
    """One slot: `parameters` are the root's own there (None: the root has no such slot). Boxes may be none."""

    slot: str
    name: str
    kind: RowKind
    parameters: int | None
    boxes: list[BoxView]


@dataclass(frozen=True)
class ColumnView:
    """One task's route: the indices of the rows that it passes through, from the image to the answer.

    Accuracies 0 to 1, None where not measured.
    """

    task: str
    number: int
    colour: str
    path: str
    version: str
    validation_accuracy: float
    test_accuracy: float | None
    accounted_parameters: float
    parameters: int
    rows: list[int]


@dataclass(frozen=True)
class ModelView:
    """Rows from the image upwards; columns with those that share most beside each other.

    A system without tasks has one column's width of the root, and no columns.
    """

    root: str
    pretrained_colour: str
    rows: list[RowView]
    columns: list[ColumnView]


def model_view(store: Store) -> ModelView:
    """The grown model as it answers now."""
    pool, marks = store.pool(), badges(store)
    paths = neighbours_first(pool.paths)
    shown = rows(pool.root, paths or [pool.root])
    kinds = {part.digest: part.spec.kind for path in (pool.root, *paths) for part in path.parts}
    tests = tested(store, pool)
    return ModelView(
        store.info.root,
        PRETRAINED,
        [_row(row, pool.root, kinds, marks) for row in shown],
        [_column(path, shown, pool, marks[path.task or ""], tests) for path in paths],
    )


def _row(row: Row, root: Path, kinds: Mapping[str, str], marks: Mapping[str, Badge]) -> RowView:
    kind: RowKind = "block" if is_block(row.slot) else "adapter" if is_adapter(row.slot) else "other"
    at_root = root.slots.get(row.slot)
    boxes = [_box(box, kinds[box.digest], None if box.task is None else marks[box.task]) for box in row.boxes]
    return RowView(row.slot, row.name, kind, None if at_root is None else at_root.n_parameters, boxes)


def _box(box: Box, kind: str, badge: Badge | None) -> BoxView:
    number, colour = (None, PRETRAINED) if badge is None else (badge.number, badge.colour)
    return BoxView(box.digest, kind, box.n_parameters, box.task, number, colour, list(box.runs))


def _column(path: Path, shown: Sequence[Row], pool: Pool, badge: Badge, tests: Mapping[str, float]) -> ColumnView:
    task = path.task or ""
    return ColumnView(
        task=task,
        number=badge.number,
        colour=badge.colour,
        path=path.id,
        version=path.version,
        validation_accuracy=path.quality,
        test_accuracy=tests.get(task),
        accounted_parameters=accounted_parameters(path.parts, task, pool),
        parameters=path.n_parameters,
        rows=[index for index, row in enumerate(shown) if row.slot in path.slots],
    )
