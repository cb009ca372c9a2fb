"""A process of two readers, each of which opens the database anew for each look, until standard input ends.

It says "reading" once both have looked, and in the end, as JSON, what each saw in each look and what went wrong.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from mutant.search.metrics import metrics
from mutant.storage.digest import digest
from mutant.storage.store import Store

THREADS = 2
SHARE, LONGEST = 4, 2.0
"""A reader pauses for so many times what its look took, and for so many seconds at most."""


def look(store: Store) -> Mapping[str, Any]:
    """What status, list, show, report and predict ask the database for; checks that the answers belong together."""
    pool, runs = store.pool(), store.runs()
    winners = {s.task: s.winner for run in runs for s in run.segments if s.winner is not None}
    for path in pool.paths:
        assert path.task is not None
        ancestors = store.ancestors(path.id)
        assert ancestors[0] == path
        assert ancestors[-1].task is None
        components = store.components(part.digest for part in path.parts)
        assert {c.digest for c in components.values()} == {part.digest for part in path.parts}
        golden = store.golden(path.id)
        assert golden is not None  # written with the segment's end, or not at all
        assert golden.logits.shape[1] == len(store.task(path.task).class_names)
    for run in runs:
        for segment in run.segments:
            for record in store.candidates(segment.key):
                assert (record.state == "DONE") == (record.path is not None)
    found = metrics(store)
    assert len(found.matrix.steps) >= len(winners)
    return {path.task or "": path.id for path in pool.paths}


class Reader(threading.Thread):
    """Looks until told to stop; `seen` and `errors` are what the test is told."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self._url, self._stop_event = url, stop
        self.seen: list[Mapping[str, Any]] = []
        self.errors: list[str] = []
        self.looked = threading.Event()

    def run(self) -> None:
        while not self._stop_event.is_set():
            began = time.monotonic()
            try:
                with Store.open(self._url, read_only=True) as store:
                    seen = look(store)
                    digest(store)
                self.seen.append(seen)
            except Exception as error:  # the test tells them all
                self.errors.append(f"{type(error).__name__}: {error}")
            self.looked.set()
            # So that ten do not take the cores from the run that they look at, on a slow machine either.
            self._stop_event.wait(max(0.3, min(LONGEST, SHARE * (time.monotonic() - began))))


def main(url: str) -> None:
    stop = threading.Event()
    readers = [Reader(url, stop) for _ in range(THREADS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.looked.wait()
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for reader in readers:
        reader.join()
    json.dump([{"seen": reader.seen, "errors": reader.errors} for reader in readers], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
