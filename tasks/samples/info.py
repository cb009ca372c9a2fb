"""What is said about a sample before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleInfo:
    """One row of `mutant tasks`.

    examples: train, validation, test as the sample gives them; 0 for a split that loading holds out of train.
    packages: pairs (module, distribution) that carry the data; all belong to the extra `samples`.
    """

    name: str
    title: str
    classes: int
    examples: tuple[int, int, int]
    image: str
    licence: str
    packages: tuple[tuple[str, str], ...]

    @property
    def uri(self) -> str:
        """The task URI that loads it."""
        return f"sample:{self.name}"
