"""Where models come from: `mutant lineage`, `mutant blame`, `mutant impact`, `mutant diff`."""

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutant.cli.display import emit, facts, fixed, right, say, table, width
from mutant.cli.opening import reading
from mutant.cli.options import Db, Json
from mutant.cli.telling import next_for, path_facts
from mutant.cli.watching import changes
from mutant.cli.words import count, listed, percent, plural, short

if TYPE_CHECKING:
    from mutant.path import Part
    from mutant.storage.comparison import Comparison, Step
    from mutant.storage.lineage import Blame, Impact
    from mutant.storage.store import Store

PANEL = "Looking"
Component = Annotated[
    str, typer.Argument(metavar="COMPONENT", help="A component's id or its beginning: mutant show TASK.")
]
_NAME, _OTHERS = 18, 50
"""Columns of names, and of all that stands beside a long text: so a table of lineage fits a terminal of 80."""
_GLUE = "\N{NO-BREAK SPACE}"


def register(app: typer.Typer) -> None:
    for command in (lineage, blame, impact, diff):
        app.command(rich_help_panel=PANEL)(command)


def lineage(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the system: mutant list.")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show where a task's model comes from: every ancestor with its mutations, and whose each component is."""
    with reading(db) as store:
        best = _best(store, task)
        ancestors = store.ancestors(best)
        path = path_facts(store, ancestors[0])
    rows: list[dict[str, Any]] = [
        {
            "generations_back": back,
            "path": one.id,
            "task": one.task,
            "depth": one.depth,
            "quality": one.quality if one.task else None,
            "mutations": changes(one.mutations) if one.task else "",
            "trained": [part.slot for part in one.trained_here()] if one.task else [],
        }
        for back, one in enumerate(ancestors)
    ]
    if as_json:
        emit({"task": task, "path": best, "depth": path["depth"], "ancestors": rows, "parts": path["parts"]})
        return
    say(f"Path {short(best)} of {task}: {plural(path['depth'], 'block')}, {plural(len(rows) - 1, 'ancestor')}")
    table(
        [right("back"), fixed("path"), "task", right("val"), "mutations"],
        _folded(
            [
                str(row["generations_back"]),
                short(row["path"]),
                _whose(row["task"]),
                percent(row["quality"]),
                row["mutations"],
            ]
            for row in rows
        ),
    )
    say()
    table(
        [fixed("slot"), right("parameters"), "trained by", fixed("in path"), "used by"],
        _folded(
            [
                part["slot"],
                count(part["parameters"]),
                _whose(part["task"]),
                short(part["trained_by"]),
                listed(part["used_by"], most=2),
            ]
            for part in path["parts"]
        ),
    )


def _folded(rows: Iterable[Sequence[str]]) -> Iterable[list[str]]:
    """Rows whose third cell (a name) and last one (a list with commas) go on in rows below where they are long."""
    room = width() - _OTHERS
    for row in rows:
        name = wrap(row[2], _NAME) or [""]
        text = _lines(row[-1], room)
        for line in range(max(len(name), len(text))):
            cells = list(row) if line == 0 else [""] * len(row)
            cells[2] = name[line] if line < len(name) else ""
            cells[-1] = text[line] if line < len(text) else ""
            yield cells


def _lines(items: str, room: int) -> list[str]:
    """A list with commas in lines of at most `room` columns, each of its items whole on one line where it fits.

    >>> _lines("clone adapter_15, clone top, clone norm", 30)
    ['clone adapter_15, clone top,', 'clone norm']
    >>> _lines("learning_rate = 0.02, clone norm", 30)
    ['learning_rate = 0.02,', 'clone norm']
    """
    glued = [item.replace(" ", _GLUE) if len(item) < room else item for item in items.split(", ")]
    lines = wrap(", ".join(glued), room, break_on_hyphens=False)
    return [line.replace(_GLUE, " ") for line in lines] or [""]


def _best(store: "Store", task: str) -> str:
    """The id of the task's path."""
    from mutant.tasks.errors import UserError

    best = store.best(store.task(task).name)
    if best is None:
        raise UserError(f"Task '{task}' has no finished path yet.", hint=f"Next: {next_for(store, task)}")
    return best.id


def _whose(task: str | None) -> str:
    return "the root" if task is None else task


def blame(component: Component, db: Db = None, as_json: Json = False) -> None:
    """Show who made a component: for which task, in which run, and from what."""
    from mutant.storage import lineage

    with reading(db) as store:
        with store.reading() as connection:
            found = lineage.blame(connection, lineage.component_id(connection, component))
        info = store.info
    if as_json:
        emit(_blame(found))
        return
    say(f"Component {short(found.component)}")
    place = found.place
    made_in = (
        "an imported task's lineage"
        if place is None
        else (f"run {place.run}, segment {place.segment}, generation {place.generation}, child {place.child}")
    )
    made = {"made for": found.task or "", "made by": f"path {short(found.path)}", "in": made_in}
    pretrained = {"made by": f"pretrained, of the root {info.root}", "source": info.source, "licence": info.licence}
    facts(
        {"slot": found.slot, "kind": found.spec.kind, "parameters": f"{found.n_parameters:,}"}
        | (pretrained if found.task is None else made | {"from": _from(found), "parent": short(found.parent)})
        | {"weights": found.weights}
    )


def _from(found: "Blame") -> str:
    source = found.source
    if source is None:
        return "nothing: it began fresh"
    whose = "the root" if source.task is None else f"{source.task}, path {short(source.trained_by)}"
    return f"component {short(source.digest)} of {whose}"


def _blame(found: "Blame") -> dict[str, Any]:
    place, source = found.place, found.source
    return {
        "component": found.component,
        "slot": found.slot,
        "kind": found.spec.kind,
        "parameters": found.n_parameters,
        "weights": found.weights,
        "pretrained": found.task is None,
        "task": found.task,
        "path": found.path,
        "parent": found.parent,
        "run": None if place is None else place.run,
        "segment": None if place is None else place.segment,
        "generation": None if place is None else place.generation,
        "child": None if place is None else place.child,
        "source": None
        if source is None
        else {"component": source.digest, "task": source.task, "trained_by": source.trained_by or None},
    }


def impact(component: Component, db: Db = None, as_json: Json = False) -> None:
    """Show which tasks break without a component, and how many paths in all use it."""
    from mutant.storage import lineage

    with reading(db) as store, store.reading() as connection:
        found = lineage.impact(connection, lineage.component_id(connection, component))
    if as_json:
        emit(_impact(found))
        return
    say(f"Component {short(found.component)}: {plural(len(found.active), 'task breaks', 'tasks break')} without it")
    if found.paths:
        table(
            ["task", "breaks", right("paths")],
            (
                [task, f"yes, in {found.active[task]}" if task in found.active else "no", f"{paths:,}"]
                for task, paths in found.paths.items()
            ),
        )
    if found.root:
        say("It is a part of the root: every later child can need it.")


def _impact(found: "Impact") -> dict[str, Any]:
    return {
        "component": found.component,
        "breaks": [{"task": task, "slot": slot} for task, slot in found.active.items()],
        "paths": dict(found.paths),
        "root": found.root,
    }


def diff(
    before: Annotated[str, typer.Argument(metavar="PATH", help="A path's id or its beginning, or a task.")],
    after: Annotated[str, typer.Argument(metavar="PATH", help="The path to compare it with, named likewise.")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Compare two paths: what they share, what differs, and the mutations between them."""
    from mutant.storage.comparison import compare

    with reading(db) as store:
        names = {task.name for task in store.tasks()}
        found = compare(store, *(_best(store, one) if one in names else one for one in (before, after)))
    if as_json:
        emit(_comparison(found))
        return
    _show_comparison(found)


def _show_comparison(found: "Comparison") -> None:
    sides = (found.before, found.after)
    say(" -> ".join(f"{short(path.id)} of {_whose(path.task)}" for path in sides))
    facts(
        {
            "parameters": " -> ".join(count(path.n_parameters) for path in sides)
            + f"; {count(found.shared_parameters)} of them shared",
            "shared": listed((part.slot for part in found.shared), most=6) or "nothing",
            "ancestor": short(found.ancestor),
        }
        | {name.replace("_", " "): f"{old} -> {new}" for name, (old, new) in found.hyperparameters.items()}
    )
    rows = [["differs", old.slot, *_side(old), *_side(new)] for old, new in found.differing]
    rows += [["removed", part.slot, *_side(part), "", ""] for part in found.removed]
    rows += [["added", part.slot, "", "", *_side(part)] for part in found.added]
    if rows:
        say()
        table([fixed("how"), fixed("slot"), fixed("before"), "of", fixed("after"), "of"], rows)
    for steps, path in ((found.before_steps, found.before), (found.after_steps, found.after)):
        if steps:
            say()
            say(f"From {short(found.ancestor)} to {short(path.id)}")
            for step in steps:
                say(f"  {short(step.path)}  {changes(step.mutations)}")


def _side(part: "Part") -> list[str]:
    return [short(part.digest), _whose(part.task)]


def _comparison(found: "Comparison") -> dict[str, Any]:
    return {
        "before": found.before.id,
        "after": found.after.id,
        "parameters": {
            "before": found.before.n_parameters,
            "after": found.after.n_parameters,
            "shared": found.shared_parameters,
        },
        "shared": [part.slot for part in found.shared],
        "differing": [{"slot": old.slot, "before": old.digest, "after": new.digest} for old, new in found.differing],
        "removed": [{"slot": part.slot, "before": part.digest} for part in found.removed],
        "added": [{"slot": part.slot, "after": part.digest} for part in found.added],
        "hyperparameters": {name: {"before": old, "after": new} for name, (old, new) in found.hyperparameters.items()},
        "ancestor": found.ancestor,
        "before_steps": [_step(step) for step in found.before_steps],
        "after_steps": [_step(step) for step in found.after_steps],
    }


def _step(step: "Step") -> dict[str, Any]:
    from mutant.mutation import to_dict

    return {"path": step.path, "task": step.task, "mutations": [to_dict(mutation) for mutation in step.mutations]}
