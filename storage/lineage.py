"""Who descends from whom: recursive queries over the paths' parents."""

from sqlalchemy import Connection, select

from mutant.path import Path
from mutant.storage.paths import load_paths
from mutant.storage.refusals import Damaged
from mutant.storage.schema import PathRow


def ancestors(connection: Connection, path: str) -> tuple[Path, ...]:
    """The path itself, its parent, and so on to the root. Raises Damaged when the line does not end."""
    line = select(PathRow.key, PathRow.parent_key).where(PathRow.id == path).cte("line", recursive=True)
    line = line.union(select(PathRow.key, PathRow.parent_key).where(PathRow.key == line.c.parent_key))
    found = {one.id: one for one in load_paths(connection, PathRow.key.in_(select(line.c.key)))}
    ordered: list[Path] = []
    following: str | None = path
    while following is not None:
        if following not in found:
            raise Damaged(f"The ancestors of path {path[:12]} do not lead to a root.", hint="See: mutant verify")
        ordered.append(found.pop(following))
        following = ordered[-1].parent
    return tuple(ordered)


def descendants(connection: Connection, path: str) -> tuple[Path, ...]:
    """All paths that come from this one, without itself, by their place in the runs."""
    line = select(PathRow.key).where(PathRow.id == path).cte("line", recursive=True)
    line = line.union(select(PathRow.key).where(PathRow.parent_key == line.c.key))
    return load_paths(connection, PathRow.key.in_(select(line.c.key)) & (PathRow.id != path))
