"""Traffic over loopback: single images for a mix of tasks, against traffic for one task, and against a server that has
one onnxruntime session per task behind FastAPI.

    .venv/bin/python benchmarks/serving_traffic.py [--tasks 8] [--clients 1 8 32] [--seconds 4]

A minute. 8 tasks, 1, 8 and 32 clients: a mix gets 0.88, 0.78 and 0.92 of the answers that one task gets, because what
a task has for itself cannot be batched with another's. Against sessions: 0.62, 0.62 and 0.86 for single questions
(onnxruntime's kernels are faster than XLA's here), 2.1, 4.4 and 5.5 times as many when every task is asked.
Server and clients have a core each. "all" asks every task for each image: one request here, one for each model there.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support.load import Load, infer, request, run
from support.many_tasks import SIZE, many_tasks
from support.onnx_model import write
from support.servers import model_per_task, mutant_serve

from mutant.storage.store import Store

IMAGES = 8


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
        _export(directory, names)
        mixed = [infer(name, image) for image in images for name in names]
        one = [infer(names[0], image) for image in images]
        theirs = [request(f"/{name}", image.tobytes()) for image in images for name in names]
        every = [_all(image) for image in images]
        found: dict[str, list[Load]] = {}
        with mutant_serve(directory / "mutant.db") as ours:
            for kind, requests in (("mixed", mixed), ("one task", one), ("all", every)):
                found[kind] = [_measured(ours.port, requests, n, arguments.seconds) for n in arguments.clients]
        with model_per_task(directory) as other:
            found["sessions"] = [_measured(other.port, theirs, n, arguments.seconds) for n in arguments.clients]
    _report(found, arguments.clients, arguments.tasks)


def _export(directory: Path, names: Sequence[str]) -> None:
    with Store.open(str(directory / "mutant.db"), read_only=True) as store:
        for name in names:
            path = store.best(name)
            assert path is not None
            write(path, store.components({part.digest for part in path.parts}), directory / f"{name}.onnx")


def _all(image: np.ndarray) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[0]).save(file, "PNG")
    return request("/predict?tasks=all&top_k=1", file.getvalue(), "Content-Type: image/png\r\n")


def _measured(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    run(port, requests, clients, 0.5)
    return run(port, requests, clients, seconds)


def _report(found: dict[str, list[Load]], clients: Sequence[int], tasks: int) -> None:
    print("traffic     clients  answers/s     p50       p99    wrong")
    for kind, loads in found.items():
        for n, load in zip(clients, loads, strict=True):
            answers = load.per_second * (tasks if kind == "all" else 1)
            times = f"{load.percentile(50):6.1f} ms {load.percentile(99):6.1f} ms"
            print(f"{kind:10s} {n:8d} {answers:10.0f} {times} {load.wrong:6d}")
    rates = {kind: [load.per_second for load in loads] for kind, loads in found.items()}
    result = {
        "name": f"traffic for {tasks} tasks against traffic for one",
        "ratio": round(min(m / o for m, o in zip(rates["mixed"], rates["one task"], strict=True)), 3),
        "goal": 0.9,
        "baseline": "the same server asked for one task alone; the worst of "
        + ", ".join(map(str, clients))
        + " clients",
        "against_sessions": [round(m / s, 2) for m, s in zip(rates["mixed"], rates["sessions"], strict=True)],
        "all_against_sessions": [round(tasks * a / s, 2) for a, s in zip(rates["all"], rates["sessions"], strict=True)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
