"""The frozen prefix of a child: what lies below its first trainable part, and what it shares with others."""

from dataclasses import dataclass

from mutant.blueprint import Blueprint
from mutant.component import Spec


@dataclass(frozen=True)
class Prefix:
    """The frozen parts at the bottom of a child: specs and component digests, bottom first."""

    chain: tuple[Spec, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chain)

    @staticmethod
    def of(plan: Blueprint) -> "Prefix":
        """What lies below the plan's first trainable part."""
        below = plan.parts[: plan.frozen_prefix]
        sources = [part.source for part in below]
        return Prefix(tuple(part.spec for part in below), tuple(s.digest for s in sources if s is not None))
