"""Merging tasks of one system into another: their paths with all their lineage, components shared by hash.

A task comes with its best path and every ancestor of it, as rows; with weights come the components that a descendant
can still take from them (`blueprint.inheritable`), the momentum of these, and the golden outputs. What other tasks'
ancestors need of those tasks comes as rows of removed tasks, known to lineage alone. All of it is one transaction.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.orm import aliased

from mutant.blueprint import inheritable
from mutant.path import Path
from mutant.storage import births, catalog, facts, paths, runs, weights
from mutant.storage.exclusive import exclusive
from mutant.storage.faults import decoding
from mutant.storage.images import copy_images
from mutant.storage.records import now
from mutant.storage.refusals import Conflict, Damaged
from mutant.storage.schema import (
    CollectedRow,
    ComponentRow,
    PathRow,
    RunRow,
    SegmentRow,
    TaskRow,
    TraceRow,
    WeightsRow,
)
from mutant.storage.store import Store
from mutant.storage.url import label
from mutant.tasks.errors import UserError
from mutant.tasks.task import Task
from mutant.tasks.uri import check_name


@dataclass(frozen=True)
class Imported:
    """What became of a task: its `name` here and its path's id; `new` is False when it was here already, alike.

    `paths` counts the paths that came with it, `components` those whose weights came, `shared` those that were here.
    """

    name: str
    path: str
    new: bool
    paths: int = 0
    components: int = 0
    shared: int = 0


def import_tasks(
    source: Store, target: Store, tasks: Sequence[str] = (), *, name: str | None = None
) -> tuple[Imported, ...]:
    """Bring tasks of `source` (all that have a path, by default) into `target`, all of them or none.

    `name` renames a single one. Raises UserError when the systems have different roots, when a task has no path, when
    its name belongs to another task or model here, and while a run of `target` is unfinished.
    """
    check_roots(source, target)
    wanted = list(dict.fromkeys(tasks)) or [task.name for task in source.tasks() if source.best(task.name)]
    if name is not None:
        check_name(name)
        if len(wanted) != 1:
            raise UserError("--name is for one task at a time.", hint=f"Name it: mutant import SOURCE {wanted[0]}")
    with target.writing() as connection:
        exclusive(connection, "an import")
        known = {task.name: task for task in source.tasks(removed=True)}
        return tuple(_Import(source, connection, known, task, name or task).run() for task in wanted)


def check_roots(source: Store, target: Store) -> None:
    """Raise UserError unless both systems grew from the same root: only then can their tasks share and be parents."""
    theirs, ours = source.root(), target.root()
    if (theirs.id, theirs.version) != (ours.id, ours.version):
        said = [
            f"{store.info.root} at {store.info.image_size} pixels ({root.version[:12]})"
            for store, root in ((source, theirs), (target, ours))
        ]
        raise UserError(
            f"'{label(source.url)}' grew from another root: {said[0]}; this system's is {said[1]}.",
            hint="A task shares components with, and becomes a parent in, a system of its own root alone.",
        )


class _Import:
    """One task on its way from `source` into the database of `connection`."""

    def __init__(self, source: Store, connection: Connection, known: Mapping[str, Task], task: str, name: str) -> None:
        """`known` are all tasks of `source`, the removed ones as well; `name` is the task's name here."""
        self._source = source
        self._connection = connection
        self._known = known
        self._task = source.task(task)
        self._name = name
        best = source.best(task)
        if best is None:
            raise UserError(f"Task '{task}' of '{label(source.url)}' has no trained path yet.")
        self._line = source.ancestors(best.id)
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def run(self) -> Imported:
        best = self._line[0]
        there = self._is_here(best)
        if there is not None:
            return Imported(self._name, there, new=False)
        self._bring_tasks()
        came, shared = self._bring_weights()
        here = _meanings(self._connection, [path.id for path in self._line])
        written = [self._bring_path(path, here.get(path.id)) for path in reversed(self._line)]
        self._finish(self._ids[best.id])
        return Imported(self._name, self._ids[best.id], True, sum(written), came, shared)

    def _is_here(self, best: Path) -> str | None:
        """The id of the task's path when both are here. Raises Conflict when the name is taken by something else."""
        connection = self._connection
        row = _task_row(connection, self._name)
        if row is None:
            return None
        if row.fingerprint != self._task.fingerprint:
            raise Conflict(
                f"There is a task '{self._name}' with other images, labels or splits.",
                hint=f"Give this one another name: mutant import SOURCE {self._task.name} --name NEW",
            )
        key = runs.winners(connection, TaskRow.key == row.key).get(self._name)
        if key is None:
            return None
        id_, version = connection.execute(select(PathRow.id, PathRow.version).where(PathRow.key == key)).one()
        if version == best.version:
            return id_
        raise Conflict(
            f"Task '{self._name}' is here with another model, which stays as it is.",
            hint=f"Give this one another name: mutant import SOURCE {self._task.name} --name NEW",
        )

    def _bring_tasks(self) -> None:
        """Rows for the tasks of the line, with the hashes of their images. Those but the task itself are for lineage
        alone, unless they are here."""
        self._names[self._task.name] = self._name
        _put_task(self._connection, replace(self._task, name=self._name), active=True)
        for path in self._line:
            if path.task is not None and path.task not in self._names:
                task = self._known[path.task]
                row = _task_row(self._connection, task.name)
                if row is not None and row.fingerprint != task.fingerprint:
                    task = replace(task, name=f"{task.name[:55]}-{task.fingerprint[:8]}")
                self._names[path.task] = task.name
                _put_task(self._connection, task, active=False)
        with self._source.reading() as theirs:
            for task, name in self._names.items():
                copy_images(theirs, self._connection, task, name)

    def _bring_weights(self) -> tuple[int, int]:
        """Rows of all components and traces of the line, weights of those that are needed; how many came, were here."""
        parts = dict.fromkeys(part for path in self._line for part in path.parts)
        components = list(dict.fromkeys(part.digest for part in parts))
        traces = list(dict.fromkeys(part.trace for part in parts if part.trace is not None))
        with self._source.reading() as theirs:
            with decoding():  # recorded mutations that do not fit their parents make no path
                needed = inheritable(self._line)
            _copy_rows(theirs, self._connection, components, traces)
            wanted = list(dict.fromkeys(part.digest for part in needed))
            here = _stored(self._connection, wanted)
            for digest in wanted:
                if digest not in here:
                    component = weights.read_components(theirs, [digest])[digest]
                    weights.put(self._connection, [weights.component_blob(component)])
            momentum = [part.trace for part in needed if part.trace is not None]
            for digest in momentum:
                arrays = weights.read_arrays(theirs, weights.TRACE, digest)
                weights.put(self._connection, [weights.arrays_blob(weights.TRACE, arrays)])
        _remember(self._connection, [*components, *traces])
        return len(wanted) - len(here), len(here)

    def _bring_path(self, path: Path, here: "_Meaning | None") -> bool:
        """Write a path unless it is here: as the same task's, from the same parent, with the same weights.

        `here` is what its id means here. A path whose id means another (the same seed with other data), and one whose
        task has another name here, get an id of their own, which is the same whenever they come again.
        """
        connection = self._connection
        task = None if path.task is None else self._names[path.task]
        parent = None if path.parent is None else self._ids[path.parent]
        meaning, id_ = _Meaning(path.version, task, parent), path.id
        if here != meaning and (here is not None or task != path.task):
            id_ = hashlib.sha256(f"{path.id}/{path.version}/{task}/{parent}".encode()).hexdigest()
            here = _meanings(connection, [id_]).get(id_)
        self._ids[path.id] = id_
        if here is not None:
            return False
        parts = tuple(
            replace(
                part,
                trained_by=self._ids.get(part.trained_by, part.trained_by),
                task=None if part.task is None else self._names.get(part.task, part.task),
            )
            for part in path.parts
        )
        new = replace(path, id=id_, task=task, parent=parent, parts=parts)
        births.write_path(connection, births.NewPath(new, {}, (), ()))
        return True

    def _finish(self, winner: str) -> None:
        """A finished run with one segment that the path won, its golden outputs, and what was measured of it."""
        connection, task, best = self._connection, self._task.name, self._line[0]
        run = (connection.execute(select(RunRow.id).order_by(RunRow.id.desc()).limit(1)).scalar() or 0) + 1
        config = self._config(best.id) | {"children": 0}
        at, key = now(), catalog.task_key(connection, self._name)
        visits = connection.scalar(select(func.count()).where(SegmentRow.task_key == key))
        connection.execute(insert(RunRow).values(id=run, config=config, state="finished", started_at=at, ended_at=at))
        connection.execute(
            insert(SegmentRow).values(
                run=run,
                segment=0,
                task_key=key,
                visit=visits,
                state="finished",
                winner_key=paths.path_key(connection, winner),
            )
        )
        golden = self._source.golden(best.id)
        if golden is None:
            raise Damaged(
                f"Task '{task}' of '{label(self._source.url)}' has lost its golden outputs: what it answers cannot be "
                f"proved any more.",
                hint="Import it from a copy that is whole. What else differs there: mutant verify",
            )
        facts.write_golden(connection, winner, golden, facts.golden_blob(golden))
        for evaluation in self._source.evaluations(task):
            if evaluation.path == best.id:
                facts.write_evaluation(connection, replace(evaluation, path=winner, task=self._name))
        for baseline in self._source.baselines(task):
            facts.write_baseline(connection, replace(baseline, task=self._name))
        said = {"task": self._name, "path": winner, "their_task": task, "their_path": best.id}
        facts.write_event(connection, run, "task imported", said)

    def _config(self, winner: str) -> dict[str, Any]:
        """The settings of the latest run of which the path won a segment."""
        won = select(SegmentRow.run).join(PathRow, PathRow.key == SegmentRow.winner_key).where(PathRow.id == winner)
        with self._source.reading() as theirs:
            found = runs.load_runs(theirs, RunRow.id.in_(won))
        return dict(found[-1].config) if found else {}


@dataclass(frozen=True)
class _Meaning:
    """What the id of a path stands for: its weights by their version, its task's name and its parent's id."""

    version: str
    task: str | None
    parent: str | None


def _meanings(connection: Connection, ids: Sequence[str]) -> dict[str, _Meaning]:
    """Of the paths that are here, by id."""
    parent = aliased(PathRow)
    query = select(PathRow.id, PathRow.version, TaskRow.name, parent.id)
    query = query.outerjoin(TaskRow, TaskRow.key == PathRow.task_key)
    query = query.outerjoin(parent, parent.key == PathRow.parent_key)
    found: dict[str, _Meaning] = {}
    for some in weights.chunks(ids):
        rows = connection.execute(query.where(PathRow.id.in_(some)))
        found.update({id_: _Meaning(version, task, above) for id_, version, task, above in rows})
    return found


def _task_row(connection: Connection, name: str) -> Row[int, str] | None:
    return connection.execute(select(TaskRow.key, TaskRow.fingerprint).where(TaskRow.name == name)).one_or_none()


def _put_task(connection: Connection, task: Task, *, active: bool) -> None:
    """Write a task unless it is here; an `active` one that was removed comes back."""
    row = _task_row(connection, task.name)
    if row is None:
        catalog.add_task(connection, task)
    if (row is None and not active) or (row is not None and active):
        removed = None if active else now()
        connection.execute(update(TaskRow).where(TaskRow.name == task.name).values(removed_at=removed))


def _copy_rows(theirs: Connection, ours: Connection, components: Sequence[str], traces: Sequence[str]) -> None:
    row = ComponentRow
    for some in weights.chunks(components):
        here = set(ours.scalars(select(row.digest).where(row.digest.in_(some))))
        query = select(row.digest, row.spec, row.n_parameters, row.n_bytes).where(row.digest.in_(some))
        found = theirs.execute(query.order_by(row.key)).mappings()
        new = [dict(component) for component in found if component["digest"] not in here]
        if new:
            ours.execute(insert(row), new)
    for some in weights.chunks(traces):
        here = set(ours.scalars(select(TraceRow.digest).where(TraceRow.digest.in_(some))))
        if len(here) < len(some):
            ours.execute(insert(TraceRow), [{"digest": digest} for digest in some if digest not in here])


def _stored(connection: Connection, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in weights.chunks(digests):
        found.update(connection.scalars(select(WeightsRow.digest).where(WeightsRow.digest.in_(some))))
    return found


def _remember(connection: Connection, digests: Sequence[str]) -> None:
    """Weights that did not come are as if collected here: known to be gone."""
    here = _stored(connection, digests)
    gone = select(CollectedRow.digest).where(CollectedRow.digest.in_(digests))
    known = here | set(connection.scalars(gone))
    rows = [{"digest": digest, "n_bytes": 0, "at": now()} for digest in digests if digest not in known]
    if rows:
        connection.execute(insert(CollectedRow), rows)
