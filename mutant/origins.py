"""Whose training is in a path's weights: its components, what they were cloned from, and so on to the root."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mutant.blueprint import blueprint
from mutant.path import Part, Path


@dataclass(frozen=True)
class Origin:
    """A component trained by `ancestor.task`, which the path's component in the same slot is or comes from."""

    slot: str
    ancestor: Part


def origins(ancestry: Sequence[Path]) -> tuple[Origin, ...]:
    """Every trained component that `ancestry[0]` uses or whose values its components started from, slot by slot.

    `ancestry` runs from the path to the root. The root's own components have no training task and are left out.
    """
    place = {path.id: index for index, path in enumerate(ancestry)}
    sources: dict[str, Mapping[str, Part | None]] = {}

    def source(part: Part) -> Part | None:
        """What `part` was cloned from."""
        if part.trained_by not in place:  # imported with its path, but without its maker
            return None
        if part.trained_by not in sources:
            index = place[part.trained_by]
            plan = blueprint(ancestry[index + 1 :], ancestry[index].mutations)
            sources[part.trained_by] = {planned.slot: planned.source for planned in plan.parts}
        return sources[part.trained_by].get(part.slot)

    def line(part: Part | None) -> Iterator[Part]:
        while part is not None and part.task is not None:
            yield part
            part = source(part)

    return tuple(Origin(part.slot, ancestor) for part in ancestry[0].parts for ancestor in line(part))
