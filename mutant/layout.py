"""Where everything of a grown model's picture stands: rows by depth, columns by task, components as boxes. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mutant.path import HEAD, Part, Path, adapter_slot, is_adapter, is_block, slot_index

Run = tuple[int, int]
"""First and last column, both included."""


@dataclass(frozen=True)
class Box:
    """One component on its row: the runs of neighbouring columns that use it, and the task that trained it."""

    digest: str
    n_parameters: int
    task: str | None
    runs: tuple[Run, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(column for first, last in self.runs for column in range(first, last + 1))


@dataclass(frozen=True)
class Row:
    """One slot with its components; no box at all when every task has dropped the root's block."""

    slot: str
    boxes: tuple[Box, ...]

    @property
    def name(self) -> str:
        """
        >>> Row("block_03", ()).name, Row("position_embedding", ()).name
        ('block 3', 'position')
        """
        index = slot_index(self.slot)
        if index is not None:
            return f"{'adapter' if is_adapter(self.slot) else 'block'} {index}"
        return self.slot.replace("position_embedding", "position").replace("_", " ")

    @property
    def narrow(self) -> bool:
        """Whether its components are drawn smaller than a block."""
        return is_adapter(self.slot)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({box.n_parameters for box in self.boxes}))


def rows(root: Path, columns: Sequence[Path]) -> tuple[Row, ...]:
    """The rows from the bottom up: the root's slots in its order, adapters above their block, heads last."""
    return tuple(Row(slot, _boxes(slot, columns)) for slot in _slots(root, columns))


def _slots(root: Path, columns: Sequence[Path]) -> Iterator[str]:
    used = {slot for path in columns for slot in path.slots} - {HEAD}
    for slot in root.slots:
        if slot == HEAD:
            continue
        yield slot
        index = slot_index(slot)
        if index is not None and is_block(slot) and adapter_slot(index) in used:
            yield adapter_slot(index)
    if any(HEAD in path.slots for path in columns):
        yield HEAD


def _boxes(slot: str, columns: Sequence[Path]) -> tuple[Box, ...]:
    users: dict[str, list[int]] = {}
    parts: dict[str, Part] = {}
    for column, path in enumerate(columns):
        if slot in path.slots:
            part = path.slots[slot]
            users.setdefault(part.digest, []).append(column)
            parts[part.digest] = part
    return tuple(
        Box(digest, parts[digest].n_parameters, parts[digest].task, runs(used)) for digest, used in users.items()
    )


def runs(columns: Sequence[int]) -> tuple[Run, ...]:
    """Ascending columns as runs of neighbours.

    >>> runs([0, 1, 3])
    ((0, 1), (3, 3))
    """
    starts = [columns[0], *(later for earlier, later in pairwise(columns) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(columns) if later != earlier + 1), columns[-1]]
    return tuple(zip(starts, ends, strict=True))


def neighbours_first(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths with each task beside the earlier one of whose components it uses most, else in order of arrival."""
    children: dict[str | None, list[Path]] = {}
    for index, path in enumerate(paths):
        children.setdefault(_closest(path, paths[:index]), []).append(path)
    return tuple(_walk(None, children))


def _closest(path: Path, earlier: Sequence[Path]) -> str | None:
    """The earlier path that has most trained parameters in common with `path`; None when only the root's are."""
    trained = {part.digest: part.n_parameters for part in path.parts if part.task is not None}
    shared = {other.id: sum(trained.get(part.digest, 0) for part in other.parts) for other in earlier}
    best = max(shared, key=lambda key: shared[key], default=None)
    return best if best is not None and shared[best] > 0 else None


def _walk(key: str | None, children: Mapping[str | None, Sequence[Path]]) -> Iterator[Path]:
    for path in children.get(key, ()):
        yield path
        yield from _walk(path.id, children)
