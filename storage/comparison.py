"""Two paths side by side: what they share, what differs, and the mutations that lie between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mutant.mutation import Mutation
from mutant.path import Part, Path
from mutant.storage.store import Store


@dataclass(frozen=True)
class Step:
    """A path on the way from the nearest common ancestor, and the mutations that led to it from its parent."""

    path: str
    task: str | None
    mutations: tuple[Mutation, ...]


@dataclass(frozen=True)
class Comparison:
    """What leads from `before` to `after`.

    `shared` are the parts that both have with the same weights, `differing` the slots with others on each side, and
    `removed` and `added` those of one side alone. `hyperparameters` are (before, after) where they differ. `ancestor`
    is the nearest common one; `before_steps` and `after_steps` lead from it, oldest first.
    """

    before: Path
    after: Path
    shared: tuple[Part, ...]
    differing: tuple[tuple[Part, Part], ...]
    removed: tuple[Part, ...]
    added: tuple[Part, ...]
    hyperparameters: Mapping[str, tuple[object, object]]
    ancestor: str
    before_steps: tuple[Step, ...]
    after_steps: tuple[Step, ...]

    def __hash__(self) -> int:
        return hash((self.before, self.after))

    @property
    def shared_parameters(self) -> int:
        return sum(part.n_parameters for part in self.shared)


def compare(store: Store, before: str, after: str) -> Comparison:
    """Compare the paths whose ids begin so. Raises UserError when there is none, or more than one."""
    old_line, new_line = store.ancestors(before), store.ancestors(after)
    old, new = old_line[0], new_line[0]
    both = [slot for slot in old.slots if slot in new.slots]
    ours, theirs = old.hyperparameters.to_dict(), new.hyperparameters.to_dict()
    common = {path.id for path in old_line}
    ancestor = next(path.id for path in new_line if path.id in common)
    return Comparison(
        old,
        new,
        tuple(old.slots[slot] for slot in both if old.slots[slot].digest == new.slots[slot].digest),
        tuple((old.slots[s], new.slots[s]) for s in both if old.slots[s].digest != new.slots[s].digest),
        tuple(part for part in old.parts if part.slot not in new.slots),
        tuple(part for part in new.parts if part.slot not in old.slots),
        {name: (value, theirs[name]) for name, value in ours.items() if value != theirs[name]},
        ancestor,
        _steps(old_line, ancestor),
        _steps(new_line, ancestor),
    )


def _steps(line: tuple[Path, ...], ancestor: str) -> tuple[Step, ...]:
    """The steps from `ancestor` down to `line[0]`."""
    below = line[: [path.id for path in line].index(ancestor)]
    return tuple(Step(path.id, path.task, path.mutations) for path in reversed(below))
