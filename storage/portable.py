"""What leaves a system names no place of the machine that it was grown on, no host, and nobody who may ask it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, Table, select, update

from mutant.storage.faults import decoding
from mutant.storage.records import SystemInfo
from mutant.storage.schema import Base, CandidateRow, EventRow, KeyRow, LeaseRow, PermitRow, SystemRow, TaskRow
from mutant.storage.schema_work import TimingRow, WorkerRow
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


@decoding()
def forget_places(connection: Connection) -> None:
    """Take the directories out of a copied system."""
    for key, data in connection.execute(select(TaskRow.key, TaskRow.data)).all():
        task = portable_task(Task.from_json(data))
        connection.execute(update(TaskRow).where(TaskRow.key == key).values(uri=task.uri, data=task.to_json()))
    source = connection.execute(select(SystemRow.source)).scalar_one()
    connection.execute(update(SystemRow).values(source=_source(source)))


def portable_tables() -> tuple[Table, ...]:
    """Those that can leave, each after those that it names: not the keys to the system's server, nor who holds its
    lease, nor the collector's permits, nor what which worker did when."""
    stay = {row.__tablename__ for row in (KeyRow, LeaseRow, PermitRow, TimingRow, WorkerRow)}
    return tuple(table for table in Base.metadata.sorted_tables if table.name not in stay)


def portable_row(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it leaves: without the names of hosts and workers, and trained by nobody at the moment."""
    if table.name == CandidateRow.__tablename__:
        state = "STALE" if row["state"] == "RUNNING" else row["state"]
        return {**row, "state": state, "token": None, "worker": None}
    if table.name == EventRow.__tablename__:
        return {**row, "data": _portable_event(row["kind"], row["data"])}
    return dict(row)


def _portable_event(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says without the hosts that it names."""
    if kind == "taken over":  # {"from": a process and its host, "why", "by": another}
        return {"why": data.get("why")}
    if kind == "worked off by":  # {"before": the engine or None, "now": the engine}
        return {when: engine and {**engine, "ray_address": None} for when, engine in data.items()}
    return dict(data)
