"""A soak: mixed load while tasks are added, removed and brought back below the server, and a replica of it is killed
again and again. No wrong and no lost answer, and memory that stays.

    .venv/bin/python benchmarks/serving_soak.py [--minutes 10] [--clients 8] [--replicas 2] [--every 45]

Ten minutes of two replicas, one killed every 45 s (`--replicas 2`): 40,435 answers, none wrong, none lost, 43 of them
sent again by the client, 616 changes of the tasks, 13 kills, the oldest replica's memory 499 MiB after the first
minute, 519 at the end. One plain process, beside other work: 117,262 answers, 557 changes, 403 MiB throughout.
Every answer is compared to the bit with what was computed before. The ratio is memory after the first minute over
memory at the end, of the server, or of the replica that lives through it all; 1 is flat. A request whose replica was
killed under it is sent again by the client until it has its answer. Needs Linux; `--replicas` the extra `replicas`.
"""

import argparse
import itertools
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from support.load import infer, run
from support.many_tasks import SIZE, add_task, answers_of, many_tasks
from support.replicas import Killer, oldest_bytes
from support.servers import free_port, mutant_serve

from mutant import backend
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store

IMAGES, TASKS = 8, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=0, help="copies of the server; 0: one plain process")
    parser.add_argument("--every", type=float, default=45.0, help="seconds between kills of the youngest replica")
    arguments = parser.parse_args()
    backend.prepare()
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as text:
        database = Path(text) / "mutant.db"
        names = many_tasks(database, TASKS)
        asked = [(name, number) for number in range(IMAGES) for name in names[:-1]]
        expected = answers_of(database, names, images)
        stop, changes, killed = threading.Event(), [0], list[int]()
        options = ["--replicas", str(arguments.replicas), "--port", str(free_port())] if arguments.replicas else []
        with mutant_serve(database, "--refresh", "0.2", *options) as server:
            beside = [threading.Thread(target=_change, args=(database, names[-1], stop, changes))]
            if arguments.replicas:
                beside.append(threading.Thread(target=Killer(server.pid, arguments.every).until, args=(stop, killed)))
            for thread in beside:
                thread.start()
            memory: list[int] = []
            answers = wrong = again = 0
            ends = time.monotonic() + 60 * arguments.minutes
            while time.monotonic() < ends:
                load = run(
                    server.port,
                    [infer(name, images[number]) for name, number in asked],
                    arguments.clients,
                    min(30.0, max(1.0, ends - time.monotonic())),
                    lambda index, body: body.endswith(expected[asked[index]]),
                )
                answers, wrong, again = answers + len(load.latencies), wrong + load.wrong, again + load.again
                memory.append(oldest_bytes(server.pid) if arguments.replicas else server.resident_bytes)
                print(f"{answers:8,} answers, {wrong} wrong, {again} sent again, {memory[-1] / 2**20:.0f} MiB, "
                      f"{changes[0]} changes, {len(killed)} killed", flush=True)  # fmt: skip
            stop.set()
            for thread in beside:
                thread.join()
    early = memory[min(1, len(memory) - 1)]
    result = {
        "name": "memory early in a soak over memory at its end",
        "ratio": round(early / memory[-1], 3),
        "goal": 0.95,
        "baseline": "the same server after its first minute",
        "answers": answers,
        "wrong": wrong,
        "sent_again": again,
        "changes": changes[0],
        "killed": len(killed),
    }
    print(json.dumps(result))


def _change(database: Path, victim: str, stop: threading.Event, changes: list[int]) -> None:
    """Remove a task and bring it back; at every tenth turn add another, and remove the one that was added before."""
    added: list[str] = []
    with Store.open(str(database)) as store:
        for turn in itertools.count():
            remove(store, victim, force=True)
            if stop.wait(1.0):
                return
            undo(store, victim)
            if turn % 10 == 0:
                added.append(add_task(store, f"new{turn:04d}", 1000 + turn))
                if len(added) > 1:
                    remove(store, added[-2], force=True)
            changes[0] += 2 + (turn % 10 == 0)
            if stop.wait(1.0):
                return


if __name__ == "__main__":
    main()
