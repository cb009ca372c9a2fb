"""Who descends from whom, who made a component and who needs it: recursive queries over the paths' parents."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import CTE, Connection, distinct, func, select
from sqlalchemy.orm import aliased

from mutant.component import Spec
from mutant.mutation import Clone
from mutant.path import HEAD, Part, Path
from mutant.storage import identity, runs
from mutant.storage.checks import checked
from mutant.storage.faults import decoding
from mutant.storage.paths import load_paths
from mutant.storage.refusals import Damaged
from mutant.storage.schema import CandidateRow, CollectedRow, ComponentRow, PartRow, PathRow, TaskRow, WeightsRow


@dataclass(frozen=True)
class Place:
    """Where in the runs a path was trained."""

    run: int
    segment: int
    generation: int
    child: int


@dataclass(frozen=True)
class Blame:
    """Who made a component. `path` trained it for `task` (None: it came with the root).

    `source` is the part that it was cloned from (None: it began fresh, or is pretrained), `parent` the maker's parent
    and `place` None for a maker that was imported. `weights` is `stored`, `collected` or `missing`.
    """

    component: str
    spec: Spec
    n_parameters: int
    slot: str
    path: str
    task: str | None
    parent: str | None
    place: Place | None
    source: Part | None
    weights: str


@dataclass(frozen=True)
class Impact:
    """Who needs a component: `active` is task -> slot on its best path, and breaks without it.

    `paths` is how many paths of each task use it, those that lost and those of removed tasks as well; `root` whether
    the root does.
    """

    component: str
    active: Mapping[str, str]
    paths: Mapping[str, int]
    root: bool

    def __hash__(self) -> int:
        return hash(self.component)


def ancestry(keys: CTE) -> CTE:
    """Keys of the paths of `keys` (a CTE with columns `key`, `parent_key`, recursive) and of all their ancestors."""
    return keys.union(select(PathRow.key, PathRow.parent_key).where(PathRow.key == keys.c.parent_key))


def ancestors(connection: Connection, path: str) -> tuple[Path, ...]:
    """The path itself, its parent, and so on to the root. Raises Damaged when the line does not end."""
    line = ancestry(select(PathRow.key, PathRow.parent_key).where(PathRow.id == path).cte("line", recursive=True))
    keys = list(connection.scalars(select(line.c.key)))
    return line_of(path, {one.id: one for one in load_paths(connection, PathRow.key.in_(keys))})


def line_of(path: str, known: Mapping[str, Path], *, until: Container[str] = ()) -> tuple[Path, ...]:
    """The path called `path`, its parent and so on to the root, or to before one of `until`, out of `known`.

    Raises Damaged when it does not end.
    """
    ordered: dict[str, Path] = {}
    following: str | None = path
    while following is not None and following not in until:
        if following not in known or following in ordered:
            raise Damaged(f"The ancestors of path {path[:12]} do not lead to a root.", hint="See: mutant verify")
        ordered[following] = known[following]
        following = known[following].parent
    return tuple(ordered.values())


def descendants(connection: Connection, path: str) -> tuple[Path, ...]:
    """All paths that come from this one, without itself, by their place in the runs."""
    line = select(PathRow.key).where(PathRow.id == path).cte("line", recursive=True)
    line = line.union(select(PathRow.key).where(PathRow.parent_key == line.c.key))
    return load_paths(connection, PathRow.key.in_(select(line.c.key)) & (PathRow.id != path))


def component_id(connection: Connection, id_or_prefix: str) -> str:
    """The digest of the one component that begins so. Raises UserError when there is none, or more than one."""
    return identity.full_id(connection, ComponentRow.digest, "component", id_or_prefix, see="mutant show TASK")


def blame(connection: Connection, digest: str) -> Blame:
    """Who made the component `digest`, from what, and where in the runs. Raises Damaged when no path uses it."""
    maker = aliased(PathRow)
    # A component comes into the database with its maker, so the first path that uses it names the maker.
    first = (
        select(
            ComponentRow.spec, ComponentRow.n_parameters, PartRow.slot,
            maker.id, CandidateRow.run, CandidateRow.segment, CandidateRow.generation, CandidateRow.child,
        )
        .join(PartRow, PartRow.component_key == ComponentRow.key)
        .outerjoin(maker, maker.key == PartRow.maker_key)
        .outerjoin(CandidateRow, CandidateRow.path_key == maker.key)
        .where(ComponentRow.digest == digest)
        .order_by(PartRow.path_key, PartRow.position)
        .limit(1)
    )  # fmt: skip
    row = connection.execute(first).one_or_none()
    if row is None:
        raise Damaged(f"No path uses component {digest[:12]}.", hint="See: mutant verify --everything")
    line = ancestors(connection, row.id or _root(connection))
    made_by = line[0]
    with decoding():
        place = None if row.run is None else checked(Place(row.run, row.segment, row.generation, row.child))
        spec = checked(Spec.from_json(row.spec))
    return Blame(
        digest,
        spec,
        row.n_parameters,
        row.slot,
        made_by.id,
        made_by.task,
        made_by.parent,
        place,
        _source(line, row.slot, spec),
        _state(connection, digest),
    )


def _root(connection: Connection) -> str:
    return connection.execute(select(PathRow.id).where(PathRow.parent_key.is_(None))).scalars().one()


def _source(line: tuple[Path, ...], slot: str, spec: Spec) -> Part | None:
    """What the maker `line[0]` cloned, as in `blueprint`: its nearest ancestor's of the same name and shape."""
    maker, before = line[0], line[1:]
    if Clone(slot) not in maker.mutations:
        return None
    if slot == HEAD:
        before = tuple(takewhile(lambda path: path.task == maker.task, before))
    return next((path.slots[slot] for path in before if slot in path.slots and path.slots[slot].spec == spec), None)


def _state(connection: Connection, digest: str) -> str:
    if connection.scalar(select(WeightsRow.key).where(WeightsRow.digest == digest)) is not None:
        return "stored"
    gone = connection.scalar(select(CollectedRow.digest).where(CollectedRow.digest == digest))
    return "missing" if gone is None else "collected"


def impact(connection: Connection, digest: str) -> Impact:
    """Which tasks need the component `digest`."""
    users = select(PartRow.path_key, PartRow.slot).join(ComponentRow, ComponentRow.key == PartRow.component_key)
    used = users.where(ComponentRow.digest == digest).subquery()
    best = runs.winners(connection)
    slots = select(used.c.path_key, used.c.slot).where(used.c.path_key.in_(list(best.values())))
    slot_of = {row.path_key: row.slot for row in connection.execute(slots)}
    counted = (
        select(TaskRow.name, func.count(distinct(used.c.path_key)))
        .join(PathRow, PathRow.key == used.c.path_key)
        .outerjoin(TaskRow, TaskRow.key == PathRow.task_key)
        .group_by(TaskRow.name, TaskRow.position)
        .order_by(TaskRow.position)
    )
    counts: list[tuple[str | None, int]] = [(name, number) for name, number in connection.execute(counted)]
    return Impact(
        digest,
        {task: slot_of[key] for task, key in best.items() if key in slot_of},
        {name: number for name, number in counts if name is not None},
        root=any(name is None for name, _ in counts),
    )
