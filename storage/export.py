"""Directories that are complete by themselves: of a task, its weights, configuration, model card and lineage; of a
system, all of it.

`model.safetensors` holds the path's arrays as `SLOT/NAME`; `config.json` (format 1) says what they are, how to prepare
an image, the task, the lineage and the accuracies; `README.md` is the model card; `system.db` is a SQLite database of
mutant, from which `mutant import` brings the task into another system.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any

from mutant.component import Component, Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import from_dict, to_dict
from mutant.path import Part, Path
from mutant.storage import weights
from mutant.storage.blobs.directory import sync
from mutant.storage.card import model_card, system_card
from mutant.storage.checks import checked
from mutant.storage.faults import DECODING
from mutant.storage.portable import portable_info, portable_task
from mutant.storage.records import Evaluation, SystemInfo
from mutant.storage.refusals import Full
from mutant.storage.store import Store
from mutant.storage.whole import SYSTEM, copy_system, extract_task
from mutant.tasks.errors import UserError
from mutant.tasks.task import Task

FORMAT = 1
MODEL, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True)
class Exported:
    """What an exported directory holds: a path (without its optimizer's momentum), its components by digest, its task.

    `config` is the whole of config.json, with the root, the lineage and the accuracies.
    """

    path: Path
    components: Mapping[str, Component]
    task: Task
    config: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.path.id)


def export_task(store: Store, task: str, directory: FilePath | str) -> FilePath:
    """Write the task's best path to `directory`, whole or not at all; the directory.

    Raises UserError for an unknown task, one without a path, a directory that is not empty, or a full disk.
    """
    target = FilePath(directory).expanduser().absolute()
    while True:
        try:
            _export_best(store, task, target)
        except _Beaten:
            continue
        return target


class _Beaten(Exception):
    """Another path became the task's best while the one before was written."""


def _export_best(store: Store, task: str, target: FilePath) -> None:
    wanted, path = store.task(task), store.best(task)
    if path is None:
        raise UserError(f"Task '{task}' has no trained path yet.", hint=f"Train one with: mutant evolve {task}")
    _check_target(target)
    components = store.components(part.digest for part in path.parts)
    info, wanted = portable_info(store.info), portable_task(wanted)
    lineage, tasks = store.ancestors(path.id), {known.name: known for known in store.tasks(removed=True)}
    evaluations = [e for e in store.evaluations(task) if e.path == path.id]
    arrays = {
        f"{part.slot}/{name}": array for part in path.parts for name, array in components[part.digest].arrays.items()
    }
    config = _config(info, wanted, path, lineage, evaluations)
    files = {
        MODEL: weights.encode(arrays),
        CONFIG: (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        CARD: model_card(info, wanted, path, lineage, evaluations, tasks).encode(),
    }

    def extract(file: FilePath) -> None:
        if extract_task(store, task, file) != path.id:
            raise _Beaten

    _write(target, files, extract)


def export_system(store: Store, directory: FilePath | str) -> FilePath:
    """Write the whole system to `directory`, whole or not at all; the directory.

    Raises UserError for a directory that is not empty, or a full disk.
    """
    target = FilePath(directory).expanduser().absolute()
    _check_target(target)
    files = {CARD: system_card(portable_info(store.info), store.tasks()).encode()}
    _write(target, files, lambda file: copy_system(store, file))
    return target


def _check_target(target: FilePath) -> None:
    if target.is_dir():
        if any(target.iterdir()):
            raise UserError(f"The directory '{target}' is not empty.", hint="Name a new one.")
    elif target.exists() or target.is_symlink():
        raise UserError(f"'{target}' is not a directory.", hint="Name a new one.")


def _write(target: FilePath, files: Mapping[str, bytes], database: Callable[[FilePath], None]) -> None:
    """Write the files and the database to a directory beside `target`, then give it that name: it is there whole or
    not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = FilePath(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        _fill(beside, target, files, database)
    except OSError as error:
        raise UserError(f"'{target}' cannot be written: {error.strerror}.", hint="Nothing was left there.") from error
    except Full as error:
        raise UserError(
            f"'{target}' cannot be written: no space left on its disk.",
            hint="Nothing was left there. Free some space, or name a directory on another disk.",
        ) from error


def _fill(beside: FilePath, target: FilePath, files: Mapping[str, bytes], database: Callable[[FilePath], None]) -> None:
    place = beside
    try:
        database(beside / SYSTEM)
        for name, data in files.items():
            with (beside / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)
        sync(beside)
        place = beside.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _config(
    info: SystemInfo, task: Task, path: Path, lineage: Sequence[Path], evaluations: Sequence[Evaluation]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "task": task.to_json(),
        "path": {
            "id": path.id,
            "version": path.version,
            "parent": path.parent,
            "quality": path.quality,
            "flops": path.flops,
            "hyperparameters": path.hyperparameters.to_dict(),
            "probabilities": dict(path.probabilities),
        },
        "preprocessing": {
            "image_size": path.hyperparameters.image_size,
            "input": "RGB, uint8",
            "resize": "the whole image, bilinear, antialiased",
            "normalisation": "inside the network",
        },
        "parts": [
            {
                "slot": part.slot,
                "spec": json.loads(part.spec.to_json()),
                "digest": part.digest,
                "depth": part.depth,
                "trained_by": part.trained_by,
                "task": part.task,
            }
            for part in path.parts
        ],
        "root": {**asdict(info), "created_at": info.created_at.isoformat()},
        "lineage": [
            {
                "id": one.id,
                "version": one.version,
                "task": one.task,
                "quality": one.quality,
                "mutations": [to_dict(mutation) for mutation in one.mutations],
            }
            for one in lineage
        ],
        "accuracy": {e.split: {"accuracy": e.accuracy, "examples": e.examples} for e in evaluations},
    }


def load_export(directory: FilePath | str) -> Exported:
    """Read what `export_task` wrote; every digest is checked. Raises UserError when anything is missing or differs."""
    source = FilePath(directory).expanduser()
    try:
        text, data = (source / CONFIG).read_bytes(), (source / MODEL).read_bytes()
    except OSError as error:
        raise UserError(f"'{directory}' holds no exported task: {error.strerror}: {error.filename}.") from error
    try:
        return _exported(json.loads(text), weights.decode(data))
    except DECODING as error:
        raise UserError(
            f"The exported task in '{directory}' is damaged ({error}).", hint="Export it again with: mutant export"
        ) from error


def _exported(config: Mapping[str, Any], arrays: Mapping[str, Any]) -> Exported:
    if config["format"] != FORMAT:
        raise ValueError(f"format {config['format']}; this version of mutant reads {FORMAT}")
    components: dict[str, Component] = {}
    parts: list[Part] = []
    for entry in config["parts"]:
        slot, spec = str(entry["slot"]), checked(Spec.from_json(json.dumps(entry["spec"])))
        own = {name.removeprefix(f"{slot}/"): a for name, a in arrays.items() if name.startswith(f"{slot}/")}
        component = Component(spec, own)
        if component.digest != entry["digest"]:
            raise ValueError(f"the weights of '{slot}' are not those of digest {str(entry['digest'])[:12]}")
        components[component.digest] = component
        parts.append(
            checked(
                Part(
                    slot,
                    spec,
                    component.digest,
                    component.n_parameters,
                    int(entry["depth"]),
                    trained_by=str(entry["trained_by"]),
                    task=entry["task"],
                )
            )
        )
    task, of_path = Task.from_json(config["task"]), config["path"]
    path = checked(
        Path(
            id=str(of_path["id"]),
            task=task.name,
            parent=of_path["parent"],
            parts=tuple(parts),
            hyperparameters=checked(Hyperparameters.from_dict(of_path["hyperparameters"])),
            mutations=tuple(checked(from_dict(mutation)) for mutation in config["lineage"][0]["mutations"]),
            probabilities=of_path["probabilities"],
            quality=float(of_path["quality"]),
            flops=float(of_path["flops"]),
        )
    )
    if path.version != of_path["version"]:
        raise ValueError(f"its path's version is not {str(of_path['version'])[:12]}")
    return Exported(path, components, task, config)
