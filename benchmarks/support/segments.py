"""One real segment of the default preset, grown from nothing in this process: what it took, and what came of it."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from support.timing import Clock

import mutant
from mutant.activations.limits import CacheLimits
from mutant.cost import component_flops
from mutant.search.config import Settings
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, working
from mutant.search.scoring import score_of
from mutant.storage.digest import digest
from mutant.storage.effort import Effort, efforts
from mutant.storage.records import Run
from mutant.storage.store import Store
from mutant.tasks.load import LoadedTask

ROOT = "efficientnet-lite0"


@dataclass(frozen=True)
class Grown:
    """A finished segment: seconds of the loop, by the clock and of this process's processor time, what its children
    took, bytes that its cache held, and what came of it. `answer_seconds` are inside of device programs, too: those of
    the winner's golden outputs.

    `prefix_flops` are those of its children's frozen prefixes, were they run for every example trained on or validated.
    `meaning` is the database's digest.
    """

    seconds: float
    cpu_seconds: float
    effort: Effort
    answer_seconds: float
    held_bytes: int
    prefix_flops: float
    winner: str
    score: float
    meaning: str


def grow(task: LoadedTask, settings: Settings, cache: CacheLimits, *, root: str = ROOT) -> Grown:
    """A new system, one run over `task`, in this process."""
    with tempfile.TemporaryDirectory() as directory, mutant.create(Path(directory) / "m.db", root=root) as system:
        store, name = system.store, task.task.name
        run = begin(store, (name,), settings, new=[task.task])
        with working(store, run, {name: task}, Engine(workers="1", cache=cache)) as search:
            clock, answer = Clock(), search.evaluator.answer
            search.evaluator.answer = clock.around("answer", answer)
            started, cpu = time.perf_counter(), time.process_time()
            evolve(search)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            held = search.evaluator.cache.held_bytes  # pyright: ignore[reportAttributeAccessIssue]
        best = store.best(name)
        assert best is not None
        (effort,) = efforts(store)
        score = score_of(best, store.pool(), search.config.scale)
        answers = clock.seconds["answer"]
        return Grown(
            seconds, cpu, effort, answers, held, _prefix_flops(store, run, task), best.id, score, digest(store)
        )


def _prefix_flops(store: Store, run: Run, task: LoadedTask) -> float:
    total = 0.0
    for record in store.candidates(run.segments[0].key):
        path = store.path(record.path or "")
        cut = next(i for i, part in enumerate(path.parts) if part.trained_by == path.id)
        flops = component_flops([part.spec for part in path.parts[:cut]], path.hyperparameters.image_size)
        total += sum(flops) * (record.cost.examples + len(task.validation) * len(record.validations))
    return total
