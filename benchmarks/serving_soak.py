"""A soak: mixed load while tasks are added, removed, brought back and evolved again below the server, and a replica of
it is killed again and again. No wrong and no lost answer, and memory that stays.

    .venv/bin/python benchmarks/serving_soak.py [--minutes 10] [--clients 8] [--replicas 2] [--every 45]

Ten minutes. Figures: docs/serving.md.
Eight tasks, and one or two that come and go. Of some sixty requests, most are binary ones for the tasks that stay;
among them are image files for all tasks, the first version of a task that is evolved again, its newest, the task that
is removed and brought back, those that were added, and one malformed request, which must get a reason and 4xx. Every
answer is compared to the bit with what was computed before. A task may answer 404 only while it is not there, and a
version only while it is the best: both are right from the moment before a change until the server has shown it (of
replicas, which look at the database by themselves: until 16 answers for each have, and 15 s longer, because a new one
takes that long to come up; so with `--replicas` there are 25 s without a change at every tenth turn).
The ratio is memory after the first minute over memory at the end, of the server, or of the replica that lives through
it all; 1 is flat, the goal is missed below 0.95, and by any answer that is wrong or lost. Without `--replicas` every
request is sent once: a 5xx is a wrong answer, a broken connection a lost one. With it the client sends either again
until there is an answer (`again`), and it is lost after a minute. Needs Linux; `--replicas` the extra `replicas`.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
from support.changes import Changes
from support.images import form, png
from support.load import Answer, Ask, Load, infer, request, run
from support.many_tasks import SIZE, evolve_again, many_tasks
from support.memory import Watched
from support.replicas import Killer, oldest_bytes
from support.servers import Server, free_port, mutant_serve
from support.truths import Truth, Truths, agrees, refused, truth_of

from mutant import backend
from mutant.storage.store import Store

IMAGES, TASKS = 8, 8
GOAL = 0.95
GRACE, REST, AGREEING = 15.0, 25.0, 16
"""With replicas: seconds that a new one may be behind, seconds without a change, answers in a row for each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=0, help="copies of the server; 0: one plain process")
    parser.add_argument("--every", type=float, default=45.0, help="seconds between kills of the youngest replica")
    arguments = parser.parse_args()
    replicas: int = arguments.replicas
    backend.prepare()
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as text:
        database, rehearsed = Path(text) / "mutant.db", Path(text) / "rehearsed.db"
        names, first = _prepared(database, images)
        _prepared(rehearsed, images)
        *stable, evolving, victim = names
        truths = Truths(GRACE if replicas else 0.0)
        for name in names:
            truths.begin(name, truth_of(database, name, images))
        options = ["--replicas", str(replicas), "--port", str(free_port())] if replicas else []
        with mutant_serve(database, "--refresh", "0.2", *options) as server, ThreadPoolExecutor() as pool:
            changes = Changes(
                database, rehearsed, images, truths, victim, evolving, server.port,
                AGREEING * replicas or 1, REST if replicas else 0.0,
            )  # fmt: skip
            watched = Watched(lambda: oldest_bytes(server.pid) if replicas else server.resident_bytes)
            stop, killed = Event(), list[int]()
            beside = [pool.submit(changes.until, stop), pool.submit(watched.until, stop)]
            if replicas:
                beside.append(pool.submit(Killer(server.pid, arguments.every).until, stop, killed))
            try:
                asks = _mix(stable, changes, first, images)
                load = _minutes(server, asks, arguments, watched, changes, killed)
            finally:
                stop.set()
            for one in beside:
                one.result()
    _report(load, changes, watched, len(killed))


def _prepared(database: Path, images: np.ndarray) -> tuple[list[str], Truth]:
    """Make a database in which the last task but one was evolved again: its tasks, and that one's first version."""
    names = many_tasks(database, TASKS)
    first = truth_of(database, names[-2], images)
    with Store.open(str(database)) as store:
        evolve_again(store, names[-2], 4999)
    return names, first


def _mix(stable: list[str], changes: Changes, first: Truth, images: np.ndarray) -> Iterator[Ask]:
    """Requests of all kinds, without end."""
    truths = changes.truths
    old = f"{changes.evolving}/versions/{first.version}"
    every = [form("/predict?tasks=all&top_k=1", png(image)) for image in images]
    steady = [[Ask(infer(n, image), truths.inferred(n, i), "infer") for n in stable] for i, image in enumerate(images)]
    malformed = _malformed(stable[0], images[0])

    def of_first(number: int) -> Ask:
        def right(answer: Answer) -> bool:
            return agrees(answer, first, number)

        return Ask(infer(old, images[number]), right, "old version")

    for turn in itertools.count():
        number = turn % IMAGES
        yield from steady[number]
        yield Ask(every[number], truths.predicted(number), "predict all")
        yield of_first(number)
        moving = [("evolved again", changes.evolving), ("removed and restored", changes.victim)]
        for route, name in moving + [("added", name) for name in changes.added[-2:]]:
            yield Ask(infer(name, images[number]), truths.inferred(name, number), route)
        if turn % 5 == 4:
            yield malformed[turn // 5 % len(malformed)]


def _malformed(task: str, image: np.ndarray) -> list[Ask]:
    whole = infer(task, image)
    requests = [
        request(f"/v2/models/{task}/infer", b'{"inputs": [', "Content-Type: application/json\r\n"),
        request(f"/v2/models/{task}/infer", b"{}", "Inference-Header-Content-Length: 99\r\n"),
        request("/predict?tasks=all", b"not an image", "Content-Type: image/png\r\n"),
        request("/predict?tasks=all&top_k=0", png(image), "Content-Type: image/png\r\n"),
        whole.replace(b"UINT8", b"UINT9"),
        whole.replace(f"/v2/models/{task}/".encode(), b"/v2/models/nobody/"),
    ]
    return [Ask(one, refused, "malformed") for one in requests]


def _minutes(
    server: Server, asks: Iterator[Ask], arguments: argparse.Namespace, watched: Watched, changes: Changes,
    killed: list[int],
) -> Load:  # fmt: skip
    """The load, told about every minute."""
    whole = Load()
    ends = time.monotonic() + 60 * arguments.minutes
    while (left := ends - time.monotonic()) > 0:
        seconds = min(60.0, max(1.0, left))
        whole.add(run(server.port, asks, arguments.clients, seconds, resend=arguments.replicas > 0))
        memory = f"{watched.mib[-1]:.0f} MiB" if watched.mib else "memory unknown"
        print(f"{whole.seconds / 60:5.1f} min {sum(whole.answers.values()):9,} answers, {whole.wrong} wrong, "
              f"{whole.lost} lost, {whole.again} sent again, {memory}, {changes.count} changes, "
              f"{len(killed)} killed", flush=True)  # fmt: skip
    return whole


def _report(load: Load, changes: Changes, watched: Watched, killed: int) -> None:
    for route, answers in sorted(load.answers.items()):
        print(f"{route:21s} {answers:9,} answers")
    for words in load.seen:
        print(f"wrong: {words}")
    for name in changes.unseen:
        print(f"a change of {name} was not seen")
    slope = watched.slope()
    print(f"memory in the second half: {slope:+.2f} MiB per minute")
    ratio = watched.at(1.0 if watched.minutes[-1] >= 2.0 else watched.minutes[-1] / 2) / watched.mib[-1]
    bad = load.wrong + load.lost + len(changes.unseen)
    print("goal met" if ratio >= GOAL and not bad else "goal missed")
    result = {
        "name": "memory early in a soak over memory at its end",
        "ratio": round(ratio, 3),
        "goal": GOAL,
        "baseline": "the same server after its first minute, or half its time if that was less than two",
        "minutes": round(load.seconds / 60, 1),
        "answers": dict(sorted(load.answers.items())),
        "wrong": load.wrong,
        "lost": load.lost,
        "again": load.again,
        "changes": changes.count,
        "unseen": len(changes.unseen),
        "killed": killed,
        "mib": round(watched.mib[-1]),
        "mib_per_minute": round(slope, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
