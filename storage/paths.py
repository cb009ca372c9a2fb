"""Paths, their parts and mutations, read from their rows: six queries, however many paths are asked for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, true
from sqlalchemy.orm import aliased

from mutant.component import Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Mutation, from_dict
from mutant.path import Part, Path
from mutant.storage import identity, weights
from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.refusals import Damaged
from mutant.storage.schema import CandidateRow, ComponentRow, MutationRow, PartRow, PathRow, TaskRow, TraceRow
from mutant.tasks.errors import Unknown


def path_keys(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """Keys of the known paths among `ids`."""
    found: dict[str, int] = {}
    for some in weights.chunks(list(dict.fromkeys(ids))):
        rows = connection.execute(select(PathRow.id, PathRow.key).where(PathRow.id.in_(some)))
        found.update({row.id: row.key for row in rows})
    return found


def path_key(connection: Connection, id_: str) -> int:
    key = path_keys(connection, [id_]).get(id_)
    if key is None:
        raise unknown_path(id_)
    return key


def unknown_path(id_: str) -> Unknown:
    return Unknown(f"There is no path '{id_}'.", hint="See: mutant list")


def full_id(connection: Connection, id_or_prefix: str) -> str:
    """The one path id that begins so. Raises Unknown when there is none, or more than one."""
    return identity.full_id(connection, PathRow.id, "path", id_or_prefix, see="mutant list")


def load_path(connection: Connection, key: int) -> Path:
    """The path that another row names by its key. Raises Damaged when there is none."""
    found = load_paths(connection, PathRow.key == key)
    if not found:
        raise Damaged(f"A path that the database names, of key {key}, is not in it.", hint="Restore it from a copy.")
    return found[0]


@decoding()
def load_paths(connection: Connection, where: ColumnElement[bool] | None = None) -> tuple[Path, ...]:
    """Paths that fulfil a condition on `PathRow`, the root first, then by their place in the runs."""
    condition = true() if where is None else where
    parent = aliased(PathRow)
    query = (
        select(
            PathRow.key, PathRow.id, TaskRow.name, parent.id.label("parent"), PathRow.hyperparameters,
            PathRow.probabilities, PathRow.quality, PathRow.flops,
            CandidateRow.run, CandidateRow.segment, CandidateRow.generation, CandidateRow.child,
        )
        .outerjoin(TaskRow, TaskRow.key == PathRow.task_key)
        .outerjoin(parent, parent.key == PathRow.parent_key)
        .outerjoin(CandidateRow, CandidateRow.path_key == PathRow.key)
        .where(condition)
    )  # fmt: skip
    rows = sorted(connection.execute(query).all(), key=_place)
    parts = _parts(connection, condition)
    mutations = _mutations(connection, condition)
    return tuple(
        checked(
            Path(
                id=row.id,
                task=row.name,
                parent=row.parent,
                parts=parts.get(row.key, ()),
                hyperparameters=checked(Hyperparameters.from_dict(row.hyperparameters)),
                mutations=mutations.get(row.key, ()),
                probabilities=row.probabilities,
                quality=row.quality,
                flops=row.flops,
            )
        )
        for row in rows
    )


def _place(row: Any) -> tuple[int, ...]:
    """The root, then paths without a place (imported ones) in order of arrival, then by place."""
    if row.run is None:
        return (row.name is not None, 0, 0, 0, 0, row.key)
    return (1, row.run, row.segment, row.generation, row.child, row.key)


def _parts(connection: Connection, condition: ColumnElement[bool]) -> dict[int, tuple[Part, ...]]:
    components = _components_of(connection, condition)
    makers = _makers_of(connection, condition)
    traces = _traces_of(connection, condition)
    query = (
        select(
            PartRow.path_key, PartRow.slot, PartRow.component_key, PartRow.depth, PartRow.maker_key, PartRow.trace_key
        )
        .join(PathRow, PathRow.key == PartRow.path_key)
        .where(condition)
        .order_by(PartRow.path_key, PartRow.position)
    )
    shared: dict[tuple[Any, ...], Part] = {}
    parts: defaultdict[int, list[Part]] = defaultdict(list)
    for key, slot, component, depth, maker, trace in connection.execute(query):
        place = (slot, component, depth, maker, trace)
        part = shared.get(place)
        if part is None:
            digest, spec, n_parameters = components[component]
            trained_by, task = ("", None) if maker is None else makers[maker]
            momentum = None if trace is None else traces[trace]
            part = Part(slot, spec, digest, n_parameters, depth, trained_by, task, momentum)
            shared[place] = checked(part)
        parts[key].append(part)
    return {key: tuple(of_path) for key, of_path in parts.items()}


def _components_of(connection: Connection, condition: ColumnElement[bool]) -> dict[int, tuple[str, Spec, int]]:
    used = select(PartRow.component_key).join(PathRow, PathRow.key == PartRow.path_key).where(condition)
    query = select(ComponentRow.key, ComponentRow.digest, ComponentRow.spec, ComponentRow.n_parameters)
    specs: dict[str, Spec] = {}
    found: dict[int, tuple[str, Spec, int]] = {}
    for key, digest, text, n_parameters in connection.execute(query.where(ComponentRow.key.in_(used))):
        if text not in specs:
            specs[text] = checked(Spec.from_json(text))
        found[key] = (digest, specs[text], n_parameters)
    return found


def _makers_of(connection: Connection, condition: ColumnElement[bool]) -> dict[int, tuple[str, str | None]]:
    used = select(PartRow.maker_key).join(PathRow, PathRow.key == PartRow.path_key).where(condition)
    query = select(PathRow.key, PathRow.id, TaskRow.name).outerjoin(TaskRow, TaskRow.key == PathRow.task_key)
    return {key: (id_, task) for key, id_, task in connection.execute(query.where(PathRow.key.in_(used)))}


def _traces_of(connection: Connection, condition: ColumnElement[bool]) -> dict[int, str]:
    used = select(PartRow.trace_key).join(PathRow, PathRow.key == PartRow.path_key).where(condition)
    query = select(TraceRow.key, TraceRow.digest).where(TraceRow.key.in_(used))
    return {row.key: row.digest for row in connection.execute(query)}


def _mutations(connection: Connection, condition: ColumnElement[bool]) -> dict[int, tuple[Mutation, ...]]:
    query = (
        select(MutationRow.path_key, MutationRow.kind, MutationRow.data)
        .join(PathRow, PathRow.key == MutationRow.path_key)
        .where(condition)
        .order_by(MutationRow.path_key, MutationRow.position)
    )
    mutations: defaultdict[int, list[Mutation]] = defaultdict(list)
    for key, kind, data in connection.execute(query):
        mutations[key].append(checked(from_dict({"kind": kind, **data})))
    return {key: tuple(of_path) for key, of_path in mutations.items()}


def best_paths(connection: Connection, winners: Mapping[str, int]) -> tuple[Path, ...]:
    """The paths of `winners`, keys by task, in their order. Raises Damaged when one is not of its task."""
    found = {path.task: path for path in load_paths(connection, with_keys(winners.values()))}
    strange = next((task for task in winners if task not in found), None)
    if strange is not None:
        raise Damaged(f"The best path of task '{strange}' belongs to another task.", hint="See: mutant verify")
    return tuple(found[task] for task in winners)


def ids(connection: Connection, keys: Iterable[int]) -> dict[int, str]:
    """Path key to path id."""
    query = select(PathRow.key, PathRow.id).where(with_keys(keys))
    return {row.key: row.id for row in connection.execute(query)}


def with_keys(keys: Iterable[int]) -> ColumnElement[bool]:
    """Condition: the paths with these keys."""
    return PathRow.key.in_(list(keys))
