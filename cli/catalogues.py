"""What there is to start from: `mutant roots`, `mutant tasks`, `mutant presets`."""

from typing import TYPE_CHECKING, Any

import typer

from mutant.cli.display import Column, emit, facts, fixed, right, say, table
from mutant.cli.opening import reading
from mutant.cli.options import Db, Json
from mutant.cli.words import count

if TYPE_CHECKING:
    from mutant.roots import RootInfo
    from mutant.search.presets import Preset
    from mutant.tasks.samples import SampleInfo
    from mutant.tasks.task import Task

PANEL = "What there is"
FORMS = (
    ("folder:PATH", "a directory or .zip of split/class/image or class/image"),
    ("csv:FILE?image=COL&label=COL", "a table of image files and labels"),
    ("arrays:FILE.npz", "arrays train_images, train_labels, ...; or a directory of IDX files"),
    ("sample:NAME", "real data that ships in packages, listed above"),
    ("tfds:NAME[/CONFIG][:VERSION]", "TensorFlow Datasets (extra: tfds)"),
    ("hf:ORG/NAME", "the Hugging Face hub (extra: hf)"),
)
WHERE = {"wheel": "package index", "hubfile": "hub", "url": "web"}
SLICING = (
    "Choose splits with ?train=train[:90%]&validation=train[90%:]&test=test; what is not given is held out of train."
)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(roots)
    app.command(rich_help_panel=PANEL)(tasks)
    app.command(rich_help_panel=PANEL)(presets)


def roots(as_json: Json = False) -> None:
    """List the pretrained roots that a system can grow from."""
    from mutant.roots import registry

    found = [_root(info) for info in registry().values()]
    if as_json:
        emit(found)
        return
    table(
        [
            "root",
            right("parameters"),
            right("blocks", least=110),
            right("pixels", least=110),
            "licence",
            "what it is",
            fixed("where from", least=110),
        ],
        (
            [
                root["name"],
                count(root["parameters"]),
                str(root["blocks"]),
                str(root["image_size"]),
                root["licence"],
                root["description"],
                ", ".join(WHERE[source["kind"]] for source in root["sources"]),
            ]
            for root in found
        ),
    )
    say("Each is also there untrained, as random:NAME. Details: mutant roots --json")
    say("Start a system: mutant init --root NAME")


def _root(info: "RootInfo") -> dict[str, Any]:
    return {
        "name": info.name,
        "family": info.family,
        "description": info.description,
        "licence": info.licence,
        "parameters": info.parameters,
        "blocks": info.blocks,
        "image_size": info.image_size,
        "sources": [
            {"kind": type(source.place).__name__.lower(), "place": str(source.place), "sha256": source.sha256}
            for source in info.sources
        ],
    }


def tasks(db: Db = None, as_json: Json = False) -> None:
    """List the tasks in the system and the samples, and explain task URIs."""
    from mutant.tasks.samples import catalogue, is_available

    known = [_task(task) for task in _known(db)]
    samples = [_sample(info, is_available(info)) for info in catalogue()]
    if as_json:
        forms = [{"form": form, "meaning": meaning} for form, meaning in FORMS]
        emit({"tasks": known, "samples": samples, "forms": forms})
        return
    if known:
        say("Tasks in the system")
        table(
            ["task", right("classes"), right("train"), right("val"), right("test"), "URI"],
            (
                [task["task"], str(task["classes"]), *(f"{n:,}" for n in task["examples"].values()), task["uri"]]
                for task in known
            ),
        )
        say()
    say("Samples")
    table(
        [
            fixed("URI"),
            right("classes"),
            right("examples"),
            fixed("image", least=110),
            "what it is",
            Column("licence", least=150),
        ],
        (
            [
                sample["uri"],
                str(sample["classes"]),
                f"{sum(sample['examples'].values()):,}",
                sample["image"],
                sample["title"] + ("" if sample["available"] else " [not installed: pip install 'mutant[samples]']"),
                sample["licence"],
            ]
            for sample in samples
        ),
    )
    say()
    say("Your own data: mutant add URI")
    facts(dict(FORMS))
    say(SLICING)


def _known(db: str | None) -> "tuple[Task, ...]":
    """The tasks in the system; none when the default database is not there, since samples need no system."""
    from mutant.storage.url import database_file, database_url

    place = database_url(db)
    if db is None and place.get_backend_name() == "sqlite" and not database_file(place).exists():
        return ()
    with reading(db) as store:
        return store.tasks()


def _task(task: "Task") -> dict[str, Any]:
    return {
        "task": task.name,
        "uri": task.uri,
        "classes": len(task.class_names),
        "examples": {split.name: split.examples for split in task.splits},
        "fingerprint": task.fingerprint,
        "licence": task.licence,
    }


def _sample(info: "SampleInfo", available: bool) -> dict[str, Any]:
    return {
        "uri": info.uri,
        "title": info.title,
        "classes": info.classes,
        "examples": dict(zip(("train", "validation", "test"), info.examples, strict=True)),
        "image": info.image,
        "licence": info.licence,
        "packages": [distribution for _, distribution in info.packages],
        "available": available,
    }


def presets(as_json: Json = False) -> None:
    """List the presets with their settings."""
    from mutant.search.presets import DEFAULT, PRESETS

    found = [_preset(preset, default=preset.name == DEFAULT) for preset in PRESETS.values()]
    if as_json:
        emit(found)
        return
    names = [name for name in found[0] if name not in ("preset", "default", "source", "mutable")]
    table(
        ["", *(right(preset["preset"]) for preset in found)],
        ([name.replace("_", " "), *(_cell(preset[name]) for preset in found)] for name in names),
    )
    say()
    facts({preset["preset"] + (" (default)" if preset["default"] else ""): preset["source"] for preset in found})
    say("Choose with --preset NAME; each setting is also an option of mutant add and a key of a --config file.")


def _cell(value: Any) -> str:
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _preset(preset: "Preset", *, default: bool) -> dict[str, Any]:
    return {
        "preset": preset.name,
        "default": default,
        "source": preset.source,
        "children": preset.children,
        "generation_size": preset.generation_size,
        "visits": preset.visits,
        "examples_per_validation": preset.training.examples_per_validation,
        "validations": preset.training.validations,
        "batch": preset.training.batch,
        "scale_factor": preset.scale_factor,
        "compute_factor": preset.compute_factor,
        "probability": preset.rules.probability,
        "mutation_probability": preset.rules.start,
        "reach": preset.rules.reach,
        "first_children": preset.first_children,
        "halving": preset.halving,
        "deep_every": preset.deep_every,
        "deep_blocks": preset.deep_blocks,
        "backprop": preset.training.backprop,
        "groups": preset.training.groups,
        "mutable": list(preset.rules.mutable),
    }
