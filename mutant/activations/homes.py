"""Directories that several processes use and the last one removes; what a killed one left is swept at the next start.

Whoever uses a directory holds a shared lock on a file in it. Locks end with their process, so whoever gets the lock
exclusively knows that nobody is there.
"""

import errno
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from mutant.activations.limits import SHARED_MEMORY
from mutant.roots.cache import cache_directory

LOCK = "in-use"
"""The file whose shared lock says that somebody is here."""
_DROPPED = ".dropped-"
_TRIES = 100


def homes() -> Path:
    """Where the homes of this user's runs are."""
    return cache_directory() / "activations"


def home_of(name: str) -> Path:
    """This host's directory for the run called `name`. Hosts that share a file system have one each."""
    return homes() / f"{name}@{_host()}"


def private_name() -> str:
    """A name for a cache that belongs to no run."""
    return f"private-{os.getpid()}-{secrets.token_hex(4)}"


def memory_of(home: Path) -> Path:
    """The directory in memory that belongs to `home`."""
    digest = hashlib.sha256(os.fspath(home.absolute()).encode()).hexdigest()[:16]
    return SHARED_MEMORY / f"{_memory_prefix()}{digest}"


def occupy(directory: Path) -> int:
    """Make `directory` where it is missing and keep it from being removed while the returned descriptor is open.

    Raises `OSError` when it cannot be made, or belongs to somebody else.
    """
    for _ in range(_TRIES):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EACCES, "belongs to somebody else", str(directory))
        try:
            descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # it was removed just now
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_still(descriptor, directory / LOCK):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EBUSY, "is removed again and again", str(directory))


def vacate(directory: Path, descriptor: int) -> bool:
    """Let go of an occupied directory; whether it was removed, since nobody else uses it."""
    os.close(descriptor)
    return remove_unused(directory)


def remove_unused(directory: Path, patience: float = 0.0) -> bool:
    """Remove `directory` unless somebody uses it, for whom it waits up to `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            descriptor = os.open(directory / LOCK, os.O_RDWR)
        except OSError:
            return not directory.exists()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, directory / LOCK):
                return _remove(directory)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
        if time.monotonic() >= until:
            return not directory.exists()
        time.sleep(0.02)


def sweep() -> int:
    """Remove what killed processes of this user left on this host; the number of directories."""
    dropped = rf"({re.escape(_DROPPED)}\w+-)?"
    names = {
        homes(): re.compile(rf"{dropped}.+@{re.escape(_host())}"),
        SHARED_MEMORY: re.compile(rf"{dropped}{re.escape(_memory_prefix())}\w+"),
    }
    found = [path for place, name in names.items() for path in _inside(place) if name.fullmatch(path.name)]
    return sum(_swept(path) for path in found)


@contextmanager
def run_home(name: str) -> Generator[None]:
    """Keep the home of a run while the block lasts, and remove it with the run; leftovers of killed runs are swept."""
    home = home_of(name)
    sweep()
    held: list[int] = []
    with suppress(OSError):  # the caches tell about it when they cannot use it
        held.append(occupy(home))
        if SHARED_MEMORY.is_dir():
            held.append(occupy(memory_of(home)))
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        for directory in (home, memory_of(home)):
            remove_unused(directory, patience=2.0)


def _swept(directory: Path) -> bool:
    if directory.name.startswith(_DROPPED):
        shutil.rmtree(directory, ignore_errors=True)
    elif not remove_unused(directory):
        with suppress(OSError):  # only one that was never begun is empty
            directory.rmdir()
    return not directory.exists()


def _remove(directory: Path) -> bool:
    """Take it away at once, so that a newcomer makes a new one, then delete what was in it."""
    dropped = directory.with_name(f"{_DROPPED}{secrets.token_hex(4)}-{directory.name}")
    try:
        directory.rename(dropped)
    except OSError:
        return False
    shutil.rmtree(dropped, ignore_errors=True)
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _inside(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", platform.node()) or "localhost"


def _memory_prefix() -> str:
    return f"mutant-activations-{os.geteuid()}-"
