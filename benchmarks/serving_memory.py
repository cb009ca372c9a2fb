"""Memory of T tasks in one server against T separate models: in one process, in a server each, and in onnxruntime.

    .venv/bin/python benchmarks/serving_memory.py [--tasks 4 16] [--servers 4]

Two minutes. Figures: docs/serving.md.
All of it is measured, in one run, after every task has answered once: `mutant serve` with T tasks; the same server with
all weights of every task for itself, so that it differs by them alone (`support/models_apart.py`); `--servers` servers
with one task each, all running; and, where onnxruntime is there, a process with a session per task behind FastAPI.
"Private" is what no other process maps (USS), "in proportion" has an n-th of what n processes share (PSS). The
benchmark's own process has JAX loaded, too, so that its libraries are not private to any server.
The ratio is private memory of the servers over that of one server with as many tasks; the goal, 0.9 times their number,
is that a task more costs next to nothing. Needs Linux.
"""

import argparse
import importlib.util
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from support.load import ask_once, infer, request
from support.many_tasks import SIZE, many_tasks
from support.memory import MIB, Footprint, footprint
from support.servers import Server, model_per_task, mutant_serve

ONE, APART, EACH, SESSIONS = "one server", "models apart", "a server each", "onnxruntime"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--servers", type=int, default=4, help="servers of one task each; one of --tasks as well")
    arguments = parser.parse_args()
    servers: int = arguments.servers
    rows: list[dict[str, object]] = []
    found: dict[tuple[str, int], Footprint] = {}
    print("tasks                   private   in proportion")
    for n in sorted({*arguments.tasks, servers}):
        with tempfile.TemporaryDirectory() as text:
            measured = _measured(Path(text), n, each=n == servers)
        for kind, memory in measured.items():
            found[kind, n] = memory
            private, proportional = memory.private / MIB, memory.proportional / MIB
            rows.append({"tasks": n, "kind": kind, "private": round(private), "proportional": round(proportional)})
            print(f"{n:5d}  {kind:13s} {private:6.0f} MiB  {proportional:10.0f} MiB", flush=True)
    ratio = found[EACH, servers].private / found[ONE, servers].private
    goal = 0.9 * servers
    print(f"{ratio:.2f} times less than {servers} servers: goal {'met' if ratio >= goal else 'missed'}")
    result = {
        "name": f"memory of {servers} tasks in one server against a server for each",
        "ratio": round(ratio, 2),
        "goal": round(goal, 2),
        "baseline": f"{servers} running servers of one task each, private memory",
        "against": {
            f"{kind}, {n} tasks": round(memory.private / found[ONE, n].private, 2)
            for (kind, n), memory in found.items()
            if kind != ONE
        },
        "mib": rows,
    }
    print(json.dumps(result))


def _measured(directory: Path, n: int, *, each: bool) -> dict[str, Footprint]:
    """What `n` tasks need, by kind; a server for each only with `each`."""
    database = directory / "mutant.db"
    names = many_tasks(database, n)
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    found: dict[str, Footprint] = {}
    for kind, apart in ((ONE, False), (APART, True)):
        with mutant_serve(database, apart=apart) as server:
            _ask(server, [infer(name, image) for name in names])
            found[kind] = footprint(server.pid)
    if each:
        with ExitStack() as stack:
            running: list[Server] = []
            for number, name in enumerate(names):
                many_tasks(directory / f"{name}.db", 1, first=number)
                running.append(stack.enter_context(mutant_serve(directory / f"{name}.db", core=number % 2)))
                _ask(running[-1], [infer(name, image)])
            found[EACH] = footprint(*(server.pid for server in running))
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        from support.onnx_model import export

        export(database, names, directory)
        with model_per_task(directory) as server:
            _ask(server, [request(f"/{name}", image.tobytes()) for name in names])
            found[SESSIONS] = footprint(server.pid)
    else:
        print("onnxruntime or onnx is not here (extra 'dev'), left out")
    return found


def _ask(server: Server, requests: list[bytes]) -> None:
    """Every request once: what is made at the first answer is there then."""
    for one in requests:
        answer = ask_once(server.port, one)
        if answer is None or answer.status != 200:
            raise RuntimeError(f"A server that is measured did not answer: {answer}")


if __name__ == "__main__":
    main()
