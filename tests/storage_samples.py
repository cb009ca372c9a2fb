"""Small systems made by hand: a root of three components, and children whose weights are random numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

import ml_dtypes
import numpy as np
from places import placement
from sqlalchemy import func, select

from mutant.component import Component, Spec, content_digest
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import Clone, InsertAdapter, Mutation, NewHead, SetHyperparameter
from mutant.outcome import Cost, Trained
from mutant.path import Candidate, Part, Path
from mutant.position import derive
from mutant.storage.images import TaskImages
from mutant.storage.records import Golden, Planned, SegmentKey, SystemInfo
from mutant.storage.schema import Base
from mutant.storage.store import Store
from mutant.tasks.task import Split, Task

SIZE = 8
VERSIONS = {"numpy": np.__version__}
MUTATIONS: tuple[Mutation, ...] = (
    SetHyperparameter("momentum", None),
    Clone("norm"),
    InsertAdapter(0, 8),
    NewHead(3),
)


def component(kind: str, seed: int, width: int = 4) -> Component:
    rng = np.random.default_rng(seed)
    return Component(
        Spec.of(kind, width=width, features=width, names=("a", "b")),
        {"kernel": rng.normal(size=(width, width)).astype(np.float32), "bias": np.zeros(width, np.float32)},
    )


def part(slot: str, of: Component, **settings: object) -> Part:
    return Part(slot, of.spec, of.digest, of.n_parameters, **settings)  # type: ignore[arg-type]


def sample_root(seed: int = 0) -> tuple[Path, list[Component]]:
    slots = {slot: component(f"toy/{slot}", derive(seed, slot)) for slot in ("embedding", "block_00", "norm")}
    parts = tuple(part(slot, of, depth=1 if slot == "block_00" else 0) for slot, of in slots.items())
    path = Path(f"{derive(seed, 'root'):064x}", None, None, parts, Hyperparameters(image_size=SIZE))
    return path, list(slots.values())


def sample_info(seed: int = 0) -> SystemInfo:
    return SystemInfo("toy", "toy", "Apache-2.0", "made by hand", "0" * 64, SIZE, seed, "0.1.0", {"scale": 32})


def sample_task(name: str, classes: int = 3) -> Task:
    splits = tuple(Split(split, 10, f"{derive(name, split):064x}", "made") for split in ("train", "validation", "test"))
    names = tuple(f"{name} {i}" for i in range(classes))
    return Task(name, f"folder:{name}", names, splits, f"{derive(name):064x}", licence="CC0")


def sample_images(task: str, split: str, images: Sequence[int] = range(5)) -> TaskImages:
    """Hashes of images that are named by numbers: equal numbers stand for equal images."""
    words = [[derive("image", image, word) for word in range(5)] for image in images]
    hashes = np.array(sorted(words), dtype=np.uint64).reshape(-1, 5)
    return TaskImages(task, split, hashes[:, 0], hashes[:, 1:])


def new_store(where: FilePath | str, *tasks: str, seed: int = 0) -> Store:
    """A system in the directory or database `where`."""
    root, components = sample_root(seed)
    url = where if isinstance(where, str) else str(where / "mutant.db")
    store = Store.create(url, sample_info(seed), root, components, placement(url))
    for name in tasks:
        store.add_task(sample_task(name))
    return store


def planned(task: str, parent: Path, child: int, seed: int = 0, mutations: tuple[Mutation, ...] = MUTATIONS) -> Planned:
    candidate = Candidate(task, parent.id, mutations, derive(seed, task, parent.id, child))
    probabilities = {**parent.probabilities, "clone norm": 0.12}
    return Planned(child, candidate, Hyperparameters(momentum=None, image_size=SIZE), probabilities, "pool-1", 1.5, 2e9)


def trained(
    plan: Planned, parent: Path, *, quality: float | None = None, seconds: float = 1.0, width: int = 4
) -> Trained:
    """What training the plan would give: a new norm, an adapter and a head, with traces; the rest shared."""
    candidate, made, traces = plan.candidate, {}, {}
    parts = [p for p in parent.parts if p.slot in ("embedding", "block_00")]
    for slot in ("adapter_00", "norm", "head"):
        new = component(f"toy/{slot}", derive(candidate.id, slot), width)
        trace = {name: array.astype(ml_dtypes.bfloat16) for name, array in new.arrays.items()}
        digest = content_digest(Spec.of("trace"), trace)
        made[new.digest], traces[digest] = new, trace
        parts.append(part(slot, new, depth=0, trained_by=candidate.id, task=candidate.task, trace=digest))
    if quality is None:
        quality = float(np.random.default_rng(candidate.seed).random())
    path = Path(
        candidate.id, candidate.task, candidate.parent, tuple(parts), plan.hyperparameters, candidate.mutations,
        dict(plan.probabilities), quality, 1e6,
    )  # fmt: skip
    return Trained(path, made, traces, (quality / 2, quality), Cost(seconds=seconds, examples=512, flops=1e9))


def forward(path: Path, components: Mapping[str, Component], images: np.ndarray) -> np.ndarray:
    """A network that every array of the path has a share in."""
    x = images.reshape(len(images), -1)[:, :4].astype(np.float32) / 255
    for used in path.parts:
        arrays = components[used.digest].arrays
        x = np.tanh(x @ arrays["kernel"] + arrays["bias"])
    return x


def sample_golden(path: Path, components: Mapping[str, Component], backend: str = "cpu") -> Golden:
    images = np.random.default_rng(derive(path.id)).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    return Golden(images, forward(path, components, images), backend, VERSIONS, (64, SIZE, SIZE, 3))


def grow_segment(store: Store, key: SegmentKey, task: str, parent: Path, *, children: int = 2, seed: int = 0) -> Path:
    """One generation of `children` of one parent; the best wins."""
    plans = [planned(task, parent, child, seed) for child in range(children)]
    store.plan_generation(key, 0, plans)
    outcomes = [trained(plan, parent) for plan in plans]
    for plan, outcome in zip(plans, outcomes, strict=True):
        store.commit_outcome(key, 0, plan.child, outcome)
    winner = max((outcome.path for outcome in outcomes), key=lambda path: path.quality)
    components = store.components(p.digest for p in winner.parts)
    store.finish_segment(key, winner.id, sample_golden(winner, components))
    return winner


def grow(store: Store, *tasks: str, children: int = 2) -> list[Path]:
    """A finished run with one segment per task, each on top of the one before."""
    run = store.begin_run({"children": children}, tasks)
    winners: list[Path] = []
    for segment in run.segments:
        parent = winners[-1] if winners else store.root()
        winners.append(grow_segment(store, segment.key, segment.task, parent, children=children, seed=run.id))
    store.finish_run(run.id)
    return winners


def counts(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }
