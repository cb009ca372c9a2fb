"""The start of a system: its blob store made ready, its root's weights shipped,
its tables and root in one transaction.
"""

from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from mutant.component import Component
from mutant.path import Path
from mutant.storage import births, catalog, migrate, weights
from mutant.storage.blobs.placement import Depot, Placement, opened
from mutant.storage.engine import holds_system
from mutant.storage.locks import DEPOT
from mutant.storage.records import SystemInfo
from mutant.storage.url import label
from mutant.tasks.errors import UserError


def found(url: URL, info: SystemInfo, root: Path, components: Iterable[Component], placement: Placement) -> bool:
    """Make a system, whole or not at all; False when there is one in `url` already.

    Raises UserError when the database or the blob store cannot be written.
    """
    new = births.prepare(root, {component.digest: component for component in components}, {})
    if holds_system(url):
        return False
    depot = opened(placement, url)
    made = False
    try:
        made = _fill(url, info, new, placement, depot)
    finally:
        if not made and depot.blobs is not None:
            with suppress(UserError):  # it was this very store that could not be reached
                depot.blobs.clear()
    return made


def _fill(url: URL, info: SystemInfo, new: births.NewPath, placement: Placement, depot: Depot) -> bool:
    def fill(connection: Connection) -> None:
        connection.execution_options(**{DEPOT: depot})
        catalog.write_system(connection, info, births.write_path(connection, new), placement)

    if depot.blobs is not None:
        depot.blobs.prepare()
    weights.ship(depot, new.weights)
    return migrate.create(url, fill)


def check_same(url: URL, asked: tuple[SystemInfo, Path], there: tuple[SystemInfo, Path], *, exist_ok: bool) -> None:
    """Raise UserError unless the system that is there already is the one that was asked for, and this is no fault."""
    if not exist_ok:
        raise UserError(
            f"There is a system in '{label(url)}' already.",
            hint="Go on with: mutant add, or name another with --db",
        )
    (info, root), (known, its_root) = asked, there
    if (its_root.version, known.root, known.seed) != (root.version, info.root, info.seed):
        raise UserError(
            f"The system in '{label(url)}' has another root or seed: {known.root}, seed {known.seed}.",
            hint="Name another with --db.",
        )
