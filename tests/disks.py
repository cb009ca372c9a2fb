"""Small disks that tests fill up."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, *, kibibytes: int) -> Iterator[Path]:
    """A file system of its own at `place`; the test is skipped where this machine lets us make none."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def free(directory: Path) -> int:
    """Bytes that are free on the disk of `directory`."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
