"""`ray start` as a process: one raylet, which ends with it."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def ray_start(
    options: Sequence[str], *, log: Path, environment: Mapping[str, str], inside: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """What the program `ray` runs, with this interpreter, on ports that are free; `inside` is a command that runs it
    elsewhere."""
    ports = "--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"
    command = [*inside, sys.executable, "-m", "ray.scripts.scripts", "start", *options, *ports, "--disable-usage-stats"]
    with log.open("ab") as told:
        return subprocess.Popen(
            [*command, "--block"], stdout=told, stderr=told, env=dict(environment), start_new_session=True
        )
