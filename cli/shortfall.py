"""Tasks of which a run could train no child: which they are, and why."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mutant.cli.display import tell
from mutant.cli.words import plural
from mutant.tasks.errors import printable

if TYPE_CHECKING:
    from mutant.storage.store import Store

UNTRAINED = 1
"""Exit code when a task could not be trained."""
REASONS_SHOWN = 3


@dataclass(frozen=True)
class Untrained:
    """A task whose `children` all failed. `reasons` counts them, commonest first; `has_path`: an older one stays."""

    task: str
    children: int
    reasons: tuple[tuple[str, int], ...]
    has_path: bool


def untrained(store: "Store") -> tuple[Untrained, ...]:
    """The tasks of the latest run of which every child failed."""
    runs = store.runs()
    if not runs:
        return ()
    segments = runs[-1].segments
    found: list[Untrained] = []
    for name in dict.fromkeys(segment.task for segment in segments):
        records = [record for s in segments if s.task == name for record in store.candidates(s.key)]
        if records and all(record.state == "FAILED" for record in records):
            why = Counter(f"{record.failure}: {record.reason}" for record in records)
            has_path = store.best(name) is not None
            found.append(Untrained(name, len(records), tuple(why.most_common(REASONS_SHOWN)), has_path))
    return tuple(found)


def tell_untrained(found: tuple[Untrained, ...], *, db: str = "") -> None:
    """Say which tasks could not be trained and why; `db` is the option that names the database in the next command."""
    for one in found:
        left = "it keeps the path that it had" if one.has_path else "it has no path"
        children = plural(one.children, "child", "children")
        tell(f"Task {one.task}: none of {children} could be trained; {left}.", style="bold red")
        for reason, times in one.reasons:
            tell(f"  {times:,} x {printable(' '.join(reason.split()))}")
    if found:
        tell(f"See: mutant status{db}")
