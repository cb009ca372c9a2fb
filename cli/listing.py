"""What the system has learnt: `mutant list`, `mutant show`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mutant.cli.display import Column, emit, facts, fixed, right, say, table
from mutant.cli.leaking import leakage_facts, show_leaks
from mutant.cli.opening import opened, reading
from mutant.cli.options import Db, Json
from mutant.cli.telling import next_for, path_facts, task_facts, trained_counts
from mutant.cli.words import UNKNOWN, count, duration, first_few, flops, listed, percent, plural, short

PANEL = "Looking"


def register(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=PANEL)(list_)
    app.command(rich_help_panel=PANEL)(show)


def list_(db: Db = None, as_json: Json = False) -> None:
    """List the tasks: what each reached and what it costs."""
    with opened(db, read_only=True) as system:
        pool = system.store.pool()
        best = {path.task: path for path in pool.paths}
        found: list[dict[str, Any]] = [
            asdict(summary) | trained_counts(best.get(summary.task)) for summary in system.summary(pool)
        ]
    if as_json:
        emit(found)
        return
    if not found:
        say("There are no tasks yet. Next: mutant add URI (see: mutant tasks)")
        return
    table(
        [
            "task",
            right("classes"),
            right("val"),
            right("test"),
            right("head only"),
            right("parameters"),
            right("shared"),
            right("depth", least=100),
            right("trained", least=100),
            fixed("path"),
        ],
        (
            [
                task["task"],
                str(task["classes"]),
                percent(task["validation_accuracy"]),
                percent(task["test_accuracy"]),
                percent(task["head_only_test_accuracy"]),
                count(task["accounted_parameters"]),
                percent(task["shared"]),
                UNKNOWN if task["depth"] is None else str(task["depth"]),
                _trained(task),
                short(task["path"]),
            ]
            for task in found
        ),
    )
    say("parameters: accounted, a shared one by its share. trained: blocks + adapters that the task trained.")


def _trained(task: dict[str, Any]) -> str:
    blocks, adapters = task["trained_blocks"], task["trained_adapters"]
    return UNKNOWN if blocks is None else f"{blocks}+{adapters}"


def show(
    which: Annotated[str, typer.Argument(metavar="TASK|PATH", help="A task's name, or a path's id or its beginning.")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show a task and its path, or any path: parts and who trained them, hyperparameters, score, mutations."""
    with reading(db) as store:
        names = [task.name for task in store.tasks()]
        if which in names:
            best = store.best(which)
            found = {"task": task_facts(store, which), "path": None if best is None else path_facts(store, best)}
        else:
            best = _path(store, which)
            found = {"task": None, "path": path_facts(store, best)}
        found["leakage"] = None if best is None or best.task is None else leakage_facts(store, best)
        going_on = next_for(store, which)
    if as_json:
        emit(found)
        return
    if found["task"] is not None:
        _show_task(found["task"])
        say()
    if found["path"] is None:
        say(f"No finished path yet. Next: {going_on}")
    else:
        _show_path(found["path"])
    if found["leakage"] is not None:
        say()
        show_leaks(found["leakage"], everything=True)


def _path(store: Any, which: str) -> Any:
    """The path whose id begins so; an error that is about a task's name when it cannot be an id."""
    if not which or set(which.lower()) - set("0123456789abcdef"):
        return store.task(which)
    return store.path(which)


def _show_task(task: dict[str, Any]) -> None:
    say(f"Task {task['task']}")
    facts(
        {
            "URI": task["uri"],
            "classes": f"{len(task['class_names'])}: {first_few(task['class_names'])}",
            "content": short(task["fingerprint"]) + (f", version {task['version']}" if task["version"] else ""),
            "licence": task["licence"] or "unknown",
            **{f"note {number}": note for number, note in enumerate(task["notes"], 1)},
        }
    )
    table(
        ["split", right("examples"), right("accuracy"), "from"],
        ([s["split"], f"{s['examples']:,}", percent(s["accuracy"]), s["origin"]] for s in task["splits"]),
    )
    for baseline in task["baselines"]:
        say(
            f"Baseline {baseline['name']}: validation {percent(baseline['validation_accuracy'])}, "
            f"test {percent(baseline['test_accuracy'])}, {count(baseline['parameters'])} parameters"
        )


def _show_path(path: dict[str, Any]) -> None:
    say(f"Path {path['path']}")
    words = {
        "task": path["task"] or "none: the root",
        "parent": "none: the root"
        if path["parent"] is None
        else f"{short(path['parent'])} of {_whose(path['parent_task'])}",
        "version": short(path["version"]),
        "size": f"{count(path['parameters'])} parameters, {plural(path['depth'], 'block')}, "
        f"{count(path['flops'])} FLOPs an image",
    }
    if path["cost"] is not None:
        words["cost"] = _cost(path["cost"])
    if path["score"] is not None:
        s = path["score"]
        words |= {
            "accounted": f"{count(path['accounted_parameters'])} parameters; "
            f"{percent(path['shared'])} of the path is shared",
            "score": f"{s['score']:.4f} = quality {s['quality']:.4f} x size {s['size_factor']:.4f} "
            f"x compute {s['compute_factor']:.4f}",
            "mutations": ", ".join(path["mutation_words"]) or "none",
        }
    facts(words)
    say()
    table(
        [fixed("slot"), Column("kind", least=100), right("parameters"), "trained by", "used by", fixed("component")],
        (
            [
                part["slot"],
                part["kind"],
                count(part["parameters"]),
                _whose(part["task"]),
                listed(part["used_by"], most=3) or UNKNOWN,
                short(part["component"]),
            ]
            for part in path["parts"]
        ),
    )
    say()
    facts({name.replace("_", " "): _value(value) for name, value in path["hyperparameters"].items()})
    if path["probabilities"]:
        say()
        say("Learned probabilities of mutations")
        facts({name: f"{value:g}" for name, value in path["probabilities"].items()})


def _cost(cost: dict[str, Any]) -> str:
    """What training took, against what had been predicted."""
    took = f"{flops(cost['flops'])} in {duration(cost['seconds'])}, {plural(len(cost['validations']), 'validation')}"
    if cost["predicted_flops"] is None:
        return took
    return f"{took}; predicted {flops(cost['predicted_flops'])} in {duration(cost['predicted_seconds'])}"


def _whose(task: str | None) -> str:
    return "the root" if task is None else task


def _value(value: Any) -> str:
    return "none" if value is None else str(value)
