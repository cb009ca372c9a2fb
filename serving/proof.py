"""Whether a path that was loaded answers as it did when it was written: a few of its golden outputs, to the bit.

Programs are tried with the first component of their kind that comes, and with random images. This tries every path
with its own components and images of its task, in the shapes that answers are computed in.
"""

from functools import lru_cache

from mutant import backend
from mutant.network import BATCH
from mutant.serving.engine import chain
from mutant.serving.programs import Programs
from mutant.serving.served import Served
from mutant.storage.refusals import Collected, Damaged
from mutant.storage.store import Store
from mutant.storage.verify import Here, elsewhere

ROWS = 5
"""Golden outputs that are compared: those of four rows and of one, the shapes that most answers are computed in."""


def prove(store: Store, path: Served, programs: Programs) -> None:
    """Raise Damaged unless a prepared path gives its golden outputs.

    Passed are a path that has none (it never won), whose were collected or cannot be read, or were computed on another
    back end or with other libraries than here, where they may differ.
    """
    try:
        golden = store.golden(path.path.id)
    except (Collected, Damaged):
        return
    if golden is None or elsewhere(golden, _here()):
        return
    images, expected = golden.images[:ROWS], golden.logits[:ROWS]
    fits = images.shape[1:] == (path.image_size, path.image_size, 3)
    if not fits or chain(path.chain, images, programs)[0].tobytes() != expected.tobytes():
        raise Damaged(f"Version {path.version[:12]} of '{path.task.name}' does not give its golden outputs.")


@lru_cache(maxsize=1)
def _here() -> Here:
    return Here(backend.describe(), BATCH)
