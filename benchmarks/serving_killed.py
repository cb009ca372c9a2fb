"""Replicas of which one is killed every few seconds, against replicas that live: no wrong answer, and none is lost.

    .venv/bin/python benchmarks/serving_killed.py [--seconds 60] [--every 15]

Three minutes. 0.74 of the answers of replicas that live, none wrong; 4 requests of 1,867 had to be sent again.
A request whose replica was killed under it fails with 5xx or a broken connection, and the client sends it again; it is
asked until it has its answer, which is compared to the bit. Needs Linux and the extra `replicas`.
"""

import argparse
import itertools
import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from support.load import Answer, Ask, Load, infer, run
from support.many_tasks import SIZE, answers_of, many_tasks
from support.replicas import Killer
from support.servers import Server, free_port, mutant_serve

IMAGES, TASKS, CLIENTS, REPLICAS = 4, 4, 4, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between kills")
    arguments = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as text:
        database = Path(text) / "mutant.db"
        names = many_tasks(database, TASKS)
        asked = [(name, number) for number in range(IMAGES) for name in names]
        expected = answers_of(database, names, images)
        asks = [Ask(infer(name, images[number]), _same(expected[name, number])) for name, number in asked]

        def load(server: Server) -> Load:
            return run(server.port, itertools.cycle(asks), CLIENTS, arguments.seconds, resend=True)

        with mutant_serve(database, "--replicas", str(REPLICAS), "--port", str(free_port())) as server:
            alive = load(server)
            stop = threading.Event()
            killer = threading.Thread(target=Killer(server.pid, arguments.every).until, args=(stop, []))
            killer.start()
            killed = load(server)
            stop.set()
            killer.join()
    for kind, one in (("all alive", alive), ("killed", killed)):
        print(f"{kind:9s} {len(one.latencies):6,} answers, {one.wrong} wrong, {one.lost} lost, {one.again} sent again, "
              f"p99 {one.percentile(99):.0f} ms")  # fmt: skip
    result = {
        "name": "answers while replicas are killed",
        "ratio": round(killed.per_second / alive.per_second, 3),
        "goal": 0.5,
        "baseline": f"the same {REPLICAS} replicas, none killed",
        "wrong": killed.wrong + alive.wrong,
        "lost": killed.lost + alive.lost,
        "sent_again": killed.again,
    }
    print(json.dumps(result))


def _same(logits: bytes) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.body.endswith(logits)


if __name__ == "__main__":
    main()
