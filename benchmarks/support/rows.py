"""Systems of any size made of rows: what lineage and opening are measured on, since growing them would take weeks.

Each task has `paths / tasks` trained paths of about 20 parts, in a line of ancestors of its own and others' paths;
every path makes two components and a trace. Their weights are eight numbers each, which no network computes with.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from sqlalchemy import Connection, insert, select, text

from mutant.component import Component, Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Clone, Mutation, NewHead, to_dict
from mutant.path import Candidate, Part, Path
from mutant.search.config import Settings
from mutant.search.growth import configure
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
from mutant.storage.weights import TRACE, Blob, arrays_blob, component_blob
from mutant.tasks.task import Split, Task

BLOCKS = 16
Rows = dict[Any, list[dict[str, Any]]]
HYPERPARAMETERS = Hyperparameters(image_size=64).to_dict()


def new_system(url: str) -> Store:
    """A system of a root of 16 blocks, without a task."""
    root, components = root_of()
    return Store.create(url, SystemInfo("toy", "toy", "none", "made", "", 64, 0, "benchmark"), root, components)


def digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def root_of() -> tuple[Path, list[Component]]:
    slots = ["embedding", *(f"block_{i:02d}" for i in range(BLOCKS)), "norm"]
    made = [
        Component(Spec.of(f"toy/{s}", features=8), {"kernel": np.full(8, i, np.float32)}) for i, s in enumerate(slots)
    ]
    parts = tuple(
        Part(slot, c.spec, c.digest, c.n_parameters, depth=int(slot[6:]) + 1 if slot.startswith("block_") else 0)
        for slot, c in zip(slots, made, strict=True)
    )
    return Path(digest("root"), None, None, parts, Hyperparameters(image_size=64), flops=1e6), made


def generate(store: Store, tasks: int, paths: int) -> None:
    """A run per task, as `mutant add` makes; a child's parent is an earlier path of its task, or another's winner."""
    config = configure(store, ("task-0000",), Settings(children=paths // tasks)).to_dict()
    with store.writing() as connection:
        _tasks(connection, tasks)
        root = list(
            connection.execute(select(PartRow.slot, PartRow.component_key, PartRow.depth).order_by(PartRow.position))
        )
        root_key = connection.execute(select(PathRow.key)).scalar_one()
        rng = np.random.default_rng(0)
        each, winners = paths // tasks, [root_key]
        ids = {root_key: digest("root")}
        known: dict[int, list[tuple[Any, ...]]] = {root_key: [(s, c, d, None, None) for s, c, d in root]}
        next_path, next_component, next_trace = root_key + 1, len(root) + 1, 1
        for task in range(tasks):
            rows: Rows = {
                row: [] for row in (ComponentRow, TraceRow, WeightsRow, PathRow, PartRow, MutationRow, CandidateRow)
            }
            own: list[int] = []
            for child in range(each):
                cross = not own or rng.random() < 0.1
                parent = int(rng.choice(winners[-50:] if cross else own[-8:]))
                parts = [p for p in known[parent] if p[0] != "head"]
                cloned = int(rng.integers(len(parts)))
                slot, _, depth, _, _ = parts[cloned]
                mutations = (Clone(slot), NewHead(2))
                key, id_ = next_path, Candidate(f"task-{task:04d}", ids[parent], mutations, child).id
                _trace(rows, next_trace, id_)
                _component(rows, next_component, "head", id_)
                _component(rows, next_component + 1, slot, id_)
                parts[cloned] = (slot, next_component + 1, depth, key, next_trace)
                parts.append(("head", next_component, 0, key, next_trace))
                known[key], ids[key] = parts, id_
                next_path, next_component, next_trace = next_path + 1, next_component + 2, next_trace + 1
                _path(rows, key, id_, task, parent, parts, float(rng.random()))
                for position, data in enumerate(map(to_dict, mutations)):
                    kind = data.pop("kind")
                    rows[MutationRow].append({"path_key": key, "position": position, "kind": kind, "data": data})
                rows[CandidateRow].append(_candidate(task, child, id_, parent, key, mutations))
                own.append(key)
            winner = own[-1]
            run = {"id": task + 1, "config": config | {"tasks": [f"task-{task:04d}"]}, "started_at": now()}
            segment = {"run": task + 1, "segment": 0, "task_key": task + 1, "visit": 0}
            for row in (ComponentRow, TraceRow, WeightsRow, PathRow, PartRow, MutationRow):
                connection.execute(insert(row), rows[row])
            connection.execute(insert(RunRow).values(run | {"state": "open"}))
            connection.execute(insert(SegmentRow).values(segment | {"winner_key": winner, "state": "finished"}))
            connection.execute(insert(CandidateRow), rows[CandidateRow])
            winners.append(winner)
            known = {key: known[key] for key in winners}
        connection.execute(text("UPDATE runs SET state = 'finished'"))
    with store.reading() as connection:
        postgres = connection.dialect.name == "postgresql"
    if postgres:
        _count_on(store, next_path, next_component, next_trace)


def _count_on(store: Store, path: int, component: int, trace: int) -> None:
    """Keys were given here and not by the server's sequences, which must go on after them; and its statistics."""
    with store.writing() as connection:
        for table, following in (("paths", path), ("components", component), ("traces", trace)):
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'key'), {following})"))
        connection.execute(text("SELECT setval(pg_get_serial_sequence('tasks', 'key'), (SELECT max(key) FROM tasks))"))
        connection.execute(text("ANALYZE"))


def _tasks(connection: Connection, tasks: int) -> None:
    for number in range(tasks):
        splits = tuple(Split(name, 10, digest(name), "made") for name in ("train", "validation", "test"))
        task = Task(f"task-{number:04d}", "sample:digits", ("a", "b"), splits, digest("task", number))
        row = {"key": number + 1, "name": task.name, "position": number, "uri": task.uri, "added_at": now()}
        connection.execute(insert(TaskRow).values(row | {"fingerprint": task.fingerprint, "data": task.to_json()}))


def _component(rows: Rows, key: int, slot: str, path: str) -> None:
    made = Component(Spec.of(f"toy/{slot}", features=8), {"kernel": _values("component", slot, path)})
    rows[ComponentRow].append(
        {"key": key, "digest": made.digest, "spec": made.spec.to_json(), "n_parameters": 8, "n_bytes": made.n_bytes}
    )
    _weights(rows, component_blob(made))


def _trace(rows: Rows, key: int, path: str) -> None:
    blob = arrays_blob(TRACE, {"kernel": _values("trace", path).astype(ml_dtypes.bfloat16)})
    rows[TraceRow].append({"key": key, "digest": blob.digest})
    _weights(rows, blob)


def _weights(rows: Rows, blob: Blob) -> None:
    rows[WeightsRow].append({"digest": blob.digest, "n_bytes": len(blob.data), "data": blob.data})


def _values(*what: object) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes.fromhex(digest(*what)[:16]), np.uint8).astype(np.float32)


def _path(
    rows: Rows, key: int, id_: str, task: int, parent: int, parts: Sequence[tuple[Any, ...]], quality: float
) -> None:
    rows[PathRow].append(
        {
            "key": key, "id": id_, "version": id_, "task_key": task + 1, "parent_key": parent,
            "hyperparameters": HYPERPARAMETERS, "probabilities": {}, "quality": quality, "flops": 1e6,
            "created_at": now(),
        }
    )  # fmt: skip
    rows[PartRow] += [
        {
            "path_key": key, "position": at, "slot": slot, "component_key": component, "depth": depth,
            "maker_key": maker, "trace_key": trace,
        }
        for at, (slot, component, depth, maker, trace) in enumerate(parts)
    ]  # fmt: skip


def _candidate(task: int, child: int, id_: str, parent: int, key: int, mutations: Sequence[Mutation]) -> dict[str, Any]:
    return {
        "run": task + 1, "segment": 0, "generation": child // 8, "child": child % 8, "id": id_, "parent_key": parent,
        "seed": child, "mutations": [to_dict(m) for m in mutations], "hyperparameters": HYPERPARAMETERS,
        "probabilities": {}, "pool_version": "", "state": "DONE", "path_key": key, "validations": [0.5],
        "seconds": 1.0, "examples": 1, "flops": 1.0, "planned_at": now(), "committed_at": now(),
    }  # fmt: skip
