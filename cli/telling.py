"""Tasks and paths as plain data for listings: the same facts for a table and for JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutant.path import Path
    from mutant.search.scoring import Scale
    from mutant.storage.records import Evaluation
    from mutant.storage.store import Store


def task_facts(store: "Store", name: str) -> dict[str, Any]:
    """A task as it was resolved, with the accuracies measured on its splits."""
    task, best = store.task(name), store.best(name)
    measured: dict[str, Evaluation] = {}
    if best is not None:
        measured = {e.split: e for e in store.evaluations(name) if e.path == best.id}
    return {
        "task": task.name,
        "uri": task.uri,
        "class_names": list(task.class_names),
        "fingerprint": task.fingerprint,
        "version": task.source_version,
        "licence": task.licence,
        "notes": list(task.notes),
        "splits": [
            {
                "split": split.name,
                "examples": split.examples,
                "origin": split.origin,
                "fingerprint": split.fingerprint,
                "accuracy": measured[split.name].accuracy if split.name in measured else None,
            }
            for split in task.splits
        ],
        "baselines": [
            {
                "name": baseline.name,
                "validation_accuracy": baseline.validation_accuracy,
                "test_accuracy": baseline.test_accuracy,
                "parameters": baseline.n_parameters,
            }
            for baseline in store.baselines(name)
        ],
    }


def path_facts(store: "Store", path: "Path") -> dict[str, Any]:
    """A path: its parts with who trained and who uses them, and its score as the pool is now."""
    from mutant.mutation import describe, to_dict
    from mutant.pool import accounted_parameters, shared_share

    pool = store.pool()
    accounted = None if path.task is None else accounted_parameters(path.parts, path.task, pool)
    return {
        "path": path.id,
        "version": path.version,
        "task": path.task,
        "parent": path.parent,
        "parent_task": None if path.parent is None else store.path(path.parent).task,
        "depth": path.depth,
        "parameters": path.n_parameters,
        "accounted_parameters": accounted,
        "shared": None if path.task is None else shared_share(path),
        "flops": path.flops,
        "score": None if accounted is None else _score(store, path, accounted),
        "cost": _cost(store, path),
        "mutations": [to_dict(mutation) for mutation in path.mutations],
        "mutation_words": [describe(mutation) for mutation in path.mutations],
        "hyperparameters": path.hyperparameters.to_dict(),
        "probabilities": dict(path.probabilities),
        "parts": [
            {
                "slot": part.slot,
                "kind": part.spec.kind,
                "parameters": part.n_parameters,
                "component": part.digest,
                "task": part.task,
                "trained_by": part.trained_by or None,
                "used_by": sorted(pool.users.get(part.digest, ())),
            }
            for part in path.parts
        ],
    }


def _cost(store: "Store", path: "Path") -> dict[str, Any] | None:
    """What had been predicted for the path's training and what it took; None for a path that was not trained here."""
    keys = (segment.key for run in store.runs() for segment in run.segments if segment.task == path.task)
    record = next((record for key in keys for record in store.candidates(key) if record.path == path.id), None)
    if record is None:
        return None
    predicted = {
        "predicted_seconds": record.planned.predicted_seconds,
        "predicted_flops": record.planned.predicted_flops,
    }
    return {"validations": list(record.validations), **asdict(record.cost), **predicted}


def _score(store: "Store", path: "Path", accounted: float) -> dict[str, float]:
    """The score and its factors, by the scale of the latest run on the path's task."""
    from mutant.search.scoring import factors, score

    scale = _scale(store, path.task or "")
    size, compute = factors(accounted, path.flops, scale)
    return {
        "score": score(path.quality, accounted, path.flops, scale=scale),
        "quality": path.quality,
        "size_factor": size,
        "compute_factor": compute,
    }


def _scale(store: "Store", task: str) -> "Scale":
    from mutant.search.recorded import recorded_config
    from mutant.search.scoring import Scale

    runs = [run for run in store.runs() if any(segment.task == task for segment in run.segments)]
    return recorded_config(runs[-1]).scale if runs else Scale()


def next_for(store: "Store", task: str) -> str:
    """The command that gives a task without a finished path one."""
    run = store.unfinished_run()
    going_on = run is not None and any(segment.task == task for segment in run.segments)
    return "mutant resume" if going_on else f"mutant evolve {task}"


def trained_counts(path: "Path | None") -> dict[str, int | None]:
    """How deep a task's path is, and how many of its blocks and adapters the task trained itself."""
    from mutant.path import is_adapter, is_block

    if path is None:
        return {"depth": None, "trained_blocks": None, "trained_adapters": None}
    own = [part.slot for part in path.parts if part.task == path.task]
    return {
        "depth": path.depth,
        "trained_blocks": sum(is_block(slot) for slot in own),
        "trained_adapters": sum(is_adapter(slot) for slot in own),
    }
