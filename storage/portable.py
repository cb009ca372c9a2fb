"""What leaves a system names no place of the machine that it was grown on."""

from dataclasses import replace
from pathlib import PurePath

from sqlalchemy import Connection, select, update

from mutant.storage.records import SystemInfo
from mutant.storage.schema import SystemRow, TaskRow
from mutant.tasks.task import Task
from mutant.tasks.uri import portable


def portable_task(task: Task) -> Task:
    """The task with its source's file by name, without its directory."""
    return replace(task, uri=portable(task.uri))


def portable_info(info: SystemInfo) -> SystemInfo:
    """The system's facts with its root's file, if a file it was, by name."""
    return replace(info, source=_source(info.source))


def _source(source: str) -> str:
    file = source.removeprefix("file ")
    return source if file == source else f"file {PurePath(file).name}"


def forget_places(connection: Connection) -> None:
    """Take the directories out of a copied system."""
    for key, data in connection.execute(select(TaskRow.key, TaskRow.data)).all():
        task = portable_task(Task.from_json(data))
        connection.execute(update(TaskRow).where(TaskRow.key == key).values(uri=task.uri, data=task.to_json()))
    source = connection.execute(select(SystemRow.source)).scalar_one()
    connection.execute(update(SystemRow).values(source=_source(source)))
