"""Versions of a task: the paths that won its segments, one after the other, by the digest of what they compute."""

from dataclasses import dataclass

from sqlalchemy import select

from mutant.path import Path
from mutant.storage import identity
from mutant.storage.paths import load_paths
from mutant.storage.schema import CollectedRow, ComponentRow, PartRow, PathRow, SegmentRow, TaskRow
from mutant.storage.store import Store
from mutant.tasks.errors import Unknown


@dataclass(frozen=True)
class Version:
    """A path that won a segment of its task. `collected`: its weights are gone, and it can no longer be computed."""

    version: str
    path: str
    collected: bool


def versions(store: Store, task: str) -> tuple[Version, ...]:
    """The versions of a task, oldest first; each once, where it won last. Raises Unknown for an unknown task."""
    gone = (
        select(CollectedRow.digest)
        .join(ComponentRow, ComponentRow.digest == CollectedRow.digest)
        .join(PartRow, PartRow.component_key == ComponentRow.key)
        .where(PartRow.path_key == PathRow.key)
        .exists()
    )
    query = (
        select(PathRow.version, PathRow.id, gone)
        .join(SegmentRow, SegmentRow.winner_key == PathRow.key)
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(TaskRow.name == task, SegmentRow.state == "finished")
        .order_by(SegmentRow.run, SegmentRow.segment)
    )
    store.task(task)
    with store.reading() as connection:
        found = [Version(*row) for row in connection.execute(query)]
    return tuple({one.version: one for one in reversed(found)}.values())[::-1]


def find_version(store: Store, task: str, prefix: str) -> Path:
    """The path of a task whose version begins with `prefix`, at least 8 hexadecimal digits, whether it won or not.

    Raises Unknown when there is none, or when paths of several versions begin so.
    """
    if len(prefix) < 8:
        raise Unknown(f"A version is named by 8 digits or more, got '{prefix[:64]}'.")
    with store.reading() as connection:
        version = identity.full_id(connection, PathRow.version, "version", prefix, see=f"mutant show {task}")
        of_task = select(TaskRow.key).where(TaskRow.name == task).scalar_subquery()
        found = load_paths(connection, (PathRow.version == version) & (PathRow.task_key == of_task))
    if not found:
        raise Unknown(f"Task '{task}' has no version '{prefix[:64]}'.", hint=f"See: mutant show {task}")
    return found[-1]
