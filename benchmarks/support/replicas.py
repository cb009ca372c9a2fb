"""Replicas below a running server: who they are, what memory is theirs, and killing one."""

import os
import signal
import subprocess
from dataclasses import dataclass
from threading import Event

from support.memory import private_bytes


@dataclass(frozen=True)
class Killer:
    """Kills the youngest replica below process `parent` every so many seconds, so that the oldest lives on."""

    parent: int
    every: float

    def until(self, stop: Event, killed: list[int]) -> None:
        while not stop.wait(self.every):
            for pid in replicas(self.parent)[-1:]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)


def replicas(parent: int) -> list[int]:
    """Processes of replicas below a process, oldest first."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,etimes,args"], capture_output=True, text=True, check=True)
    rows = [row.split(None, 3) for row in listed.stdout.splitlines()[1:]]
    parents = {int(row[0]): int(row[1]) for row in rows}

    def below(pid: int) -> bool:
        return pid == parent or (pid > 1 and pid in parents and below(parents[pid]))

    found = [(-int(row[2]), int(row[0])) for row in rows if "ServeReplica:mutant" in row[3] and below(int(row[0]))]
    return [pid for _, pid in sorted(found)]


def oldest_bytes(parent: int) -> int:
    """Bytes of memory of the oldest replica's own; 0 while there is none."""
    return private_bytes(replicas(parent)[0]) if replicas(parent) else 0
