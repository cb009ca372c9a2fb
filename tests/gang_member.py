"""The program of one member of a gang: trains the same tiny children as all others, prints what came of them as JSON.

python tests/gang_member.py RANK SIZE HOST:PORT whole|sharded CHILD...
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from tiny import CLASSES, conv_chain, stripes, vit_chain, world

from mutant import backend

backend.prepare()

from mutant.activations.cache import ActivationCache  # noqa: E402
from mutant.assignment import Training  # noqa: E402
from mutant.gang import Gang, Membership, join  # noqa: E402
from mutant.mutation import Clone, InsertAdapter, NewHead  # noqa: E402
from mutant.outcome import Trained  # noqa: E402
from mutant.train import train  # noqa: E402

HEAD = NewHead(CLASSES)
CHILDREN = {
    "head": (vit_chain(3), (HEAD,)),
    "deep": (vit_chain(3), (Clone("block_01"), Clone("block_02"), InsertAdapter(1, 8), Clone("norm"), HEAD)),
    "conv": (conv_chain(3), (Clone("block_01"), Clone("block_02"), Clone("top"), Clone("norm"), HEAD)),
}


def children(gang: Gang | None, names: Sequence[str] = tuple(CHILDREN)) -> dict[str, Any]:
    """Each child's validations, its components' digests, and its largest weight, by name."""
    found: dict[str, Any] = {}
    for name in names:
        chain, edits = CHILDREN[name]
        here = world(3, chain)
        work = here.assignment(here.root, edits, training=Training(45, 3, 10))
        outcome = train(work, stripes(), ActivationCache(), gang=gang)
        assert isinstance(outcome, Trained), outcome
        weights = [array.astype(float) for c in outcome.components.values() for array in c.arrays.values()]
        found[name] = {
            "validations": outcome.validations,
            "digests": [part.digest for part in outcome.path.parts],
            "sums": sorted(float(abs(array).sum()) for array in weights),
        }
    return found


if __name__ == "__main__":
    rank, size, coordinator, division, *names = sys.argv[1:]
    member = join(Membership(int(rank), int(size), coordinator), sharded=division == "sharded")
    sys.stdout.write(json.dumps(children(member, names)))
