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
