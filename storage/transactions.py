"""The transactions of a system's open database: reading ones see one state, writing ones take turns."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from mutant.storage import catalog, leases, weights
from mutant.storage.blobs.placement import Depot, opened
from mutant.storage.engine import connect
from mutant.storage.faults import decoding, naming_damage, translated
from mutant.storage.locks import DEPOT, WRITES
from mutant.storage.refusals import BlobDamaged
from mutant.storage.url import label
from mutant.tasks.errors import UserError


class Transactions:
    """What a `Store` reads and writes by."""

    def __init__(self, url: URL, *, read_only: bool, busy_seconds: float) -> None:
        self.url = url
        self.read_only = read_only
        self._engine = connect(url, read_only=read_only, busy_seconds=busy_seconds)
        self._depot: Depot | None = None
        self.lease: leases.Lease | None = None
        """The lease that this store holds (`holding.py`): every write asks whether it still does."""

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A transaction that sees one state of the database, for the modules of this room.

        Raises Collected for weights that it still sees, but that were collected since, and lay in the blob store.
        """
        try:
            with self._reading() as connection:
                yield connection
        except BlobDamaged as error:
            if error.reason == "missing":
                with self._reading() as connection:
                    weights.check_not_collected(connection, error)
            raise

    @contextmanager
    def _reading(self) -> Generator[Connection]:
        with translated(self.url), naming_damage(self.url), self._engine.begin() as connection:
            yield self._placed(connection)

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction with the write lock, committed whole or not at all, for the modules of this room.

        Raises Superseded when this store held the lease and another process has taken it over.
        """
        with self._writing() as connection:
            if self.lease is not None:
                leases.check(connection, self.lease)
            yield connection

    @contextmanager
    def changing(self) -> Generator[Connection]:
        """A writing transaction that changes runs: raises Superseded or Held unless the lease is ours or nobody's."""
        with self._writing() as connection:
            leases.check(connection, self.lease)
            yield connection

    @contextmanager
    def _writing(self) -> Generator[Connection]:
        if self.read_only:
            raise UserError(f"'{label(self.url)}' was opened for reading only, and this writes to it.")
        engine = self._engine.execution_options(**{WRITES: True})
        with translated(self.url), naming_damage(self.url), engine.begin() as connection:
            yield self._placed(connection)

    def _placed(self, connection: Connection) -> Connection:
        """The connection, told where weights lie."""
        if self._depot is None:
            with decoding():
                self._depot = opened(catalog.load_placement(connection), self.url)
        return connection.execution_options(**{DEPOT: self._depot})

    @property
    def depot(self) -> Depot:
        """Where the system's weights lie."""
        with self.reading() as connection:
            return weights.depot_of(connection)
