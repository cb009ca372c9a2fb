"""The active population of a task under way: the pool as the segment's generations so far left it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.retention import retained
from mutant.search.scoring import Scale
from mutant.storage.records import CandidateRecord


@dataclass(frozen=True)
class Population:
    """A pool snapshot with what parent sampling and the end of the segment need: children made so far, by parent."""

    task: str
    pool: Pool
    given: Mapping[str, int] = field(default_factory=dict[str, int])
    children: int = 0

    @property
    def own(self) -> tuple[Path, ...]:
        return self.pool.of_task(self.task)

    def after(self, children: Sequence[Path], records: Sequence[CandidateRecord], scale: Scale) -> "Population":
        """The population after a generation: `children` are its trained paths, `records` all its candidates."""
        given = Counter(self.given) + Counter(record.parent for record in records)
        pool = self.pool.with_paths(retained(children, self.pool, scale))
        return replace(self, pool=pool, given=dict(given), children=self.children + len(records))
