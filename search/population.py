"""The active population of a task under way: the pool as the segment's outcomes so far left it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mutant.path import Path
from mutant.pool import Pool
from mutant.search.config import RunConfig
from mutant.search.retention import retained
from mutant.search.sampling import Parents
from mutant.search.scoring import Scale, score_of


@dataclass(frozen=True)
class Population:
    """A pool snapshot with what parent sampling and the end of the segment need: children made so far, by parent.

    `before` is the pool that the segment began with. A path's score counts by how many *tasks* use its components, so
    that further paths of its own task change nothing: every score of a segment is computed against `before`.
    """

    task: str
    scale: Scale
    before: Pool
    pool: Pool
    parents: Parents
    own: tuple[Path, ...]
    scores: Mapping[str, float]
    given: Mapping[str, int] = field(default_factory=dict[str, int])
    children: int = 0

    @staticmethod
    def of(task: str, pool: Pool, config: RunConfig) -> "Population":
        """That of a segment which begins with `pool`."""
        parents = Parents.of(pool, task, config.scale, cross_task=config.cross_task)
        scores = {path.id: -minus for path, minus in zip(parents.ranked, parents.minus, strict=True)}
        return Population(task, config.scale, pool, pool, parents, pool.of_task(task), scores)

    def drawn(self, parents: Iterable[str]) -> "Population":
        """The population when children of these parents were drawn."""
        given = dict(self.given)
        children = 0
        for parent in parents:
            given[parent] = given.get(parent, 0) + 1
            children += 1
        return replace(self, given=given, children=self.children + children)

    def joined(self, trained: Iterable[Path]) -> "Population":
        """The population when children came of it: those join whose score is at least their same-task parent's.

        See `retention`; their order decides nothing but the pool's.
        """
        joining = retained([(score_of(path, self.before, self.scale), path) for path in trained], self.scores)
        if not joining:
            return self
        paths = tuple(path for _, path in joining)
        return replace(
            self,
            pool=self.pool.with_paths(paths),
            parents=self.parents.joined(joining),
            own=(*self.own, *paths),
            scores={**self.scores, **{path.id: s for s, path in joining}},
        )

    @property
    def best(self) -> Path | None:
        """The own path that stays when the segment ends."""
        return self.parents.best

    @property
    def best_score(self) -> float:
        """Its score; 0 without one."""
        return self.scores[self.best.id] if self.best else 0.0
