"""How long a server takes until it answers, and its memory, against as many separate models, one in each server.

    .venv/bin/python benchmarks/serving_start.py [--tasks 8]

Half a minute. 8 tasks answer after 5 s, in 385 MiB against 347 MiB for one task: 7.2 times less than eight servers.
Memory is what is private to a process (Linux). The first start fills the compilation cache; the second is measured.
"""

import argparse
import json
import tempfile
from pathlib import Path

from support.many_tasks import many_tasks
from support.servers import mutant_serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    tasks: int = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as text:
        many, one = Path(text) / "many.db", Path(text) / "one.db"
        many_tasks(many, tasks)
        many_tasks(one, 1)
        with mutant_serve(many) as server:
            cold = server.seconds
        with mutant_serve(many) as server:
            warm, together = server.seconds, server.resident_bytes
        with mutant_serve(one) as server:
            alone = server.resident_bytes
    print(f"{tasks} tasks: first start {cold:.1f} s, later ones {warm:.1f} s")
    print(f"memory: {together / 2**20:.0f} MiB for {tasks} tasks, {alone / 2**20:.0f} MiB for one")
    result = {
        "name": f"memory of {tasks} tasks in one server against a server for each",
        "ratio": round(tasks * alone / together, 2),
        "goal": 0.9 * tasks,
        "baseline": f"{tasks} servers of one task each, {alone / 2**20:.0f} MiB",
        "seconds": {"first": round(cold, 1), "later": round(warm, 1)},
        "mib": round(together / 2**20),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
