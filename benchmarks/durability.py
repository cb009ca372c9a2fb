"""What durability costs: time per candidate with and without commits, bytes per task, opening, weights per second.

    .venv/bin/python benchmarks/durability.py [--back-ends sqlite,postgresql]

Two minutes on two quiet cores. Children of EfficientNet-Lite0 by the default preset are trained by the real loop with
SQLite's commits, with PostgreSQL's, and alone without any, in turn, generation by generation, after a rehearsal in
which everything is compiled. The ratio is that of the time per child without / with what the loop asks of the store
(planning, leases, outcomes, reading back), both by the clock of the same generations, so that a busy machine slows
both; of the slower back end. Beside it stand the pairs of a generation alone and with commits, by processor time (of
this process: without the server's, and without waiting for the disk) and by the clock. Then children that cost nothing
to train, bytes, opening, and weights in and out of the database with hashing and commits.

Measured on 2 cores with nothing else at work, SQLite and PostgreSQL: 0.989 and 0.984 within a run (goal 0.95); pairs
by processor time 0.988 and 0.982; pairs by the clock 0.983 (0.917 to 1.010) and 0.971 (0.942 to 0.985).
docs/durability.md has the tables.
"""

import argparse
import gc as memory
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select
from support.back_ends import BACK_ENDS, available, databases
from support.free import FreeEvaluator
from support.loops import Pairs, Worst, compare_loops, grow_for_free
from support.rows import generate, new_system
from support.timing import best_of

import mutant
from mutant.search.config import Settings
from mutant.storage import weights
from mutant.storage.collection import gc
from mutant.storage.schema import WeightsRow
from mutant.storage.store import Store
from mutant.tasks.load import load

ROOT = "efficientnet-lite0"
TASKS = ("sample:digits", "sample:letters", "sample:textures")
REAL, FREE = Settings(children=4, generation_size=2), Settings(children=40, generation_size=4)
LARGE = (1_000, 20_000)
COMMANDS = ("--help", "status", "list", "show task-0999", "lineage task-0999")
WEIGHTS = {"100 kB": (100_000, 80), "1 MB": (1_000_000, 24), "8 MB": (8_000_000, 6)}
GOAL, REPEATS = 0.95, 3


def table(first: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    print(f"\n| {first} | {' | '.join(columns)} |\n|---{'|--:' * len(columns)}|")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def commits(names: Sequence[str]) -> tuple[Pairs, list[dict[str, Any]]]:
    """Real children with every back end's commits and without any; and the bytes that the tasks added."""
    tasks = [load(uri) for uri in TASKS]
    with ExitStack() as stack:
        urls = {"rehearsal": stack.enter_context(databases("sqlite"))()}
        urls |= {name: stack.enter_context(databases(name))() for name in names}
        systems = {name: stack.enter_context(mutant.create(url, root=ROOT)) for name, url in urls.items()}
        stores = {name: system.store for name, system in systems.items()}
        before = {name: occupied(store) for name, store in stores.items()}
        pairs = compare_loops(stores, tasks, REAL)
        sizes = [added(stores[name], name, before[name], len(tasks)) for name in names]
    return pairs, sizes


def occupied(store: Store) -> tuple[int, int]:
    """Bytes of the whole database, and of the weights alone."""
    with store.reading() as connection:
        kept: int = connection.scalar(select(func.sum(WeightsRow.n_bytes))) or 0
        if connection.dialect.name == "postgresql":
            return connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one(), int(kept)
        pages, size = (connection.exec_driver_sql(f"PRAGMA page_{what}").scalar_one() for what in ("count", "size"))
    return pages * size, int(kept)


def added(store: Store, name: str, before: tuple[int, int], tasks: int) -> dict[str, Any]:
    """Bytes that a task adds, before and after a collection, against the bytes that its path trained."""
    full = occupied(store)
    gc(store)
    lean = occupied(store)
    own = [part for path in store.pool().paths for part in path.parts if part.task == path.task]
    parameters = sum(store.component(part.digest).n_bytes for part in own)
    momentum = sum(array.nbytes for part in own for array in store.trace(part.trace or "").values())
    return {
        "back_end": name,
        "database": (full[0] - before[0]) // tasks,
        "database_after_gc": (lean[0] - before[0]) // tasks,
        "weights": (full[1] - before[1]) // tasks,
        "weights_after_gc": (lean[1] - before[1]) // tasks,
        "parameters": parameters // tasks,
        "momentum": momentum // tasks,
    }


def worst_cases(names: Sequence[str]) -> dict[str, Worst]:
    """Children that cost nothing to train."""
    found: dict[str, Worst] = {}
    for name in names:
        with databases(name) as new, mutant.create(new(), root=ROOT) as system:
            found[name] = grow_for_free(system.store, load(TASKS[0]), FreeEvaluator(), FREE)
    return found


def plain_file(n_bytes: float) -> float:
    """Seconds to write as many bytes to a new file and wait for the disk: what any durable store must spend."""
    data = np.random.default_rng(0).bytes(int(n_bytes))
    times: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(20):
            started = time.perf_counter()
            with (Path(directory) / str(number)).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def opening(name: str) -> dict[str, float]:
    """Seconds to open a large system and ask what it has learnt, and of commands as whole processes."""
    with databases(name) as new:
        url = new()
        with new_system(url) as store:
            generate(store, *LARGE)

        def opened() -> None:
            with Store.open(url) as store:
                assert len(store.learnt()) == LARGE[0]

        def command(words: str) -> None:
            line = [sys.executable, "-m", "mutant.cli.main", *words.split()]
            subprocess.run(line, env=os.environ | {"MUTANT_DB": url}, check=True, capture_output=True)

        found = {"open and ask what is learnt": best_of(REPEATS, opened).wall}
        return found | {f"mutant {words}": best_of(REPEATS, lambda w=words: command(w)).wall for words in COMMANDS}


def throughput(name: str) -> dict[str, tuple[float, float]]:
    """MB/s of writing and reading weights by their size: with encoding, hashing, commit and check, as training does."""
    found: dict[str, tuple[float, float]] = {}
    with databases(name) as new, new_system(new()) as store:
        for size, (n_bytes, number) in WEIGHTS.items():
            rng = np.random.default_rng(n_bytes)
            arrays = [{"kernel": rng.random(n_bytes // 4, dtype=np.float32)} for _ in range(number)]
            started = time.perf_counter()
            digests: list[str] = []
            for one in arrays:
                blob = weights.arrays_blob(weights.TRACE, one)
                with store.writing() as connection:
                    weights.put(connection, [blob])
                digests.append(blob.digest)
            written = time.perf_counter() - started
            megabytes = n_bytes * number / 1e6
            read = best_of(REPEATS, lambda found=digests: [store.trace(digest) for digest in found]).wall
            found[size] = megabytes / written, megabytes / read
            memory.collect()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--back-ends", default=",".join(BACK_ENDS))
    names = available(parser.parse_args().back_ends.split(","))
    pairs, sizes = commits(names)
    show_pairs(names, pairs)
    show_sizes(sizes)
    worst = worst_cases(names)
    show_worst(worst)
    opened = {name: opening(name) for name in names}
    rows = [(what, [f"{1000 * opened[name][what]:,.0f} ms" for name in names]) for what in opened[names[0]]]
    table(f"{LARGE[0]:,} tasks, {LARGE[1]:,} paths", names, rows)
    rates = {name: throughput(name) for name in names}
    rows = [(size, [f"{w:,.0f} / {r:,.0f} MB/s" for w, r in (rates[name][size] for name in names)]) for size in WEIGHTS]
    table("write / read weights", names, rows)
    ratios = {name: round(within(pairs, name), 4) for name in names}
    result = {
        "name": "durability",
        "ratio": min(ratios.values()),
        "goal": GOAL,
        "baseline": "the same generations without their time in the store",
        "load": round(os.getloadavg()[0], 1),
        "ratios": ratios,
        "pairs_by_processor_time": {name: [round(r, 3) for r in pairs.ratios(name, "cpu")] for name in names},
        "pairs_by_the_clock": {name: [round(r, 3) for r in pairs.ratios(name, "wall")] for name in names},
        "free_children_ms": {name: round(1000 * found.seconds, 2) for name, found in worst.items()},
        "bytes_per_task": sizes,
        "opening_seconds": {name: {what: round(s, 3) for what, s in opened[name].items()} for name in names},
        "megabytes_per_second": {
            name: {s: [round(x) for x in pair] for s, pair in rates[name].items()} for name in names
        },
    }
    print(json.dumps(result))


def in_store(pairs: Pairs, name: str) -> float:
    """Seconds per child inside the store's methods."""
    return sum(pairs.clocks[name].seconds.values()) / (len(TASKS) * (REAL.children or 1))


def within(pairs: Pairs, name: str) -> float:
    """Time per child without / with what is asked of the store, both by the clock of the same generations."""
    kept = statistics.mean(took.wall for took in pairs.kept[name])
    return (kept - in_store(pairs, name)) / kept


def show_pairs(names: Sequence[str], pairs: Pairs) -> None:
    rows = [("alone", [f"{statistics.median(took.wall for took in pairs.alone):.2f} s", "", "", "", "", ""])]
    for name in names:
        cells = [
            f"{statistics.median(took.wall for took in pairs.kept[name]):.2f} s",
            f"{1000 * in_store(pairs, name):.0f} ms",
            f"{within(pairs, name):.3f}",
            spread(pairs.ratios(name, "cpu")),
            spread(pairs.ratios(name, "wall")),
            f"{1000 * statistics.median(pairs.closing[name]):.0f} ms",
        ]
        rows.append((name, cells))
    columns = ["per child", "in the store", "without / with, within a run", "alone / with, processor time"]
    columns += ["alone / with, clock", "closing a task"]
    table(f"{len(pairs.alone)} generations of real children", columns, rows)


def show_sizes(sizes: Sequence[dict[str, Any]]) -> None:
    names = [size["back_end"] for size in sizes]
    keys = [key for key in sizes[0] if key != "back_end"]
    rows = [(key.replace("_", " "), [f"{size[key]:,}" for size in sizes]) for key in keys]
    for when in ("", "_after_gc"):
        ratios = [f"{s[f'database{when}'] / (s['parameters'] + s['momentum']):.2f}" for s in sizes]
        rows.append((f"database{when.replace('_', ' ')} / (parameters + momentum)", ratios))
    table("bytes per added task", names, rows)


def show_worst(worst: dict[str, Worst]) -> None:
    methods = dict.fromkeys(method for found in worst.values() for method in found.by_method)
    rows = [
        ("in all, median of generations", [f"{1000 * w.seconds:.1f} ms" for w in worst.values()]),
        ("least to most", [f"{1000 * w.spread[0]:.1f} to {1000 * w.spread[1]:.1f} ms" for w in worst.values()]),
        *((m, [f"{1000 * w.by_method.get(m, 0):.1f} ms" for w in worst.values()]) for m in methods),
        ("weights", [f"{w.n_bytes:,.0f} bytes" for w in worst.values()]),
        ("the same bytes to a plain file", [f"{1000 * plain_file(w.n_bytes):.1f} ms" for w in worst.values()]),
    ]
    table(f"per child of {FREE.children} that cost nothing", list(worst), rows)


if __name__ == "__main__":
    main()
