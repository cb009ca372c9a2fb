"""Which process is which, on which machine, and whether it still runs; as far as one machine can tell."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process by its host, its number there, and what tells it from another that has the number later.

    `boot` is the machine's start and its space of process numbers, `born` the process's start; both are empty where
    the system does not tell them.
    """

    host: str
    boot: str
    pid: int
    born: str

    @staticmethod
    def here() -> "Process":
        return Process(platform.node(), _boot(), os.getpid(), _born(os.getpid()))

    def is_gone(self) -> bool:
        """Whether it surely does not run any more. A process of another machine is never said to be gone."""
        here = Process.here()
        if self.host != here.host:
            return False
        if self.boot != here.boot:
            # Another boot of this host; or another container of the same name, of which nothing can be said.
            return bool(self.boot and here.boot) and self.boot.partition(" ")[0] != here.boot.partition(" ")[0]
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return bool(self.born) and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Its start in clock ticks since the boot; empty where it is not told, or when it is dead and not yet collected."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]
    except (OSError, IndexError, ValueError):
        return ""
