"""What the outcomes of a run took, kept in memory: the loop reads it once and then follows what it commits."""

from dataclasses import dataclass, field

from mutant.outcome import Cost, Outcome, Trained
from mutant.search.budget import Spent
from mutant.search.prediction import FLOPS_PER_SECOND
from mutant.storage.costs import costs_of_run
from mutant.storage.records import Run
from mutant.storage.store import Store

ASSUMED_SECONDS = 10.0
"""So long as if children had been trained at `FLOPS_PER_SECOND` before any was."""


@dataclass
class Ledger:
    """Costs of a run's outcomes. Sums for budgets are exact and do not depend on the order in which they came."""

    costs: dict[int, list[Cost]] = field(default_factory=dict[int, list[Cost]])
    trained: Cost = Cost()
    on_device: float = 0.0
    _before: dict[int, Spent] = field(default_factory=dict[int, Spent])

    @staticmethod
    def of(store: Store, run: Run) -> "Ledger":
        """What the run's outcomes took that are committed."""
        ledger = Ledger()
        with store.reading() as connection:
            for segment, done, cost in costs_of_run(connection, run.id):
                ledger._add(segment, cost, trained=done)
        return ledger

    def note(self, segment: int, outcome: Outcome) -> None:
        """An outcome was committed."""
        self._add(segment, outcome.cost, trained=isinstance(outcome, Trained))

    def _add(self, segment: int, cost: Cost, *, trained: bool) -> None:
        self.costs.setdefault(segment, []).append(cost)
        if trained:
            self.trained, self.on_device = self.trained + cost, self.on_device + cost.on_device

    def before(self, segment: int) -> Spent:
        """What all segments before this one took; they are closed by now."""
        if segment not in self._before:
            self._before = {segment: self._until(segment - 1)}
        return self._before[segment]

    def _until(self, segment: int) -> Spent:
        return Spent.of(cost for index, costs in self.costs.items() if index <= segment for cost in costs)

    def within(self, segment: int) -> Spent:
        """What this segment took up to now."""
        return Spent.of(self.costs.get(segment, ()))

    def until(self, segment: int) -> Spent:
        """What this segment and all before it took."""
        return self._until(segment)

    def pace(self, *, on_device: bool = False) -> float:
        """Counted FLOPs per second of the trained children so far (per device second: `on_device`), and of some seconds
        at an assumed rate: heads, which come first, take next to no FLOPs, and what they take is hardly training.

        It depends on the machine, so that only guesses of seconds rest on it.
        """
        seconds = self.on_device if on_device else self.trained.seconds
        return (self.trained.flops + ASSUMED_SECONDS * FLOPS_PER_SECOND) / (seconds + ASSUMED_SECONDS)
