"""A system of many tasks on one trunk without training: real components, heads and top blocks moved at random."""

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from mutant import __version__, families
from mutant.blueprint import Blueprint, blueprint
from mutant.component import Component, is_buffer
from mutant.mutation import Clone, Mutation, NewHead
from mutant.network import predict_logits
from mutant.outcome import Trained
from mutant.path import Candidate, Part, Path
from mutant.roots import load_root
from mutant.search.config import Settings
from mutant.search.starting import root_path, system_info
from mutant.storage.records import Golden, Planned
from mutant.storage.store import Store
from mutant.tasks.task import Task

ROOT, SIZE, CLASSES = "efficientnet-lite0", 64, 10
TOP = ("block_15", "norm")
"""What each task has for itself, with its head; all below is one trunk."""


def many_tasks(file: FilePath, n: int, own: tuple[str, ...] = TOP, first: int = 0) -> list[str]:
    """Make a database of `n` tasks, the numbers from `first` on; their names."""
    root = load_root(ROOT)
    path, components = root_path(root, SIZE)
    info = system_info(root, path, seed=0, version=__version__, settings=Settings())
    with Store.create(str(file), info, path, components) as store:
        return [add_task(store, f"task{number:02d}", number, own) for number in range(first, first + n)]


def add_task(store: Store, name: str, seed: int, own: tuple[str, ...] = TOP) -> str:
    """One more task whose parent is the root; its name."""
    _grow(store, name, seed, own, [_task(name)])
    return name


def evolve_again(store: Store, name: str, seed: int, own: tuple[str, ...] = TOP) -> None:
    """Give a task another best path, by a seed that no path of it had yet; the one before becomes an older version."""
    _grow(store, name, seed, own, [])


def _grow(store: Store, name: str, seed: int, own: tuple[str, ...], new: Sequence[Task]) -> None:
    root = store.root()
    mutations: list[Mutation] = [*(Clone(slot) for slot in own), NewHead(CLASSES)]
    key = store.begin_run({}, [name], new_tasks=new).segments[0].key
    plan = blueprint([root], mutations)
    candidate = Candidate(name, root.id, tuple(mutations), seed)
    store.plan_generation(key, 0, [Planned(0, candidate, plan.hyperparameters)])
    made = _made(store, plan, candidate)
    store.commit_outcome(key, 0, 0, made)
    images = np.random.default_rng(seed).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)
    logits = predict_logits(made.path, store.components({p.digest for p in made.path.parts}), images)
    store.finish_segment(key, made.path.id, Golden(images, logits, "benchmark", {}, images.shape))
    store.finish_run(key.run)


def answers_of(database: FilePath, names: Sequence[str], images: np.ndarray) -> dict[tuple[str, int], bytes]:
    """The logits' bytes of each task for each of `images` [n, 1, S, S, 3], by its number; computed without a server."""
    found: dict[tuple[str, int], bytes] = {}
    with Store.open(str(database), read_only=True) as store:
        for name in names:
            path = store.best(name)
            assert path is not None
            components = store.components({part.digest for part in path.parts})
            for number, logits in enumerate(predict_logits(path, components, images[:, 0])):
                found[name, number] = logits.tobytes()
    return found


def _task(name: str) -> Task:
    classes = tuple(f"class {i}" for i in range(CLASSES))
    return Task(name, f"arrays:{name}", classes, (), name.encode().hex().ljust(64, "0"))


def _made(store: Store, plan: Blueprint, candidate: Candidate) -> Trained:
    rng = np.random.default_rng(candidate.seed)
    components: dict[str, Component] = {}
    parts: list[Part] = []
    for part in plan.parts:
        if not part.trainable and part.source is not None:
            parts.append(part.source)
            continue
        start: Any = (
            families.initial(part.spec, rng) if part.source is None else store.component(part.source.digest).arrays
        )
        moved = {
            name: np.asarray(array if is_buffer(name) else array + rng.normal(scale=0.02, size=array.shape))
            for name, array in start.items()
        }
        component = Component(part.spec, {name: array.astype(np.float32) for name, array in moved.items()})
        components[component.digest] = component
        parts.append(
            Part(
                part.slot, part.spec, component.digest, component.n_parameters, part.depth, candidate.id, candidate.task
            )
        )
    path = Path(
        candidate.id, candidate.task, candidate.parent, tuple(parts), plan.hyperparameters, candidate.mutations,
        {}, 0.5, 1e8,
    )  # fmt: skip
    return Trained(path, components, {}, (0.5,))
