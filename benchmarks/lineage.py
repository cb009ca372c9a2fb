"""How commands over a whole system grow with its tasks and paths, on SQLite and PostgreSQL, over generated rows.

    .venv/bin/python benchmarks/lineage.py [--sizes 100x10000,1000x100000] [--back-ends sqlite,postgresql]

Some minutes for 100x10000 on two cores; 1000x100000 takes about ten times as long, most of it to make the rows.
Each task has `paths / tasks` trained paths of about 20 parts in a line of ancestors of its own and others' paths;
every path makes two components and a trace. Times are the best of three calls of the store, with its connection open,
by the clock and of this process's own processor time. The baseline is the same line of ancestors by one query per
ancestor, in the same run.

Measured on 2 cores under a load of 6 to 20, so by processor time, for SQLite from 100x10000 (41 ancestors) to
1000x100000 (438): lineage 12 -> 57 ms (one query per ancestor 190 -> 1,515: 16 to 27 times as much), blame 13 -> 60,
impact 3 -> 4, list 54 -> 408, status 24 -> 290, gc --dry-run 338 -> 3,017, rm 23 -> 185, export 370 -> 2,747, digest
4,200 -> 48,251. docs/durability.md has the table.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from support.back_ends import BACK_ENDS, available, databases
from support.rows import generate, new_system
from support.timing import best_of

from mutant.cli.system import status_facts
from mutant.cli.telling import path_facts
from mutant.path import Path
from mutant.search.metrics import metrics
from mutant.search.system import System
from mutant.storage import lineage
from mutant.storage.collection import gc
from mutant.storage.comparison import compare
from mutant.storage.digest import digest
from mutant.storage.export import export_task
from mutant.storage.importing import import_tasks
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store

REPEATS, GOAL = 3, 2.0


def walk(store: Store, path: str) -> tuple[Path, ...]:
    """The line of ancestors by one call of the store per ancestor."""
    found = [store.path(path)]
    while found[-1].parent is not None:
        found.append(store.path(found[-1].parent))
    return tuple(found)


def measures(store: Store, tasks: int) -> dict[str, Callable[[], object]]:
    last = f"task-{tasks - 1:04d}"
    best, first = store.best(last), store.best("task-0000")
    assert best is not None
    assert first is not None
    common, own = best.slots["embedding"].digest, best.slots["head"].digest

    def with_connection(query: Callable[[Connection, str], object], component: str) -> object:
        with store.reading() as connection:
            return query(connection, component)

    return {
        "lineage": lambda: store.ancestors(best.id),
        "walk": lambda: walk(store, best.id),
        "blame": lambda: with_connection(lineage.blame, own),
        "impact (own)": lambda: with_connection(lineage.impact, own),
        "impact (root's)": lambda: with_connection(lineage.impact, store.root().slots["embedding"].digest or common),
        "diff": lambda: compare(store, first.id, best.id),
        "gc --dry-run": lambda: gc(store, dry_run=True),
        "pool": store.pool,
        "list": System(store).summary,
        "show": lambda: path_facts(store, best),
        "metrics": lambda: metrics(store),
        "status": lambda: status_facts(store),
        "all paths": store.paths,
        "digest": lambda: digest(store),
        "rm, rm --undo": lambda: rm_and_undo(store, last),
        "export": lambda: export(store, last),
        "import": lambda: import_(store, [last]),
        "import (100)": lambda: import_(store, [f"task-{number:04d}" for number in range(tasks - 100, tasks)]),
    }


def rm_and_undo(store: Store, task: str) -> None:
    remove(store, task, force=True)
    undo(store, task)


def export(store: Store, task: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        export_task(store, task, f"{directory}/exported")


def import_(store: Store, tasks: list[str]) -> None:
    """Into a new system of SQLite's, the making of which is a small part of the time."""
    with tempfile.TemporaryDirectory() as directory, new_system(f"{directory}/new.db") as new:
        import_tasks(store, new, tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100x10000,1000x10000,1000x100000")
    parser.add_argument("--back-ends", default=",".join(BACK_ENDS))
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in available(options.back_ends.split(",")):
        results += [measure(name, *map(int, size.split("x"))) for size in options.sizes.split(",")]
    names = [key for key in results[0] if key not in ("back_end", "tasks", "paths", "cpu")]
    heads = [f"{r['back_end']} {r['tasks']:,} x {r['paths']:,}" for r in results]
    print("\n| " + " | ".join(["ms (of it this process)", *heads]) + " |")
    print("|---" * (len(results) + 1) + "|")
    for key in names:
        cells = [f"{1000 * r[key]:,.1f} ({1000 * r['cpu'][key]:,.1f})" for r in results]
        print("| " + " | ".join([key, *cells]) + " |")
    worst = min(r["walk"] / r["lineage"] for r in results)
    baseline = "one query per ancestor"
    result = {"name": "lineage", "ratio": round(worst, 2), "goal": GOAL, "baseline": baseline}
    print(json.dumps(result | {"load": round(os.getloadavg()[0], 1), "results": results}))


def measure(name: str, tasks: int, paths: int) -> dict[str, Any]:
    with databases(name) as new, new_system(new()) as store:
        started = time.perf_counter()
        generate(store, tasks, paths)
        depth = len(store.ancestors((store.best(f"task-{tasks - 1:04d}") or store.root()).id))
        print(
            f"{name}: {tasks:,} tasks, {paths:,} paths in {time.perf_counter() - started:.0f} s; depth {depth}",
            flush=True,
        )
        cpu: dict[str, float] = {}
        found: dict[str, Any] = {"back_end": name, "tasks": tasks, "paths": paths, "cpu": cpu}
        for what, call in measures(store, tasks).items():
            took = best_of(REPEATS, call)
            found[what], cpu[what] = round(took.wall, 5), round(took.cpu, 5)
            print(f"  {what:18} {1000 * took.wall:10.1f} ms, {1000 * took.cpu:10.1f} ms of it here", flush=True)
    return found


if __name__ == "__main__":
    main()
