"""What the loop remembers from segment to segment, so that a child costs the same however many came before it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.evaluator import Chain, Flops
from mutant.search.ledger import Ledger
from mutant.search.lines import Lines
from mutant.search.prediction import Count
from mutant.storage.records import CandidateRecord, Run
from mutant.storage.store import Store

MOST_CHAINS = 10_000


@dataclass
class Memory:
    """The pool as the last segment left it, lines of ancestors, what the run took, and counts of FLOPs.

    It is right as long as nobody else writes to the system, which the lease of its holder sees to.
    """

    pool: Pool
    tasks: Mapping[str, int]
    lines: Lines
    ledger: Ledger
    count: Count
    ended: list[CandidateRecord] = field(default_factory=list[CandidateRecord])
    """Children of the segment's generations up to now."""

    @staticmethod
    def of(store: Store, run: Run, count: Count) -> "Memory":
        """What a run begins with, or goes on with."""
        tasks = {task.name: place for place, task in enumerate(store.tasks(removed=True))}
        return Memory(store.pool(), tasks, Lines(store), Ledger.of(store, run), Counted(count))

    def won(self, winner: Path | None) -> None:
        """A segment has ended: its winner is its task's path in the pool from now on."""
        if winner is not None:
            self.pool = succeeded(self.pool, winner, self.tasks)
        self.lines.keep(winner)


def succeeded(pool: Pool, winner: Path, tasks: Mapping[str, int]) -> Pool:
    """The pool with another best path of one task; `tasks` is the order in which they came.

    >>> from mutant.hyperparameters import Hyperparameters
    >>> root, a, b, c = (Path(name, name, None, (), Hyperparameters()) for name in ("root", "a", "b", "c"))
    >>> [path.id for path in succeeded(Pool(root, (a, c)), b, {"a": 0, "b": 1, "c": 2}).paths]
    ['a', 'b', 'c']
    """
    place = bisect_left(pool.paths, tasks[winner.task or ""], key=lambda path: tasks[path.task or ""])
    return pool.with_best(winner, place)


class Counted:
    """A count of FLOPs that asks only for chains that it has not met."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._known: dict[Chain, Flops] = {}

    def __call__(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        unknown = [chain for chain in dict.fromkeys(chains) if chain not in self._known]
        if unknown:
            if len(self._known) + len(unknown) > MOST_CHAINS:
                self._known = {chain: self._known[chain] for chain in chains if chain in self._known}
            self._known.update(zip(unknown, self._count(unknown), strict=True))
        return tuple(self._known[chain] for chain in chains)
