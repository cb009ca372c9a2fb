"""`mutant serve` without what this project is about: every task has all of its weights for itself, shared ones too.

Everything else is the same, so that the memory of the two servers differs by the weights alone. It takes the command's
arguments. Run by `servers.mutant_serve`.
"""

from collections.abc import Sequence

from mutant.cli.main import main
from mutant.path import Path
from mutant.serving import snapshot
from mutant.serving.served import Resident, Served
from mutant.storage.store import Store
from mutant.tasks.task import Task


class Apart(Resident):
    """Reads the components of every path again."""

    def load(self, store: Store, paths: Sequence[tuple[Task, Path]]) -> tuple[Served, ...]:
        return tuple(Resident().load(store, [one])[0] for one in paths)


if __name__ == "__main__":
    snapshot.Resident = Apart
    main()
