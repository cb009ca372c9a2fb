"""One image for T tasks that share a trunk, against T separate models in one process, and against the bound.

    taskset -c 0 .venv/bin/python benchmarks/serving_shared.py [--tasks 1 4 8 16]

RESULT
The bound is T L / (p + T (L - p)): L the forward of a whole path, p that of the shared trunk, both timed here.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support.many_tasks import SIZE, many_tasks
from support.timing import best_of

from mutant import backend

REPEATS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4, 8, 16])
    tasks: Sequence[int] = parser.parse_args().tasks
    backend.prepare()
    from mutant.serving.engine import Job, chain, run
    from mutant.serving.programs import Programs
    from mutant.serving.served import Resident
    from mutant.serving.trie import grow
    from mutant.storage.store import Store

    with tempfile.TemporaryDirectory() as directory:
        many_tasks(Path(directory) / "mutant.db", max(tasks))
        with Store.open(str(Path(directory) / "mutant.db"), read_only=True) as store:
            known = {task.name: task for task in store.tasks()}
            resident = Resident()
            served = resident.load(store, [(known[path.task or ""], path) for path in store.pool().paths])
            alone_bytes = sum(loaded.n_bytes for path in served for loaded in path.chain)
    programs = Programs()
    for path in served:
        programs.prepare(path)
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    (trunk,) = grow(served)[SIZE]
    whole = best_of(REPEATS, lambda: chain(served[0].chain, image, programs)).cpu
    shared = best_of(REPEATS, lambda: chain(trunk.chain, image, programs)).cpu
    print(f"whole path {1000 * whole:.2f} ms, trunk {1000 * shared:.2f} ms")
    print(f"weights {resident.n_bytes / 2**20:.1f} MiB, of separate models {alone_bytes / 2**20:.1f} MiB")
    print(" T   together  separate    gain   bound   gain / bound")
    rows: list[dict[str, float]] = []
    for n in tasks:
        some = served[:n]
        together = best_of(REPEATS, lambda some=some: run([Job(some, {SIZE: image})], programs)).cpu
        separate = best_of(
            REPEATS, lambda some=some: [run([Job((path,), {SIZE: image})], programs) for path in some]
        ).cpu
        bound = n * whole / (shared + n * (whole - shared))
        gain = separate / together
        rows.append({"tasks": n, "gain": round(gain, 2), "bound": round(bound, 2), "share": round(gain / bound, 3)})
        times = f"{n:2d}  {1000 * together:6.2f} ms {1000 * separate:6.2f} ms"
        print(f"{times}  {gain:6.2f}  {bound:6.2f}  {gain / bound:10.2f}")
    result = {
        "name": "one image for all tasks, gain over separate models",
        "ratio": rows[-1]["gain"],
        "goal": round(0.9 * rows[-1]["bound"], 2),
        "baseline": f"{rows[-1]['tasks']} separate models in one process; the goal is 90% of the bound",
        "rows": rows,
        "weights": round(alone_bytes / resident.n_bytes, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
