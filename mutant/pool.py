"""The pool: the retained paths and what they share, as an immutable snapshot."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mutant.path import Part, Path


@dataclass(frozen=True)
class Pool:
    """The root and the active paths: the best of each task, and the retained children of the task under way."""

    root: Path
    paths: tuple[Path, ...] = ()

    def of_task(self, task: str) -> tuple[Path, ...]:
        return tuple(path for path in self.paths if path.task == task)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a path, in the order in which they came."""
        return tuple(dict.fromkeys(path.task for path in self.paths if path.task is not None))

    @cached_property
    def users(self) -> Mapping[str, frozenset[str]]:
        """Component digest to the tasks whose paths use it."""
        users: dict[str, set[str]] = {}
        for path in self.paths:
            for part in path.parts:
                users.setdefault(part.digest, set()).add(path.task or "")
        return {digest: frozenset(tasks) for digest, tasks in users.items()}

    @cached_property
    def version(self) -> str:
        """Digest of which paths are in it: what a generation was drawn against."""
        return hashlib.sha256("\n".join([self.root.id, *(path.id for path in self.paths)]).encode()).hexdigest()

    def with_best(self, path: Path, place: int) -> "Pool":
        """The pool with another best path of a task, of which it has one or none: that at `place`, or before it.

        Users of components are carried over, since counting them again takes longer with every task.
        """
        old = self.paths[place] if place < len(self.paths) and self.paths[place].task == path.task else None
        pool = Pool(self.root, (*self.paths[:place], path, *self.paths[place + (old is not None) :]))
        users, task = dict(self.users), path.task or ""
        for part in old.parts if old else ():
            users[part.digest] = users[part.digest] - {task}
            if not users[part.digest]:
                del users[part.digest]
        for part in path.parts:
            users[part.digest] = users.get(part.digest, frozenset()) | {task}
        pool.__dict__["users"] = users  # where `cached_property` keeps it
        return pool

    def with_paths(self, paths: Iterable[Path]) -> "Pool":
        return Pool(self.root, (*self.paths, *paths))


def accounted_parameters(parts: Iterable[Part], task: str, pool: Pool) -> float:
    """Sum over a path's components of n_params / (number of tasks whose path uses it, this one included).

    arXiv 2205.10937, section 3.3. A component that only the root uses counts whole.
    """
    users = ((part, pool.users.get(part.digest, frozenset())) for part in parts)
    return sum(part.n_parameters / (len(tasks) + (task not in tasks)) for part, tasks in users)


def shared_share(path: Path) -> float:
    """Share of the path's parameters, 0 to 1, that its task did not train: frozen, from the root or another task."""
    own = sum(part.n_parameters for part in path.parts if part.task == path.task)
    return 1 - own / path.n_parameters if path.n_parameters else 0.0
