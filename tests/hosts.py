"""Hosts of a Ray cluster as network namespaces of this machine: each with an address, a raylet and a link to cut.

Needs root and iproute2, and a kernel with namespaces, bridges and veth pairs.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaos import descendants
from raylets import ray_start

NET = "10.213.77"
BRIDGE = "mutantbr"
WATCHFUL = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""A host that does not answer is missed after some seconds."""


def ip(*words: object) -> bool:
    return subprocess.run(["ip", *map(str, words)], capture_output=True, check=False).returncode == 0


def possible() -> bool:
    """Whether this machine can have hosts of its own."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"mtry{os.getpid()}"
    made = ip("link", "add", name, "type", "bridge") and ip("netns", "add", name)
    ip("netns", "del", name)
    ip("link", "del", name)
    return made


@dataclass
class Host:
    """A namespace with an address on the bridge, and the raylet in it while it is up."""

    name: str
    number: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{NET}.{self.number}"

    @property
    def link(self) -> str:
        """The bridge's end of its cable."""
        return f"mutantv{self.number}"

    def make(self) -> None:
        inside = f"mutantw{self.number}"
        assert ip("netns", "add", self.name)
        assert ip("link", "add", self.link, "type", "veth", "peer", "name", inside)
        assert ip("link", "set", inside, "netns", self.name)
        assert ip("link", "set", self.link, "master", BRIDGE)
        assert ip("link", "set", self.link, "up")
        for words in (("addr", "add", f"{self.address}/24", "dev", inside), ("link", "set", inside, "up"),
                      ("link", "set", "lo", "up")):  # fmt: skip
            assert ip("-n", self.name, *words)

    def cut(self) -> None:
        """The cable is pulled."""
        assert ip("link", "set", self.link, "down")

    def mend(self) -> None:
        assert ip("link", "set", self.link, "up")

    def kill(self) -> None:
        """kill -9 of everything in the host, as when its power fails."""
        if self.process is None:
            return
        for pid in [*descendants(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def kill_raylet(self) -> None:
        """kill -9 of the raylet alone; Ray ends what it started."""
        assert self.process is not None
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                if "raylet/raylet" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(60)
        self.kill()

    def remove(self) -> None:
        self.kill()
        ip("link", "del", self.link)
        ip("netns", "del", self.name)


@dataclass
class Network:
    """A head without cores on the bridge, and hosts of one core each."""

    place: Path
    head: Host
    hosts: list[Host] = field(default_factory=list[Host])
    port: int = 6399
    key: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def address(self) -> str:
        return f"{self.head.address}:{self.port}"

    def start_head(self) -> None:
        self._start(self.head, [], ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false",
                                    "--ray-client-server-port=10001"])  # fmt: skip

    def start(self, host: Host) -> None:
        """`ray start` in a host."""
        inside = ["ip", "netns", "exec", host.name]
        self._start(host, inside, [f"--address={self.address}", "--num-cpus=1"])

    def _start(self, host: Host, inside: Sequence[str], options: Sequence[str]) -> None:
        host.kill()
        host.process = ray_start(
            [*options, f"--node-ip-address={host.address}", "--object-store-memory=80000000"],
            log=self.place / f"{host.name}.log", environment=self.environment, inside=inside,
        )  # fmt: skip

    def mind(self) -> None:
        """Start the raylets that have ended: a host whose cable was cut is taken for dead, and its raylet gives up."""
        for host in self.hosts:
            if host.process is None or host.process.poll() is not None:
                self.start(host)

    @property
    def environment(self) -> dict[str, str]:
        key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.key}
        return os.environ | WATCHFUL | key | {"RAY_TMPDIR": f"/tmp/mh{os.getpid()}", "RAY_worker_niceness": "0"}


@contextmanager
def network(place: Path, hosts: int) -> Iterator[Network]:
    """A cluster of a head and so many hosts, which is gone after the block."""
    own = Network(place, Host("mutant-head", 1))
    try:
        assert ip("link", "add", BRIDGE, "type", "bridge")
        assert ip("addr", "add", f"{own.head.address}/24", "dev", BRIDGE)
        assert ip("link", "set", BRIDGE, "up")
        for number in range(2, 2 + hosts):
            own.hosts.append(host := Host(f"mutant-{number}", number))
            host.make()
        own.start_head()
        time.sleep(1)
        for host in own.hosts:
            own.start(host)
        yield own
    finally:
        for host in own.hosts:
            host.remove()
        own.head.kill()
        ip("link", "del", BRIDGE)
        shutil.rmtree(own.environment["RAY_TMPDIR"], ignore_errors=True)
