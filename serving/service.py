"""The running server behind its routes: the models of now, the batcher, and threads that look at the database.

Keys have a thread of their own: one that is taken back does not wait until a new task is compiled.
"""

import logging
import threading
from collections.abc import Callable

from mutant.network import BATCH
from mutant.serving import engine
from mutant.serving.access import Gate
from mutant.serving.batching import Batcher
from mutant.serving.metrics import Metrics
from mutant.serving.programs import Programs
from mutant.serving.refusals import not_ready
from mutant.serving.settings import ServeSettings
from mutant.serving.snapshot import Loader, Snapshot
from mutant.storage import keys
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

log = logging.getLogger("mutant.serving")


class Service:
    """Made with an open read-only store; `start` brings it up, `close` takes it down, in any thread."""

    def __init__(self, store: Store, settings: ServeSettings = ServeSettings()) -> None:
        self.store, self.settings = store, settings
        self.metrics = Metrics()
        self.gate = Gate(
            settings.rate, is_open=settings.is_open, is_local=settings.is_local, processes=settings.processes
        )
        self.programs = Programs(max(BATCH, settings.queueing.most_rows))
        self.loader = Loader(store, self.programs)
        self.batcher = Batcher(lambda jobs: engine.run(jobs, self.programs), settings.queueing, self.metrics.heard)
        self.metrics.queue.set_function(lambda: self.batcher.waiting)
        self.metrics.weights.set_function(lambda: self.loader.resident.n_bytes)
        self.metrics.tasks.set_function(lambda: len(self._snapshot.served) if self._snapshot else 0)
        self._snapshot: Snapshot | None = None
        self._failed: str | None = None
        self._stopping = threading.Event()
        self._looking = threading.Lock()
        self._looking_at_keys = threading.Lock()
        self._watchers = [
            threading.Thread(target=self._watch, args=(look,), name=name, daemon=True)
            for name, look in (("watcher", self.look), ("key-watcher", self.look_at_keys))
        ]
        self.gate.keys = keys.load(store)

    def start(self) -> None:
        """Load and compile everything in the background; `ready` tells when it is done."""
        for watcher in self._watchers:
            watcher.start()

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._snapshot is not None and not self._stopping.is_set()

    @property
    def snapshot(self) -> Snapshot:
        """The models of now; raises Refused (503) before there are any."""
        if self._snapshot is None:
            raise not_ready(self._failed or "The models are being loaded.")
        return self._snapshot

    def look(self) -> None:
        """Bring the keys and models up to what the database says now; what cannot be read stays as it was."""
        self.look_at_keys()
        with self._looking:
            before = self._snapshot
            try:
                self.loader.forget_collected()
                after = self.loader.latest(before or Snapshot())
            except UserError as error:
                self._failed = "The database cannot be read now."
                self.metrics.database.set(0)
                log.error("database cannot be read", extra={"reason": str(error)})
                return
            self.metrics.database.set(1)
            self._snapshot = after
        if after is not before:
            _tell(before, after)

    def look_at_keys(self) -> None:
        """Bring the keys up to what the database says now; they stay as they were when it cannot be read."""
        with self._looking_at_keys:
            try:
                self.gate.keys = keys.load(self.store)
            except UserError as error:
                log.error("keys cannot be read", extra={"reason": str(error)})

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._stopping.set()
        self.batcher.close()
        for watcher in self._watchers:
            if watcher.ident is not None:
                watcher.join(5.0)

    def _watch(self, look: Callable[[], None]) -> None:
        while True:
            _guarded(look)
            if self._stopping.wait(self.settings.refresh):
                return


def _guarded(look: Callable[[], None]) -> None:
    """One look that cannot end the watching."""
    try:
        look()
    except Exception:
        log.exception("looking at the database failed")


def _tell(before: Snapshot | None, after: Snapshot) -> None:
    old = {} if before is None else {name: one.version for name, one in before.served.items()}
    new = {name: one.version for name, one in after.served.items()}
    for name in new.keys() - old.keys() if before is not None else ():
        log.info("task added", extra={"task": name, "version": new[name]})
    for name in old.keys() - new.keys():
        log.info("task removed", extra={"task": name})
    for name in (name for name in new.keys() & old.keys() if new[name] != old[name]):
        log.info("task has a new version", extra={"task": name, "version": new[name]})
    if before is None:
        log.info("ready", extra={"tasks": len(new)})
