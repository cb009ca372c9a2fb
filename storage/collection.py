"""The garbage collector: it drops the weights of paths that lost and keeps every row of lineage.

What is kept: of every active path, and of the root, all that it is made of with its momentum and its golden outputs,
and all that a descendant of it can ever take from its ancestors (`blueprint.Inheritance`). So every answer, every proof
and every later run stay as they are; only a path that lost can no longer be computed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    String,
    delete,
    distinct,
    func,
    insert,
    literal,
    select,
    true,
)

from mutant.blueprint import Inheritance
from mutant.path import Path
from mutant.storage import runs
from mutant.storage.checks import checked_key, checked_text
from mutant.storage.engine import reclaim
from mutant.storage.exclusive import exclusive
from mutant.storage.faults import decoding
from mutant.storage.jsons import canonical
from mutant.storage.lineage import ancestry, line_of
from mutant.storage.paths import load_paths, with_keys
from mutant.storage.permit import collecting
from mutant.storage.records import now
from mutant.storage.refusals import Conflict
from mutant.storage.schema import (
    CollectedRow,
    ComponentRow,
    GoldenRow,
    PartRow,
    PathRow,
    SystemRow,
    TraceRow,
    Utc,
    WeightsRow,
)
from mutant.storage.store import Store
from mutant.storage.sweep import Loose, survey, sweep
from mutant.tasks.errors import UserError

_AT_A_TIME = 5000
"""Keys in one query."""


@dataclass(frozen=True)
class Collection:
    """What a collection dropped (or would): how many components, traces and golden outputs, and their bytes.

    `paths` counts those that can no longer be computed, `kept_bytes` is what stays. `database_bytes` is the size of the
    database's weights before and after (None for a dry run); `note` says why their space was not given back.
    `loose_blobs` lay in the blob store before though no row named them: a crash had left them.
    """

    components: int
    traces: int
    goldens: int
    freed_bytes: int
    kept_bytes: int
    paths: int
    database_bytes: tuple[int, int] | None = None
    note: str = ""
    loose_blobs: int = 0
    loose_bytes: int = 0

    @property
    def dropped(self) -> int:
        return self.components + self.traces + self.goldens


def gc(store: Store, *, dry_run: bool = False, adopt: bool = False) -> Collection:
    """Drop what no active path needs, in one transaction, then give the space back.

    `adopt`: the blob store is this database's now, whichever it belonged to before (`ownership.py`).
    Raises Conflict while a run is unfinished.
    """
    if dry_run:
        with store.reading() as connection:
            found = _with_loose(_survey(connection)[0], survey(connection))
            try:
                exclusive(connection, "a collection")
            except Conflict as error:
                return replace(found, note=f"Not now: {error.message} {error.hint}")
            return found
    with store.writing() as connection:
        exclusive(connection, "a collection")
        found, gone = _survey(connection)
        found = _with_loose(found, survey(connection))
        with collecting(connection):
            _drop(connection, gone)
    # Blobs go when the transaction that dropped their rows is committed; a crash before that leaves them loose.
    try:
        sweep(store, adopt=adopt)
        return replace(found, database_bytes=reclaim(store.url))
    except UserError as error:
        note = f"The space was not given back yet: {error.message}{f' {error.hint}' if error.hint else ''}"
        return replace(found, note=note, loose_blobs=0, loose_bytes=0)


def _with_loose(found: Collection, there: Loose) -> Collection:
    return replace(found, loose_blobs=there.blobs, loose_bytes=there.bytes)


def _survey(connection: Connection) -> tuple[Collection, Select[int]]:
    """What can go: counted by the database, and as a query for keys of weights."""
    kept = _listed(connection, sorted(needed(connection)))
    components, traces, gone = (_gone(row, kept) for row in (ComponentRow, TraceRow, WeightsRow))
    using = select(func.count(distinct(PartRow.path_key))).where(PartRow.component_key.in_(components))
    n_components, n_traces, n_gone = (_count(connection, query) for query in (components, traces, gone))
    total, kept_bytes = _bytes(connection, true()), _bytes(connection, WeightsRow.digest.in_(kept))
    n_goldens = n_gone - n_components - n_traces
    paths = connection.scalar(using) or 0
    return Collection(n_components, n_traces, n_goldens, total - kept_bytes, kept_bytes, paths), gone


def _listed(connection: Connection, digests: Sequence[str]) -> Select[str]:
    """A query that gives `digests`, of any number."""
    if connection.dialect.name == "sqlite":
        return select(func.json_each(canonical(digests)).table_valued("value").c.value)
    return select(func.unnest(literal(digests, ARRAY(String))).column_valued("digest"))


def _gone(row: type[ComponentRow] | type[TraceRow] | type[WeightsRow], kept: Select[str]) -> Select[int]:
    """Keys of those whose weights are stored and not `kept`: by a difference, which both back ends hash."""
    stored = select(row.key).where(row.digest.in_(select(WeightsRow.digest)))
    return select(stored.except_(select(row.key).where(row.digest.in_(kept))).subquery().c.key)


def _count(connection: Connection, query: Select[int]) -> int:
    return connection.scalar(select(func.count()).select_from(query.subquery())) or 0


def _bytes(connection: Connection, where: ColumnElement[bool]) -> int:
    with decoding():
        return int(connection.scalar(select(func.sum(WeightsRow.n_bytes)).where(where)) or 0)


def needed(connection: Connection) -> set[str]:
    """Digests of all weights that stay."""
    best = list(runs.winners(connection).values())
    with decoding():
        root = checked_key(connection.execute(select(SystemRow.root_key)).scalar_one())
    lines = select(PathRow.key, PathRow.parent_key).where(PathRow.key.in_([root, *best]))
    lines = ancestry(lines.cte("lines", recursive=True))
    keys = list(connection.scalars(select(lines.c.key)))
    known = {path.id: path for some in _pieces(keys) for path in load_paths(connection, with_keys(some))}
    ids = connection.scalars(select(PathRow.id).where(PathRow.key.in_([root, *best])))
    with decoding():  # recorded mutations that do not fit their parents make no path
        parts = {part for held in _inheritances(ids, known) for part in held.parts}
        goldens = {
            checked_text(digest)
            for digest in connection.scalars(select(GoldenRow.digest).where(GoldenRow.path_key.in_(best)))
        }
    return {part.digest for part in parts} | {part.trace for part in parts if part.trace is not None} | goldens


def _inheritances(ids: Iterable[str], known: Mapping[str, Path]) -> Iterator[Inheritance]:
    """What descendants of the paths `ids` can take. Lines of ancestors meet: each of their paths is looked at once."""
    held: dict[str, Inheritance] = {}
    for id_ in ids:
        for path in reversed(line_of(id_, known, until=held)):
            held[path.id] = Inheritance.of_root(path) if path.parent is None else held[path.parent].of(path)
        yield held[id_]


def _drop(connection: Connection, gone: Select[int]) -> None:
    """Delete weights, and remember that they were meant to go."""
    row = WeightsRow
    remembered = select(row.digest, row.n_bytes, literal(now(), Utc)).where(row.key.in_(gone))
    connection.execute(insert(CollectedRow).from_select(["digest", "n_bytes", "at"], remembered))
    connection.execute(delete(row).where(row.key.in_(gone)))


def _pieces(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    return (keys[start : start + _AT_A_TIME] for start in range(0, len(keys), _AT_A_TIME))


def collected(connection: Connection) -> tuple[int, int]:
    """How many components have been collected, and how many paths cannot be computed any more because of it."""
    gone = select(ComponentRow.key).join(CollectedRow, CollectedRow.digest == ComponentRow.digest)
    components = connection.scalar(select(func.count()).select_from(gone.subquery()))
    using = select(func.count(distinct(PartRow.path_key))).where(PartRow.component_key.in_(gone))
    return components or 0, connection.scalar(using) or 0
