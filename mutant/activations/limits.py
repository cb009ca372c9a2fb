"""How many bytes of activations a host keeps, all its workers together; what is not said comes from the machine."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory."""
SHARE = 4
"""By default the cache takes at most one part in so many of what is free."""
MOST_MEMORY, MOST_FILES = 16 << 30, 32 << 30
"""Caps of the defaults, in bytes."""
SPARE = 256 << 20
"""Bytes of a disk that the cache leaves free whatever its limit."""
_CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CacheLimits:
    """Bytes in memory and in files, for a whole host. None: derived from the host where the cache is; 0: none at all.

    >>> CacheLimits(0, 0).off, CacheLimits().off
    (True, False)
    """

    memory_bytes: int | None = None
    file_bytes: int | None = None

    @property
    def off(self) -> bool:
        return self.memory_bytes == 0 and self.file_bytes == 0

    def here(self, home: Path) -> tuple[int, int]:
        """Bytes of memory and of files for a cache in the directory `home` of this host."""
        memory, files = self.memory_bytes, self.file_bytes
        if memory is None:
            memory = min(MOST_MEMORY, available_memory() // SHARE)
        if files is None:
            files = min(MOST_FILES, free_space(home) // SHARE)
        return memory, files


OFF = CacheLimits(0, 0)


def available_memory() -> int:
    """Bytes of memory that can be had without swapping: the machine's, or what its control group leaves."""
    available = _line("/proc/meminfo", "MemAvailable:")
    if available is None:
        names = os.sysconf_names
        page, pages = "SC_PAGE_SIZE", "SC_PHYS_PAGES"
        return os.sysconf(page) * os.sysconf(pages) // 2 if page in names and pages in names else 0
    return max(0, min(available * 1024, _left_in_control_group()))


def free_space(directory: Path) -> int:
    """Free bytes where `directory` is or would be made; 0 where nothing can be said."""
    for place in (directory, *directory.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return 0


def _line(file: str, key: str) -> int | None:
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(key)), None)
    except (OSError, ValueError, IndexError):
        return None


def _left_in_control_group() -> int:
    try:
        most, used = ((_CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return int(most) - int(used) if most != "max" else 1 << 62
    except (OSError, ValueError):
        return 1 << 62
