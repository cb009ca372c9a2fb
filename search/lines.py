"""Lines of ancestors in memory: a path that the loop has met is not read from the database again."""

from mutant.path import Path
from mutant.storage.lineage import line_of
from mutant.storage.store import Store


class Lines:
    """The ancestors of paths, from memory or from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Path] = {}
        self._added: list[str] = []

    def add(self, path: Path) -> None:
        """A path that was committed."""
        self._known[path.id] = path
        self._added.append(path.id)

    def ancestors(self, path_id: str) -> tuple[Path, ...]:
        """The path itself first, the root last."""
        missing: str | None = path_id
        while missing is not None and missing in self._known:
            missing = self._known[missing].parent
        if missing is not None:
            self._known.update((path.id, path) for path in self._store.ancestors(missing))
        return line_of(path_id, self._known)

    def keep(self, winner: Path | None) -> None:
        """Forget the paths that were added since the last call, but for those on the winner's line."""
        line = set[str]()
        following = None if winner is None else winner.id
        while following is not None and following in self._known:
            line.add(following)
            following = self._known[following].parent
        for path_id in self._added:
            if path_id not in line:
                self._known.pop(path_id, None)
        self._added = []
