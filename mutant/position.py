"""Randomness by position: every draw comes from where in the run it is, never from what was drawn before."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Position:
    """A place in a run: (run seed, task, segment, generation, child), all counted from 0.

    `segment` counts the task's visits, so a later visit draws anew. Equal positions give equal generators in any
    process, with any number of workers.

    >>> here = Position(0, "digits")
    >>> bool(here.generator("parents").integers(1 << 30) == here.generator("parents").integers(1 << 30))
    True
    """

    seed: int
    task: str
    segment: int = 0
    generation: int = 0
    child: int = 0

    def at(self, *, generation: int, child: int = 0) -> "Position":
        return replace(self, generation=generation, child=child)

    def derive(self, purpose: str) -> int:
        """A 63-bit seed for one purpose at this position."""
        return derive(self.seed, self.task, self.segment, self.generation, self.child, purpose)

    def generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(self.derive(purpose))


def derive(*words: int | str) -> int:
    """A 63-bit seed that depends on all of `words`, the same on every platform."""
    text = json.dumps(words, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
