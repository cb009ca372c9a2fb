"""The system's own row and its tasks."""

from dataclasses import asdict

from sqlalchemy import Connection, func, insert, select, true

from mutant.storage.blobs.placement import Placement
from mutant.storage.checks import checked, checked_text
from mutant.storage.faults import decoding
from mutant.storage.records import SystemInfo, now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import SystemRow, TaskRow
from mutant.tasks.errors import Unknown, unknown
from mutant.tasks.task import Task


def write_system(connection: Connection, info: SystemInfo, root_key: int, placement: Placement) -> None:
    row = insert(SystemRow).values(
        key=1,
        root_key=root_key,
        root=info.root,
        family=info.family,
        licence=info.licence,
        source=info.source,
        sha256=info.sha256,
        image_size=info.image_size,
        seed=info.seed,
        mutant_version=info.mutant_version,
        settings=dict(info.settings),
        created_at=info.created_at,
        **asdict(placement),
    )
    connection.execute(row)


@decoding()
def load_placement(connection: Connection) -> Placement:
    """Where the system's weights lie."""
    row = SystemRow
    return checked(Placement(*connection.execute(select(row.blobs, row.inline_limit, row.blobs_key)).one()))


@decoding()
def load_system(connection: Connection) -> tuple[SystemInfo, int]:
    """The system's facts, and the key of its root path."""
    row = connection.execute(select(SystemRow.__table__)).one()
    info = checked(
        SystemInfo(
            root=row.root,
            family=row.family,
            licence=row.licence,
            source=row.source,
            sha256=row.sha256,
            image_size=row.image_size,
            seed=row.seed,
            mutant_version=row.mutant_version,
            settings=row.settings,
            created_at=row.created_at,
        )
    )
    return info, row.root_key


def add_task(connection: Connection, task: Task) -> None:
    """Write a task; the same one again changes nothing, another one of its name raises Conflict."""
    there = select(TaskRow.fingerprint, TaskRow.removed_at).where(TaskRow.name == task.name)
    fingerprint, removed_at = connection.execute(there).one_or_none() or (None, None)
    if removed_at is not None:
        raise Conflict(
            f"The name '{task.name}' belongs to a removed task, whose lineage goes on bearing it.",
            hint=f"Give this one another name with --name, or bring the old one back: mutant rm {task.name} --undo",
        )
    if fingerprint == task.fingerprint:
        return
    if fingerprint is not None:
        raise Conflict(
            f"There is a task '{task.name}' with other images, labels or splits.",
            hint="Give this one another name with --name; see the other: mutant show " + task.name,
        )
    last = connection.scalar(select(func.max(TaskRow.position)))
    with decoding():
        position = 0 if last is None else last + 1
    row = insert(TaskRow).values(
        name=task.name,
        position=position,
        uri=task.uri,
        fingerprint=task.fingerprint,
        data=task.to_json(),
        added_at=now(),
    )
    connection.execute(row)


ACTIVE = TaskRow.removed_at.is_(None)
"""Condition: tasks that were not removed."""


@decoding()
def load_tasks(connection: Connection, *, removed: bool = False) -> tuple[Task, ...]:
    """The tasks in order of arrival; `removed`: also those that only lineage knows still."""
    query = select(TaskRow.data).where(true() if removed else ACTIVE).order_by(TaskRow.position)
    return tuple(Task.from_json(data) for data in connection.scalars(query))


@decoding()
def load_task(connection: Connection, name: str) -> Task:
    data = connection.scalar(select(TaskRow.data).where(TaskRow.name == name, ACTIVE))
    if data is None:
        raise unknown_task(connection, name)
    return Task.from_json(data)


def task_key(connection: Connection, name: str) -> int:
    key = connection.scalar(select(TaskRow.key).where(TaskRow.name == name, ACTIVE))
    if key is None:
        raise unknown_task(connection, name)
    return key


def unknown_task(connection: Connection, name: str) -> Unknown:
    if connection.scalar(select(TaskRow.key).where(TaskRow.name == name)) is not None:
        return Unknown(f"Task '{name}' was removed.", hint=f"Bring it back, if it can be: mutant rm {name} --undo")
    with decoding():
        names = [checked_text(known) for known in connection.scalars(select(TaskRow.name).where(ACTIVE))]
    if not names:
        return Unknown(f"Unknown task '{name}': this system has none yet.", hint="Add one with: mutant add URI")
    return unknown("task", name, names, see="mutant list")
