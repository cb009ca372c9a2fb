"""Removing a task: it answers no more, and nothing that others use is touched."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update
from sqlalchemy.orm import aliased

from mutant.storage import catalog, runs, weights
from mutant.storage.exclusive import exclusive
from mutant.storage.facts import load_golden, write_event
from mutant.storage.lineage import ancestry
from mutant.storage.paths import load_path
from mutant.storage.records import now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import PartRow, PathRow, TaskRow
from mutant.storage.store import Store


@dataclass(frozen=True)
class Builder:
    """An active task that builds on another: whether its path descends from one of the other's, and the slots in which
    it uses components that the other trained."""

    task: str
    descends: bool
    slots: tuple[str, ...]


@dataclass(frozen=True)
class Removal:
    """What `remove` did. `builders` go on unchanged."""

    task: str
    builders: tuple[Builder, ...]


def remove(store: Store, task: str, *, force: bool = False) -> Removal:
    """Take a task out of what answers. Its rows of lineage stay, and its weights until the next `gc`.

    Raises Unknown for an unknown task, and Conflict, with nothing changed, while a run is unfinished, and, without
    `force`, when other tasks build on it.
    """
    with store.writing() as connection:
        key = catalog.task_key(connection, task)
        exclusive(connection, f"removing '{task}'")
        builders = find_builders(connection, task, key)
        if builders and not force:
            raise Conflict(
                f"Other tasks build on '{task}': {_told(builders)}. They would go on unchanged, "
                f"because the components that they use stay.",
                hint=f"Remove it all the same: mutant rm {task} --force",
            )
        connection.execute(update(TaskRow).where(TaskRow.key == key).values(removed_at=now()))
        write_event(connection, None, "task removed", {"task": task})
    return Removal(task, builders)


def undo(store: Store, task: str) -> None:
    """Bring a removed task back, as it was.

    Raises Unknown for an unknown task, Conflict for one that is not removed or was never learnt here, and Collected
    when its weights have been collected since.
    """
    with store.writing() as connection:
        row = connection.execute(select(TaskRow.key, TaskRow.removed_at).where(TaskRow.name == task)).one_or_none()
        if row is None:
            raise catalog.unknown_task(connection, task)
        if row.removed_at is None:
            raise Conflict(f"Task '{task}' is not removed.", hint=f"See: mutant show {task}")
        exclusive(connection, f"bringing '{task}' back")
        connection.execute(update(TaskRow).where(TaskRow.key == row.key).values(removed_at=None))
        best = runs.winners(connection, TaskRow.key == row.key)
        if not best:
            raise Conflict(
                f"Task '{task}' was never learnt here; only its lineage is known.",
                hint=f"Bring it in from a system that has it: mutant import SOURCE {task}",
            )
        path = load_path(connection, best[task])
        weights.read_components(connection, [part.digest for part in path.parts])
        load_golden(connection, path.id)
        write_event(connection, None, "task brought back", {"task": task})


def find_builders(connection: Connection, task: str, key: int) -> tuple[Builder, ...]:
    """The active tasks whose best paths descend from the task's paths or use components that these trained."""
    best = {path: name for name, path in runs.winners(connection).items() if name != task}
    lines = select(PathRow.key, PathRow.parent_key).where(PathRow.key.in_(list(best)))
    lines = ancestry(lines.cte("lines", recursive=True))
    above = select(lines.c.key, lines.c.parent_key, PathRow.task_key).join(PathRow, PathRow.key == lines.c.key)
    known = {path: (parent, its_task) for path, parent, its_task in connection.execute(above)}
    descended = _descended(best, known, key)
    maker = aliased(PathRow)
    used = (
        select(PartRow.path_key, PartRow.slot)
        .join(maker, maker.key == PartRow.maker_key)
        .where(PartRow.path_key.in_(list(best)), maker.task_key == key)
        .order_by(PartRow.path_key, PartRow.position)
    )
    slots: dict[int, list[str]] = {}
    for path, slot in connection.execute(used):
        slots.setdefault(path, []).append(slot)
    return tuple(
        Builder(name, path in descended, tuple(slots.get(path, ())))
        for path, name in best.items()
        if path in descended or path in slots
    )


def _descended(best: Iterable[int], known: Mapping[int, tuple[int | None, int | None]], task: int) -> set[int]:
    """Which of `best` have a path of `task` above them; `known` gives parent and task of each path above any of them.

    Lines of ancestors meet: each of their paths is looked at once.
    """
    found: dict[int | None, bool] = {None: False}
    for path in best:
        line: list[int] = []
        at: int | None = path
        while at is not None and at not in found and at in known:
            found[at] = known[at][1] == task  # for now, which also ends a circle
            line.append(at)
            at = None if found[at] else known[at][0]
        above = found.get(at, False) or (line != [] and found[line[-1]])
        found.update(dict.fromkeys(line, above))
    return {path for path in best if found[path]}


def _told(builders: Sequence[Builder], most: int = 3) -> str:
    words = [f"{one.task} ({_how(one)})" for one in builders[:most]]
    return ", ".join(words) + (f" and {len(builders) - most} more" if len(builders) > most else "")


def _how(one: Builder) -> str:
    used = f"uses {', '.join(one.slots[:3])}{', ...' if len(one.slots) > 3 else ''}"
    return " and ".join(["descends from it"] * one.descends + [used] * bool(one.slots))
