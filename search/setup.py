"""What the loop works with, as one value."""

from dataclasses import dataclass

from mutant.search.config import RunConfig
from mutant.search.evaluator import Evaluator
from mutant.search.progress import Listener, silent
from mutant.search.supply import StoreSupply
from mutant.storage.records import Run
from mutant.storage.store import Store


@dataclass(frozen=True)
class Search:
    """A run with who trains its children and what they draw on.

    `deadline` is a `time.monotonic()` after which a segment starts no new generation, `allowed` the seconds of wall
    time that end there.
    """

    store: Store
    run: Run
    config: RunConfig
    evaluator: Evaluator
    supply: StoreSupply
    listener: Listener = silent
    deadline: float | None = None
    allowed: float | None = None
