"""The groups that a child's suffix is cut into, and which loss each of them follows (arXiv 2010.04116, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mutant.assignment import Training
from mutant.backprop import parse_backprop
from mutant.path import is_adapter, is_block
from mutant.template import Fitted


@dataclass(frozen=True)
class Groups:
    """Where in its template each group begins, bottom first, and how many groups a gradient passes at most.

    Loss j is that of group j: of its auxiliary head, or the true loss for the last. Group g follows loss
    min(g + window - 1, last); a loss that no group follows changes nothing that is kept, and is not computed.
    """

    starts: tuple[int, ...]
    window: int
    places: int

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def last(self) -> int:
        return len(self.starts) - 1

    @property
    def end_to_end(self) -> bool:
        """Whether every group follows the true loss."""
        return self.window == self.count

    @property
    def losses(self) -> range:
        """The losses that some group follows, bottom first; all but the last need an auxiliary head."""
        return range(self.window - 1, self.count)

    def followers(self, loss: int) -> range:
        """The groups whose weights follow a loss."""
        return range(loss - self.window + 1, self.count if loss == self.last else loss - self.window + 2)

    def place_range(self, group: int) -> slice:
        """The places of the template that a group consists of."""
        return slice(self.starts[group], self.stop(group))

    def stop(self, group: int) -> int:
        """The place at which the next group begins."""
        return (*self.starts, self.places)[group + 1]

    def followed_places(self, loss: int) -> slice:
        """The places of all groups that follow a loss."""
        groups = self.followers(loss)
        return slice(self.starts[groups[0]], self.stop(groups[-1]))


def grouped(suffix: Fitted, training: Training) -> Groups:
    """The groups of a child: `training.groups` of them, or as many as its suffix has blocks.

    A block stands with its adapter, what is below the first block with that block, and what is above the last block
    with that one. Groups have equally many blocks, or the upper ones one more.
    """
    starts = cut([None if part is None else part.slot for part in suffix.parts], training.groups)
    return Groups(starts, parse_backprop(training.backprop).within(len(starts)), len(suffix.template))


def cut(slots: Sequence[str | None], most: int) -> tuple[int, ...]:
    """Where each of at most `most` groups begins; a slot that is passed over is None.

    >>> cut(["block_08", "adapter_08", "block_09", None, "block_10", None, "block_11", "norm", "head"], 3)
    (0, 2, 4)
    >>> cut(["embedding", "block_00", "block_01", "norm", "head"], 4), cut(["norm", "head"], 4)
    ((0, 2), (0,))
    """
    own = [(index, slot) for index, slot in enumerate(slots) if slot is not None]
    first = own[0][1]
    blocks = [index for index, slot in own[1:] if is_block(slot)]
    units = [0, *(blocks if is_block(first) or is_adapter(first) else blocks[1:])]
    count = min(most, len(units))
    return tuple(units[group * len(units) // count] for group in range(count))
