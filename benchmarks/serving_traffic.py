"""Traffic over loopback: single images for a mix of tasks, against a server of one model, against the same server asked
for one task, and against a server that has one onnxruntime session per task behind FastAPI.

    .venv/bin/python benchmarks/serving_traffic.py [--tasks 8] [--clients 1 8 32] [--seconds 4]

A minute and a half. The goal is that a mix of 8 tasks gets 0.9 of the answers a second that a server of one model
gets, with 1, 8 and 32 clients. It is missed: 0.85, 0.82 and 0.84, for what a task has for itself cannot be batched
with another's (0.97, 0.78 and 0.83 of the same server asked for one task). Against sessions: 0.46, 0.71 and 0.72 for
single questions (onnxruntime's kernels are faster than XLA's here), 1.9, 3.8 and 5.0 times as many when every task is
asked. All figures: docs/serving.md.
The servers run side by side on one core and are asked in turns, one at a time, so that what the machine does meanwhile
meets all of them; the clients have the other core. Each figure is of one spell of `--seconds` after half a second to
warm up. "all" asks every task for each image: one request here, one for each model there.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support.images import png
from support.load import Ask, Load, infer, request, run
from support.many_tasks import SIZE, many_tasks
from support.onnx_model import export
from support.servers import model_per_task, mutant_serve

IMAGES = 8
GOAL = 0.9
MIXED, MODEL, TASK, EVERY, SESSIONS = "mixed", "one model", "one task", "all", "sessions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        names = many_tasks(directory / "mutant.db", arguments.tasks)
        many_tasks(directory / "one.db", 1)
        export(directory / "mutant.db", names, directory)
        one = [infer(names[0], image) for image in images]
        requests = {
            MIXED: [infer(name, image) for image in images for name in names],
            MODEL: one,
            TASK: one,
            EVERY: [_all(image) for image in images],
            SESSIONS: [request(f"/{name}", image.tobytes()) for image in images for name in names],
        }
        found: dict[str, list[Load]] = {kind: [] for kind in requests}
        with (
            mutant_serve(directory / "mutant.db") as ours,
            mutant_serve(directory / "one.db") as single,
            model_per_task(directory) as other,
        ):
            ports = {MODEL: single.port, SESSIONS: other.port}
            for n in arguments.clients:
                for kind, asked in requests.items():
                    found[kind].append(_measured(ports.get(kind, ours.port), asked, n, arguments.seconds))
    _report(found, arguments.clients, arguments.tasks)


def _all(image: np.ndarray) -> bytes:
    return request("/predict?tasks=all&top_k=1", png(image), "Content-Type: image/png\r\n")


def _measured(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    asks = itertools.cycle([Ask(one) for one in requests])
    run(port, asks, clients, 0.5)
    return run(port, asks, clients, seconds)


def _report(found: dict[str, list[Load]], clients: Sequence[int], tasks: int) -> None:
    print("traffic     clients  answers/s     p50       p99    wrong or lost")
    for kind, loads in found.items():
        for n, load in zip(clients, loads, strict=True):
            answers = load.per_second * (tasks if kind == EVERY else 1)
            times = f"{load.percentile(50):6.1f} ms {load.percentile(99):6.1f} ms"
            print(f"{kind:10s} {n:8d} {answers:10.0f} {times} {load.wrong + load.lost:6d}")
    rates = {kind: [load.per_second for load in loads] for kind, loads in found.items()}
    against = {kind: [m / o for m, o in zip(rates[MIXED], rates[kind], strict=True)] for kind in (MODEL, TASK)}
    for n, ratio, same in zip(clients, against[MODEL], against[TASK], strict=True):
        print(f"mixed against one model, {n} clients: {ratio:.2f}, goal {'met' if ratio >= GOAL else 'missed'}; "
              f"against one task of the same server: {same:.2f}")  # fmt: skip
    result = {
        "name": f"traffic for {tasks} tasks against traffic for one model",
        "ratio": round(min(against[MODEL]), 3),
        "goal": GOAL,
        "baseline": f"a server of one model; the worst of {', '.join(map(str, clients))} clients",
        "clients": list(clients),
        "against_one_model": [round(ratio, 2) for ratio in against[MODEL]],
        "against_one_task": [round(ratio, 2) for ratio in against[TASK]],
        "against_sessions": [round(m / s, 2) for m, s in zip(rates[MIXED], rates[SESSIONS], strict=True)],
        "all_against_sessions": [round(tasks * a / s, 2) for a, s in zip(rates[EVERY], rates[SESSIONS], strict=True)],
        "wrong": sum(load.wrong for loads in found.values() for load in loads),
        "lost": sum(load.lost for loads in found.values() for load in loads),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
