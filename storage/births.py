"""New paths as rows: what a path brings is checked and encoded first, then written in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from mutant.component import Component
from mutant.mutation import to_dict
from mutant.outcome import Outcome, Trained
from mutant.path import Path
from mutant.storage import weights
from mutant.storage.blobs.placement import Depot
from mutant.storage.paths import path_key
from mutant.storage.records import now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import ComponentRow, MutationRow, PartRow, PathRow, TaskRow, TraceRow
from mutant.storage.weights import Blob


@dataclass(frozen=True)
class NewPath:
    """A path to be written, with the components and traces that it brings, encoded before the transaction begins."""

    path: Path
    components: Mapping[str, Component]
    weights: tuple[Blob, ...]
    traces: tuple[str, ...]


def prepare(path: Path, components: Mapping[str, Component], traces: Mapping[str, weights.Arrays]) -> NewPath:
    """Check and encode what a path brings. Raises Conflict when a digest is not that of the content under it."""
    blobs = [weights.component_blob(component) for component in components.values()]
    blobs += [weights.arrays_blob(weights.TRACE, arrays) for arrays in traces.values()]
    for named, blob in zip((*components, *traces), blobs, strict=True):
        if named != blob.digest:
            raise Conflict(f"Path {path.id[:12]} brings arrays as {named[:12]} whose digest is {blob.digest[:12]}.")
    unused = components.keys() - {part.digest for part in path.parts}
    if unused:
        raise Conflict(f"Path {path.id[:12]} brings components that it does not use: {', '.join(sorted(unused))}.")
    return NewPath(path, dict(components), tuple(blobs), tuple(traces))


def shipped(depot: Depot, outcome: Outcome) -> NewPath | None:
    """What an outcome brings, prepared, with its large weights in the blob store already; None when nothing came."""
    if not isinstance(outcome, Trained):
        return None
    new = prepare(outcome.path, outcome.components, outcome.traces)
    weights.ship(depot, new.weights)
    return new


def write_path(connection: Connection, new: NewPath) -> int:
    """Write weights, components, path, parts and mutations, in this order; the path's key."""
    path = new.path
    weights.put(connection, new.weights)
    components = _put_components(connection, new.components, path)
    traces = _put_traces(connection, new.traces, path)
    key = _insert_path(connection, path)
    _insert_parts(connection, key, path, components, traces)
    rows = [
        {"path_key": key, "position": position, "kind": data.pop("kind"), "data": data}
        for position, data in enumerate(to_dict(mutation) for mutation in path.mutations)
    ]
    if rows:
        connection.execute(insert(MutationRow), rows)
    return key


def _size(component: Component) -> int:
    return sum(array.nbytes for array in component.arrays.values())


def _put_components(connection: Connection, new: Mapping[str, Component], path: Path) -> dict[str, int]:
    """Keys of the path's components by digest, rows written for those that have none yet and come with it."""
    row = ComponentRow
    wanted = {part.digest for part in path.parts}
    keys = _keys(connection, select(row.digest, row.key).where(row.digest.in_(wanted)))
    rows = [
        {"digest": digest, "spec": c.spec.to_json(), "n_parameters": c.n_parameters, "n_bytes": _size(c)}
        for digest, c in new.items()
        if digest not in keys
    ]
    return keys | (_keys(connection, insert(row).returning(row.digest, row.key), rows) if rows else {})


def _put_traces(connection: Connection, new: Sequence[str], path: Path) -> dict[str, int]:
    """The same of traces."""
    row = TraceRow
    wanted = {*new, *(part.trace for part in path.parts if part.trace is not None)}
    keys = _keys(connection, select(row.digest, row.key).where(row.digest.in_(wanted))) if wanted else {}
    rows = [{"digest": digest} for digest in new if digest not in keys]
    return keys | (_keys(connection, insert(row).returning(row.digest, row.key), rows) if rows else {})


def _keys(connection: Connection, statement: Any, *rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {row.digest: row.key for row in connection.execute(statement, *rows)}


def _insert_path(connection: Connection, path: Path) -> int:
    task_key = None
    if path.task is not None:
        task_key = connection.scalar(select(TaskRow.key).where(TaskRow.name == path.task))
        if task_key is None:
            raise Conflict(f"Path {path.id[:12]} belongs to the unknown task '{path.task}'.")
    row = insert(PathRow).values(
        id=path.id,
        version=path.version,
        task_key=task_key,
        parent_key=None if path.parent is None else path_key(connection, path.parent),
        hyperparameters=path.hyperparameters.to_dict(),
        probabilities=dict(path.probabilities),
        quality=path.quality,
        flops=path.flops,
        created_at=now(),
    )
    return connection.execute(row.returning(PathRow.key)).scalar_one()


def _insert_parts(
    connection: Connection, key: int, path: Path, components: Mapping[str, int], traces: Mapping[str, int]
) -> None:
    makers = _maker_keys(connection, path)
    rows: list[dict[str, Any]] = []
    for position, part in enumerate(path.parts):
        if part.digest not in components or (part.trace is not None and part.trace not in traces):
            raise Conflict(f"Path {path.id[:12]} names a component or trace in '{part.slot}' that is not stored.")
        rows.append(
            {
                "path_key": key,
                "position": position,
                "slot": part.slot,
                "component_key": components[part.digest],
                "depth": part.depth,
                "maker_key": makers[part.trained_by],
                "trace_key": None if part.trace is None else traces[part.trace],
            }
        )
    if rows:
        connection.execute(insert(PartRow), rows)


def _maker_keys(connection: Connection, path: Path) -> dict[str, int | None]:
    """Keys of the paths that trained the parts; checks that a part's task is its maker's."""
    names = {part.trained_by for part in path.parts if part.trained_by}
    makers = select(PathRow.id, PathRow.key, TaskRow.name).outerjoin(TaskRow, TaskRow.key == PathRow.task_key)
    rows = connection.execute(makers.where(PathRow.id.in_(names))).all()
    keys: dict[str, int | None] = {"": None, **{id_: key for id_, key, _ in rows}}
    tasks: dict[str, str | None] = {"": None, **{id_: task for id_, _, task in rows}}
    for part in path.parts:
        if part.trained_by not in keys:
            raise Conflict(f"Part '{part.slot}' of path {path.id[:12]} was trained by an unknown path.")
        if tasks[part.trained_by] != part.task:
            raise Conflict(
                f"Part '{part.slot}' of path {path.id[:12]} names the task of another path than its maker's."
            )
    return keys
