"""The host's shelf of activations: which nodes are held, where, and who has to go; shared by the workers of a run.

`ledger.json` in the run's home says what is held, and is read and replaced under one lock. Memory first, then files:
what memory gives up goes to files, what files give up is gone. A node that a process has open is never given up, so
the bytes that are counted are all the bytes there are.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutant.activations.greedy_dual import Entry, Tier
from mutant.activations.homes import LOCK, memory_of, occupy, vacate
from mutant.activations.limits import SHARED_MEMORY, SPARE, CacheLimits, free_space
from mutant.activations.node import Node, RowLocks, in_use

MEMORY, FILES = "memory", "files"


@dataclass
class Ledger:
    """What a host holds for a run: the two tiers, and how often something had to go."""

    memory: Tier = field(default_factory=Tier)
    files: Tier = field(default_factory=Tier)
    demotions: int = 0
    evictions: int = 0
    in_memory: bool | None = None
    """Whether the memory tier lies in memory, as its first user found that there is room."""

    def tier(self, name: str) -> Tier:
        return self.memory if name == MEMORY else self.files

    def to_text(self) -> str:
        tiers = {
            place: {"clock": tier.clock, "held": {n: [e.n_bytes, e.density, e.credit] for n, e in tier.held.items()}}
            for place, tier in ((MEMORY, self.memory), (FILES, self.files))
        }
        return json.dumps(
            {**tiers, "demotions": self.demotions, "evictions": self.evictions, "in_memory": self.in_memory}
        )

    @staticmethod
    def from_text(text: str) -> "Ledger":
        data: dict[str, Any] = json.loads(text)
        memory, files = (
            Tier(data[place]["clock"], {name: Entry(*values) for name, values in data[place]["held"].items()})
            for place in (MEMORY, FILES)
        )
        return Ledger(memory, files, data["demotions"], data["evictions"], data["in_memory"])


class Shelf:
    """An open shelf in the directory `home`. Every method may raise `OSError`: then do without."""

    def __init__(self, home: Path, limits: CacheLimits) -> None:
        self._occupied = [(home, occupy(home))]
        self.home = home
        self._directories = {FILES: home / FILES, MEMORY: home / MEMORY}
        try:
            self.budgets = dict(zip((MEMORY, FILES), limits.here(home), strict=True))
            with self.ledger() as ledger:
                if ledger.in_memory is None:
                    ledger.in_memory = self._memory_has_room()
            if ledger.in_memory:
                memory = memory_of(home)
                self._occupied.append((memory, occupy(memory)))
                self._directories[MEMORY] = memory
            for directory in self._directories.values():
                directory.mkdir(mode=0o700, exist_ok=True)
            self.locks = RowLocks(home / "rows.lock")
            self._remove_strays()
        except BaseException:
            self._vacate()
            raise

    def close(self) -> None:
        self.locks.close()
        self._vacate()

    def _vacate(self) -> None:
        for directory, descriptor in self._occupied:
            vacate(directory, descriptor)
        self._occupied = []

    def _memory_has_room(self) -> bool:
        """Files in memory need a place for the whole budget; else they lie on disk, in the system's page cache."""
        if self.budgets[MEMORY] == 0:
            return False
        return SHARED_MEMORY.is_dir() and free_space(SHARED_MEMORY) >= self.budgets[MEMORY]

    @contextmanager
    def ledger(self) -> Generator[Ledger]:
        """The ledger, nobody else's while the block lasts; what the block changes is kept."""
        descriptor = os.open(self.home / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            file = self.home / "ledger.json"
            before = file.read_text(encoding="ascii") if file.exists() else ""
            ledger = Ledger.from_text(before) if before else Ledger()
            try:
                yield ledger
            finally:
                after = ledger.to_text()
                if after != before:
                    partial = self.home / "ledger.partial"
                    partial.write_text(after, encoding="ascii")
                    partial.replace(file)
        finally:
            os.close(descriptor)

    def held(self) -> dict[str, int]:
        """Bytes held in each tier."""
        with self.ledger() as ledger:
            return {place: ledger.tier(place).n_bytes for place in (MEMORY, FILES)}

    def names(self) -> frozenset[str]:
        """Every node that is held."""
        with self.ledger() as ledger:
            return frozenset((*ledger.memory.held, *ledger.files.held))

    def open(self, name: str, n_bytes: int, density: float, node: Callable[[Path], Node]) -> Node | None:
        """The node of that name, a new one where it is worth its place; None where it is not, or nothing fits.

        `density`: FLOPs per byte that it saves when it is held.
        """
        with self.ledger() as ledger:
            for place in (MEMORY, FILES):
                if name in ledger.tier(place).held:
                    ledger.tier(place).use(name, density)
                    return node(self._directories[place] / name)
            place = self._make_room(ledger, n_bytes, density)
            if place is None:
                return None
            file = self._directories[place] / name
            try:
                opened = node(file)
            except OSError:
                file.unlink(missing_ok=True)
                raise
            ledger.tier(place).put(name, n_bytes, density)
            return opened

    def read_ahead(self, name: str) -> None:
        """Ask the system to bring a node's file into memory, without waiting for it."""
        file = self._directories[FILES] / name
        if file.exists() and hasattr(os, "posix_fadvise"):
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            os.close(descriptor)

    def _remove_strays(self) -> None:
        """Remove files that the ledger does not know: a process was killed while it made or moved them."""
        with self.ledger() as ledger:
            for place, directory in self._directories.items():
                for file in directory.iterdir():
                    if file.is_file() and file.name not in ledger.tier(place).held and file.name != LOCK:
                        file.unlink(missing_ok=True)

    def _make_room(self, ledger: Ledger, n_bytes: int, density: float) -> str | None:
        for place in (MEMORY, FILES):
            directory = self._directories[place]
            victims = ledger.tier(place).room_for(
                n_bytes, density, self.budgets[place], lambda name, d=directory: not in_use(d / name)
            )
            if victims is None:
                continue
            for victim in victims:
                self._demote(ledger, place, victim)
            spare = 0 if directory.is_relative_to(SHARED_MEMORY) else SPARE
            if free_space(directory) >= n_bytes + spare:
                return place
        return None

    def _demote(self, ledger: Ledger, place: str, name: str) -> None:
        """Move a node from memory to files when it is worth a place there, else drop it."""
        entry = ledger.tier(place).held[name]
        if place == MEMORY:
            directory = self._directories[FILES]
            others = ledger.files.room_for(
                entry.n_bytes, entry.density, self.budgets[FILES], lambda other: not in_use(directory / other)
            )
            if others is not None and free_space(directory) >= entry.n_bytes + SPARE:
                for other in others:
                    self._drop(ledger, FILES, other)
                with suppress(OSError):
                    self._move(name)
                    ledger.files.put(name, entry.n_bytes, entry.density)
                    ledger.demotions += 1
                    del ledger.memory.held[name]
                    return
        self._drop(ledger, place, name)

    def _move(self, name: str) -> None:
        source, target = self._directories[MEMORY] / name, self._directories[FILES] / name
        partial = target.with_suffix(".partial")
        try:
            shutil.copyfile(source, partial)
            partial.replace(target)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        source.unlink()

    def _drop(self, ledger: Ledger, place: str, name: str) -> None:
        (self._directories[place] / name).unlink(missing_ok=True)
        del ledger.tier(place).held[name]
        ledger.evictions += 1
