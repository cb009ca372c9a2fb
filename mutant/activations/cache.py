"""The cache of frozen-prefix activations as training sees it: a source of rows for any prefix and split."""

import hashlib
import json
import weakref
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mutant.activations.homes import home_of, private_name
from mutant.activations.limits import CacheLimits
from mutant.activations.node import Node, file_size
from mutant.activations.shelf import FILES, MEMORY, Shelf
from mutant.activations.source import ImageRows, Layer, Source
from mutant.activations.views import Rows
from mutant.component import Component
from mutant.cost import stages
from mutant.prefix import Prefix

WORTH = 20.0
"""FLOPs per byte below which activations on the way are not kept: to write them takes as long as to compute them."""
Told = Callable[[str], None]


def _quiet(_: str) -> None:
    """For those who need no notices."""


def _unheard(_: float) -> None:
    """For those who need not know when activations were computed."""


@dataclass(frozen=True)
class _Cut:
    """A place in a prefix where activations may be kept: how many components lie below, and what a row is."""

    length: int
    shape: tuple[int, ...]
    dtype: str
    name: str
    held: bool

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class ActivationCache:
    """A trie of activations by (content of the data, digests of a prefix's components), extended from what is held.

    `home` is the run's directory on this host, shared by its workers and removed by the last of them; None makes one
    of its own. `told` hears, once, why nothing more can be kept: whatever happens to the cache, sources give the same
    bits. `computed_rows` and `reused_rows` count this process's rows over all depths, `computed_seconds` what computing
    them took.
    """

    def __init__(self, limits: CacheLimits = CacheLimits(), home: Path | None = None, told: Told = _quiet) -> None:
        self.limits = limits
        self.computed_rows = 0
        self.computed_seconds = 0.0
        self.reused_rows = 0
        self._heard: Callable[[float], None] = _unheard
        self._home, self._told = home, told
        self._shelf: Shelf | None = None
        self._finish: Callable[[], object] = lambda: None
        self._unusable = limits.off
        self._warned = False

    def source(
        self,
        prefix: Prefix,
        components: Mapping[str, Component],
        split: Rows,
        *,
        wanted: Collection[tuple[str, ...]] = (),
    ) -> Source:
        """Outputs of the prefix for every row of `split`; an empty prefix gives the images themselves.

        `wanted`: prefixes that others need of the same data. Those that lie on the way are kept as well, and extended.
        """
        cuts = self._cuts(prefix, split, wanted)
        nodes = self._open(prefix, split, cuts) if split.key else {}
        locks = self._shelf.locks if self._shelf is not None else None
        source: Source = ImageRows(split)
        below = 0
        for cut in cuts:
            node = nodes.get(cut.length)
            if node is None and cut is not cuts[-1]:
                continue
            if cut.length == 0 and node is None:
                break
            part = slice(below, cut.length)
            source = Layer(
                source,
                prefix.chain[part],
                _picked(components, prefix.digests[part]),
                (cut.shape, np.dtype(cut.dtype)),
                None if node is None or locks is None else (node, locks),
                self,
            )
            below = cut.length
        return source

    def read_ahead(self, digests: tuple[str, ...], splits: Collection[Rows]) -> None:
        """Let the system begin to read what is held in files of a prefix that is needed soon."""
        shelf = self._usable()
        if shelf is None:
            return
        try:
            held = shelf.names()
            for split in splits:
                names = (_name(split, digests[:length]) for length in range(len(digests), 0, -1))
                deepest = next((name for name in names if name in held), None)
                if deepest is not None:
                    shelf.read_ahead(deepest)
        except OSError as error:
            self.trouble(error)

    def _cuts(self, prefix: Prefix, split: Rows, wanted: Collection[tuple[str, ...]]) -> list[_Cut]:
        """Where activations of this prefix may be kept, from the images upwards: at its top, where they are wanted or
        held already, and at images that had to be made.
        """
        asked = {len(prefix), *(len(one) for one in wanted if one == prefix.digests[: len(one)])}
        held, outputs = self._held_names(split), stages(prefix.chain, split.size)
        cuts: list[_Cut] = []
        for length in range(0 if split.made_from else 1, len(prefix) + 1):
            name = _name(split, prefix.digests[:length])
            if length == 0 or length in asked or name in held:
                shape, dtype = (
                    (outputs[length - 1].shape, outputs[length - 1].dtype)
                    if length
                    else ((split.size, split.size, 3), "uint8")
                )
                cuts.append(_Cut(length, shape, dtype, name, name in held))
        return cuts

    def _held_names(self, split: Rows) -> frozenset[str]:
        shelf = self._usable() if split.key else None
        try:
            return frozenset() if shelf is None else shelf.names()
        except OSError as error:
            self.trouble(error)
            return frozenset()

    def _open(self, prefix: Prefix, split: Rows, cuts: Sequence[_Cut]) -> dict[int, Node]:
        """Nodes by length of their prefix: what is held below, what will be read, and what is wanted on the way."""
        if self._usable() is None or not cuts:
            return {}
        *way, top = cuts
        costs = [split.made_from, *(stage.flops for stage in stages(prefix.chain, split.size))]
        nodes: dict[int, Node] = {}

        def keep(cut: _Cut, above: Collection[int]) -> None:
            first = max((length + 1 for length in above if length < cut.length), default=0)
            density = sum(costs[first : cut.length + 1]) / cut.row_bytes
            if cut is not top and density < WORTH:
                return
            node = self._node(cut, len(split), density)
            if node is not None:
                nodes[cut.length] = node

        held = [cut for cut in way if cut.held]
        for cut in held:
            keep(cut, [cut.length for cut in held])
        keep(top, [*nodes])
        if nodes and top.length not in nodes:  # for want of room: rather what is read at every visit than what is below
            nodes.clear()
            keep(top, ())
        for cut in reversed(way):
            if cut.length not in nodes:
                keep(cut, [cut.length for cut in way])
        return nodes

    def _node(self, cut: _Cut, rows: int, density: float) -> Node | None:
        shelf = self._usable()
        try:
            n_bytes = file_size(rows, cut.row_bytes)
            return None if shelf is None else shelf.open(cut.name, n_bytes, density, _opener(cut, rows))
        except OSError as error:
            self.trouble(error)
            return None

    def _usable(self) -> Shelf | None:
        """The shelf, made when it is first needed."""
        if self._shelf is None and not self._unusable:
            try:
                self._shelf = Shelf(self._home or home_of(private_name()), self.limits)
                self._finish = weakref.finalize(self, self._shelf.close)
            except OSError as error:
                self._unusable = True
                self.trouble(error)
        return self._shelf

    def computed(self, seconds: float) -> None:
        """Activations were computed for so long until now."""
        self.computed_seconds += seconds
        self._heard(seconds)

    @contextmanager
    def hearing(self, heard: Callable[[float], None]) -> Generator[None]:
        """While the block lasts, `heard` is told the seconds whenever activations have been computed."""
        self._heard = heard
        try:
            yield
        finally:
            self._heard = _unheard

    def trouble(self, error: OSError) -> None:
        """Say once that something could not be kept, and why."""
        if not self._warned:
            self._warned = True
            why = error.strerror or str(error)
            self._told(f"Activations cannot all be kept ({why}): they are computed again, which takes longer.")

    @property
    def held(self) -> Mapping[str, int]:
        """Bytes held in memory and in files, by all workers that share the home."""
        nothing = {MEMORY: 0, FILES: 0}
        try:
            return nothing if self._shelf is None else self._shelf.held()
        except OSError:
            return nothing

    @property
    def held_bytes(self) -> int:
        return sum(self.held.values())

    @property
    def evictions(self) -> int:
        """How many nodes were given up for others, by all workers that share the home."""
        if self._shelf is None:
            return 0
        with self._shelf.ledger() as ledger:
            return ledger.evictions

    def close(self) -> None:
        """Let go of the home; the last one removes it. Sources that are still around go on with what they have open."""
        self._finish()
        self._shelf, self._unusable = None, True


def _name(split: Rows, digests: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([split.key, len(split), split.size, digests]).encode()).hexdigest()[:40]


def _picked(components: Mapping[str, Component], digests: Sequence[str]) -> Callable[[], Sequence[Component]]:
    return lambda: [components[digest] for digest in digests]


def _opener(cut: _Cut, rows: int) -> Callable[[Path], Node]:
    return lambda file: Node(file, cut.name, rows, cut.shape, cut.dtype)
