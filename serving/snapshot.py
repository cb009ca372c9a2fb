"""Which models are served: the best path of every task, as the database has it at one moment, and older versions."""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mutant.path import Path
from mutant.serving.programs import Programs
from mutant.serving.proof import prove
from mutant.serving.refusals import Refused
from mutant.serving.served import Resident, Served
from mutant.storage import catalog, paths, runs, weights
from mutant.storage.refusals import Collected, Damaged
from mutant.storage.store import Store
from mutant.storage.versions import find_version
from mutant.tasks.errors import Unknown, nearest
from mutant.tasks.task import Task

log = logging.getLogger("mutant.serving")
MOST_OLD = 8
"""Versions that are nobody's best path any more and stay on the device after they were asked for."""


RETRY_SECONDS = 30.0
"""After which damaged weights are read again: somebody may have put them back."""


@dataclass(frozen=True)
class Snapshot:
    """The tasks that answer, in order of arrival, and those that do not yet. Never changed: another takes its place."""

    served: Mapping[str, Served] = field(default_factory=dict[str, Served])
    unlearnt: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict[str, str])
    """Tasks whose weights cannot be used, or do not give their golden outputs, with the path that has them."""

    def task(self, name: str) -> Served:
        """The task's model; raises Refused (404, or 503 for one without a finished path) with the nearest name."""
        if name in self.served:
            return self.served[name]
        if name in self.unlearnt:
            raise Refused(503, f"Task '{name}' has no finished path yet.", "Its run must end first: mutant status")
        if name in self.damaged:
            hint = "See what is wrong: mutant verify. Versions before it still answer when they are named."
            raise Refused(503, f"The weights of task '{name}' are damaged, or do not give its golden outputs.", hint)
        best = nearest(name, self.served)
        hint = f"Nearest: '{best}'." if best else f"There are: {', '.join(list(self.served)[:8]) or 'none'}."
        raise Refused(404, f"There is no task '{name[:100]}'.", hint)

    def current(self, name: str, version: str) -> Served | None:
        """The task's model if `version`, a beginning of a digest of 8 digits or more, names it; else None."""
        one = self.served.get(name)
        return one if one is not None and len(version) >= 8 and one.version.startswith(version) else None


class Loader:
    """Brings what the database says onto the device. Safe to use from several threads: one at a time loads.

    What is loaded already is looked up beside that, so nobody waits for a compilation who needs none.
    """

    def __init__(self, store: Store, programs: Programs, clock: Callable[[], float] = time.monotonic) -> None:
        self.resident = Resident()
        self._store, self._programs = store, programs
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._old: OrderedDict[tuple[str, str], Served] = OrderedDict()
        self._clock, self._tried = clock, -math.inf

    def latest(self, before: Snapshot) -> Snapshot:
        """The models of now, ready to run; `before` itself when nothing has changed.

        A task whose weights are damaged is left out, and tried again every `RETRY_SECONDS`. Raises UserError when the
        database cannot be read.
        """
        again = self._clock() - self._tried >= RETRY_SECONDS
        with self._store.reading() as connection:
            winners = runs.winners(connection)
            tasks = {task.name: task for task in catalog.load_tasks(connection)}
            ids = paths.ids(connection, winners.values())
            best = {name: ids[key] for name, key in winners.items()}
            same = {n for n, one in before.served.items() if best.get(n) == one.path.id and one.task == tasks.get(n)}
            bad = {n: path for n, path in before.damaged.items() if best.get(n) == path and not again}
            fresh = {name: key for name, key in winners.items() if name not in same and name not in bad}
            loaded = paths.load_paths(connection, paths.with_keys(fresh.values())) if fresh else ()
        unlearnt = tuple(name for name in tasks if name not in winners)
        if not fresh and unlearnt == before.unlearnt and set(best) == before.served.keys() | before.damaged.keys():
            return before
        served = {name: before.served[name] for name in same}
        if fresh:
            self._tried = self._clock()
        for path in loaded:
            name = path.task or ""
            try:
                with self._loading:
                    served[name] = self._ready(tasks[name], path)
            except (Collected, Damaged) as error:
                bad[name] = path.id
                if before.damaged.get(name) != path.id:
                    log.error("task cannot be served", extra={"task": name, "reason": str(error)})
        return Snapshot({name: served[name] for name in winners if name in served}, unlearnt, bad)

    def forget_collected(self) -> None:
        """Let go of old versions whose weights were collected since; raises UserError when that cannot be read."""
        with self._lock:
            old = list(self._old.items())
        if not old:
            return
        gone = self._collected([one.path for _, one in old])
        with self._lock:
            for key, one in old:
                if one.path.id in gone:
                    self._old.pop(key, None)

    def _collected(self, paths: Sequence[Path]) -> set[str]:
        """The ids of those paths that have lost weights to `gc`; they may be on the device still."""
        with self._store.reading() as connection:
            gone = weights.collected(connection, sorted({part.digest for path in paths for part in path.parts}))
        return {path.id for path in paths if not gone.isdisjoint(part.digest for part in path.parts)}

    def find(self, snapshot: Snapshot, task: str, version: str) -> Served | Path:
        """One version of a task, given by a beginning of its digest that is unique, 8 digits or more: as it is on the
        device already, else its path, which `load` brings there.

        Raises Refused (404) when there is none or the task was removed, and as `Snapshot.task` for one that never had
        any. A task whose best path is damaged still has its older ones.
        """
        current = snapshot.current(task, version)
        if current is not None:
            return current
        if task not in snapshot.damaged:
            snapshot.task(task)
        try:
            found = find_version(self._store, task, version)
        except Unknown as error:
            raise Refused(404, error.message, f"Its versions: GET /v2/models/{task}") from error
        return self._kept(task, found.version) or found

    def load(self, path: Path) -> Served:
        """An older version of a task, brought onto the device, which can take seconds, and kept there for a while.

        Raises Refused: 410 when its weights were collected, 503 when they are damaged.
        """
        name, version = path.task or "", path.version
        with self._loading:
            kept = self._kept(name, version)
            if kept is not None:
                return kept
            if self._collected([path]):
                raise Refused(410, f"Version {version[:12]} of '{name}' was collected.", "Ask for another.")
            try:
                loaded = self._ready(self._store.task(name), path)
            except Damaged as error:
                log.error("version cannot be served", extra={"task": name, "version": version, "reason": str(error)})
                why = f"Version {version[:12]} of '{name}' is damaged, or does not give its golden outputs."
                raise Refused(503, why, "See what is wrong: mutant verify --everything") from error
        with self._lock:
            self._old[name, version] = loaded
            while len(self._old) > MOST_OLD:
                self._old.popitem(last=False)
        return loaded

    def _kept(self, task: str, version: str) -> Served | None:
        """An older version that is on the device."""
        with self._lock:
            if (task, version) in self._old:
                self._old.move_to_end((task, version))
            return self._old.get((task, version))

    def _ready(self, task: Task, path: Path) -> Served:
        """A path that can be run; raises Damaged when its weights are not what they were, or its answers."""
        (served,) = self.resident.load(self._store, [(task, path)])
        self._programs.prepare(served)
        prove(self._store, served, self._programs)
        return served
