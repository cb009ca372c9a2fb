"""Two runs of weights 1 and 3 on one cluster: what each gets of the device time, and what sharing costs.

    .venv/bin/python benchmarks/shares.py [--children 100] [--draw docs/shares.png]

About six minutes on two cores. A Ray cluster of two places on this machine, two new systems with the same task and one
generation of children each. First one run after the other, each with the whole cluster, then both at a time. `share`
is the device time of the heavier run over that of the lighter one, from their traces, while both had children to
train, from the first child of either on, though the other's workers may still be starting (3 is exact), and once both
had begun; `ratio` the
time of one after the other over that of both together (goal 0.95: sharing loses nothing). Programs are compiled by a
rehearsal. A run that joins, or comes back, has a claim to at most ten device seconds of the others
(`search/shares.py`), so that short runs are far from 3.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GOAL = 0.95
WEIGHTS = 1, 3
ROOT = ("--root", "random:vit-ti16", "--blocks", "2", "--image-size", "32")
TASK = "sample:digits"
REHEARSED = 12
Spans = list[tuple[str, float, float]]
"""Worker, begin and end of each child, in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=100)
    parser.add_argument("--draw", type=Path, help="a picture of both traces")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shares") as directory, cluster(Path(directory)) as address:
        place = Path(directory)
        systems = {f"{name}{weight}": place / f"{name}{weight}.db" for name in ("alone", "both") for weight in WEIGHTS}
        for file in (place / "rehearsal.db", *systems.values()):
            finish(mutant("init", *ROOT, "--db", file))
        finish(add(place / "rehearsal.db", address, 1, REHEARSED))
        started = time.perf_counter()
        for weight in WEIGHTS:
            finish(add(systems[f"alone{weight}"], address, weight, options.children))
        alone = time.perf_counter() - started
        started = time.perf_counter()
        finish(*[add(systems[f"both{weight}"], address, weight, options.children) for weight in WEIGHTS])
        together = time.perf_counter() - started
        spans = {weight: traced(systems[f"both{weight}"]) for weight in WEIGHTS}
    light, heavy = (spans[weight] for weight in WEIGHTS)
    begin = min(start for own in (light, heavy) for _, start, _ in own)
    end = min(max(end for _, _, end in own) for own in (light, heavy))
    seconds = given(spans, begin, end)
    steady = given(spans, max(min(start for _, start, _ in own) for own in (light, heavy)), end)
    print(f"one after the other {alone:.1f} s, both at a time {together:.1f} s")
    print(f"device time while both train ({end - begin:.1f} s): {seconds[0]:.1f} s and {seconds[1]:.1f} s")
    if options.draw is not None:
        draw(spans, begin, end, options.draw)
    result: dict[str, Any] = {
        "name": "shares",
        "ratio": round(alone / together, 2),
        "goal": GOAL,
        "baseline": "the same two runs one after the other, each with the whole cluster",
        "share": round(seconds[1] / seconds[0], 2),
        "share once both have begun": round(steady[1] / steady[0], 2),
        "weights": f"{WEIGHTS[1]}:{WEIGHTS[0]}",
        "busy": round(sum(seconds) / 2 / (end - begin), 2),
    }
    print(json.dumps(result))


def given(spans: dict[int, Spans], begin: float, end: float) -> list[float]:
    """Device seconds of both runs between two moments, the lighter one's first."""
    return [sum(max(0.0, min(b, end) - max(a, begin)) for _, a, b in spans[weight]) for weight in WEIGHTS]


KEY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}


def mutant(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mutant.cli.main", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | KEY)


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, told = process.communicate()
        if process.returncode:
            sys.exit(told)


def add(file: Path, address: str, weight: int, children: int) -> subprocess.Popen[str]:
    many = ("--children", children, "--generation-size", children, "--validations", 4)
    steps = ("--examples-per-validation", 2048)
    return mutant("add", TASK, "--db", file, "--ray-address", address, "--share", weight, *many, *steps)


def traced(file: Path) -> Spans:
    """The children of a run, from its trace."""
    trace = file.with_suffix(".json")
    finish(mutant("report", "trace", "--db", file, "--out", trace))
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"].partition(",")[0]
        for event in events if event["name"] == "thread_name"
    }  # fmt: skip
    return [
        (names[event["pid"], event["tid"]], event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6)
        for event in events
        if event.get("cat") == "child"
    ]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("", 0))
        return held.getsockname()[1]


@contextmanager
def cluster(place: Path) -> Generator[str]:
    """A head with two cores on this machine; its address."""
    port, client = free_port(), free_port()
    temporary = Path(tempfile.mkdtemp(prefix="rs"))
    ray: Sequence[str] = (sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}",
                          "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats",
                          "--node-ip-address=127.0.0.1", f"--temp-dir={temporary}", "--block",
                          f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0",
                          "--object-store-memory=200000000")  # fmt: skip
    with (place / "ray.log").open("wb") as log:
        process = subprocess.Popen(ray, stdout=log, stderr=log, env=os.environ | KEY, start_new_session=True)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (place / "ray.log").read_text(encoding="utf-8")
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def draw(spans: dict[int, Spans], begin: float, end: float, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 2.4), layout="constrained")
    first = min(start for own in spans.values() for _, start, _ in own)
    rows = [(weight, worker) for weight, own in spans.items() for worker in sorted({name for name, _, _ in own})]
    colours = dict(zip(spans, ("#94a3b8", "#0f766e"), strict=True))
    for row, (weight, worker) in enumerate(rows):
        bars = [(start - first, stop - start) for name, start, stop in spans[weight] if name == worker]
        axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=colours[weight], edgecolor="white", linewidth=0.4)
    axes.axvspan(begin - first, end - first, color="#fef3c7", zorder=0)
    axes.set_yticks(range(len(rows)), [f"weight {weight}, {worker}" for weight, worker in rows])
    axes.invert_yaxis()
    axes.set(xlabel="seconds; shaded: both runs have children to train")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
