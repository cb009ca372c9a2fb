"""The model card of an exported task, in Markdown."""

from collections.abc import Mapping, Sequence

from mutant.mutation import describe
from mutant.path import Path
from mutant.storage.records import Evaluation, SystemInfo
from mutant.tasks.task import Task


def model_card(
    info: SystemInfo,
    task: Task,
    path: Path,
    lineage: Sequence[Path],
    evaluations: Sequence[Evaluation],
    tasks: Mapping[str, Task],
) -> str:
    """What the model does, how well, what it is made of and under which licences. `lineage` runs from path to root."""
    sections = [
        f"# {task.name}\n\nAn image classifier with {len(task.class_names)} classes, grown by mutant from {info.root}.",
        _section("Accuracy", _accuracies(path, evaluations)),
        _section("Input", _input(path)),
        _section("Use", _use()),
        _section("Parameters", _parameters(info, path)),
        _section("Lineage", _lineage(info, lineage)),
        _section("Licences", _licences(info, path, tasks)),
        _section("Classes", [f"{index}. {_plain(name)}" for index, name in enumerate(task.class_names)]),
        _section("Identity", [f"- path `{path.id}`", f"- version `{path.version}`", f"- data `{task.fingerprint}`"]),
    ]
    return "\n\n".join(sections) + "\n"


def system_card(info: SystemInfo, tasks: Sequence[Task]) -> str:
    """What an exported system is and how to use it."""
    listed = [f"- {task.name}: {len(task.class_names)} classes; licence {task.licence or 'unknown'}" for task in tasks]
    use = ["```", "mutant --db system.db list", "mutant --db system.db predict TASK image.png", "```"]
    sections = [
        f"# A multitask image model of {len(tasks)} tasks",
        f"Grown by mutant from {info.root}; `system.db` is all of it.",
        _section("Use", use),
        _section("Tasks", listed),
        _section("Licences", [f"- {info.root}: {info.licence} (from {info.source})"]),
    ]
    return "\n\n".join(sections) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _plain(text: str) -> str:
    """Text on one line that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in " ".join(text.split()))


def _accuracies(path: Path, evaluations: Sequence[Evaluation]) -> list[str]:
    lines = [f"- validation, as the search saw it: {path.quality:.4f}"]
    lines += [f"- {e.split}: {e.accuracy:.4f} on {e.examples:,} examples" for e in evaluations]
    if not any(e.split == "test" for e in evaluations):
        lines.append("- test: not measured")
    return lines


def _input(path: Path) -> list[str]:
    size = path.hyperparameters.image_size
    return [
        f"RGB images, resized as a whole to {size} x {size} pixels (bilinear, antialiased), uint8. "
        "They are normalised inside the network. `config.json` says all of it for programs."
    ]


def _use() -> list[str]:
    return [
        "```python",
        "from pathlib import Path",
        "",
        "from mutant.predict import predict",
        "from mutant.storage.export import load_export",
        "",
        'model = load_export(".")',
        'print(predict(model.path, model.components, model.task, [Path("image.png").read_bytes()]))',
        "```",
    ]


def _parameters(info: SystemInfo, path: Path) -> list[str]:
    lines = ["| slot | component | parameters | trained on |", "|---|---|---|---|"]
    for part in path.parts:
        trained_on = info.root if part.task is None else _plain(part.task)
        lines.append(f"| {part.slot} | {part.spec.kind} | {part.n_parameters:,} | {trained_on} |")
    return [*lines, f"| all | | {path.n_parameters:,} | |"]


def _lineage(info: SystemInfo, lineage: Sequence[Path]) -> list[str]:
    lines: list[str] = []
    for depth, path in enumerate(reversed(lineage)):
        name = f"root {info.root}" if path.task is None else _plain(path.task)
        quality = "" if path.task is None else f", quality {path.quality:.4f}"
        changes = "; ".join(describe(mutation) for mutation in path.mutations)
        lines.append(f"{depth}. {name} `{path.id[:12]}`{quality}{': ' + changes if changes else ''}")
    return lines


def _licences(info: SystemInfo, path: Path, tasks: Mapping[str, Task]) -> list[str]:
    lines = [f"- {info.root}: {info.licence} (from {info.source})"]
    used = dict.fromkeys(part.task for part in path.parts if part.task is not None)
    for name in used:
        licence = tasks[name].licence if name in tasks else None
        lines.append(f"- images of {_plain(name)}: {licence or 'unknown'}")
    return lines
