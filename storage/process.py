"""Which process is which, on which machine, and whether it still runs; as far as one machine can tell."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process by its host, its number there, and what tells it from another that has the number later.

    `boot` is the machine's start, its space of process numbers and, where it has one, its own number, separated by
    spaces; `born` is the process's start. Both are empty where the system does not tell them.
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
        (boot, space, machine), (our_boot, our_space, our_machine) = _parts(self.boot), _parts(here.boot)
        if boot != our_boot:
            # Another boot of this machine; or of another one of its name, which only the machines' numbers can tell.
            return bool(boot and our_boot and machine) and machine == our_machine
        if space != our_space:  # another container, of which nothing can be said
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return bool(self.born) and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _parts(boot: str) -> tuple[str, str, str]:
    """The start, the space of process numbers, and the machine; empty where `boot` does not tell them."""
    start, space, machine, *_ = (*boot.split(" "), "", "", "")
    return start, space, machine


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()} {_machine()}".rstrip()
    except OSError:
        return ""


def _machine() -> str:
    """The number that the machine was given when its system was installed; empty where it has none."""
    try:
        number = Path("/etc/machine-id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return number if re.fullmatch("[0-9a-f]{32}", number) else ""


def _born(pid: int) -> str:
    """Its start in clock ticks since the boot; empty where it is not told, or when it is dead and not yet collected."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]
    except (OSError, IndexError, ValueError):
        return ""
