"""The real loop side by side: with every back end's commits, and the training of the same children alone."""

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from support.timing import Clock, Memory, Recorder, TimedStore, Took

from mutant.search.config import Settings
from mutant.search.evaluator import Evaluator, InProcessEvaluator
from mutant.search.evolve import Search, evolve, evolve_generation, remembering
from mutant.search.growth import Engine, begin, working
from mutant.search.population import Population
from mutant.search.supply import SearchData, StoreSupply
from mutant.storage.images import hashes_of
from mutant.storage.store import Store
from mutant.tasks.load import LoadedTask


@dataclass
class Pairs:
    """Seconds per child of every generation, by what kept them; `alone` is training alone, without any commit."""

    alone: list[Took] = field(default_factory=list[Took])
    kept: dict[str, list[Took]] = field(default_factory=dict[str, list[Took]])
    closing: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds to close a task's segment and run: the winner, its golden outputs."""
    clocks: dict[str, Clock] = field(default_factory=dict[str, Clock])
    """Seconds in each of the store's methods, over all children."""

    def ratios(self, name: str, what: Literal["wall", "cpu"]) -> list[float]:
        """Alone / kept, generation by generation, by the clock or by this process's processor time."""
        pairs = zip(self.alone, self.kept[name], strict=True)
        return [getattr(alone, what) / getattr(kept, what) for alone, kept in pairs]


def compare_loops(stores: Mapping[str, Store], tasks: Sequence[LoadedTask], settings: Settings) -> Pairs:
    """Grow each of the `stores` by the tasks, and train the same children alone, generation by generation in turn.

    The store called `rehearsal` goes first, so that every program is compiled, and tells which children there will be;
    it is not measured.
    """
    found = Pairs(kept={n: [] for n in stores if n != "rehearsal"}, clocks={n: Clock() for n in stores})
    found.closing = {name: [] for name in found.kept}
    for task in tasks:
        recorder = Recorder(InProcessEvaluator())
        with ExitStack() as stack:
            searches = {name: stack.enter_context(_begun(store, task, settings)) for name, store in stores.items()}
            evolve(replace(searches.pop("rehearsal"), evaluator=recorder))
            _compare(found, searches, recorder, task, stores["rehearsal"])
            for name, search in searches.items():
                started = time.perf_counter()
                evolve(search)
                found.closing[name].append(time.perf_counter() - started)
        versions = {path.version for store in stores.values() if (path := store.best(task.task.name))}
        assert len(versions) == 1, "every store must have grown the same model"
    return found


def _begun(store: Store, task: LoadedTask, settings: Settings) -> Any:
    run = begin(store, (task.task.name,), settings, new=[task.task], images=list(hashes_of(task)))
    return working(store, run, {task.task.name: task}, Engine(workers="1"))


def _compare(
    found: Pairs, searches: Mapping[str, Search], recorder: Recorder, task: LoadedTask, rehearsal: Store
) -> None:
    timed = {
        name: replace(search, store=cast(Any, TimedStore(search.store, found.clocks[name])))
        for name, search in searches.items()
    }
    populations = {n: Population.of(task.task.name, s.store.pool(), s.config) for n, s in searches.items()}
    remembered = {n: remembering(search) for n, search in searches.items()}
    supply = _in_memory(recorder, task, rehearsal)
    alone: Evaluator = InProcessEvaluator()
    for generation, work in enumerate(recorder.asked):
        names = [*timed, ""]
        turn = (len(found.alone)) % len(names)
        for name in [*names[turn:], *names[:turn]]:
            wall, cpu = time.perf_counter(), time.process_time()
            if name:
                (segment,) = timed[name].run.segments
                populations[name] = evolve_generation(
                    timed[name], segment, generation, populations[name], remembered[name]
                )
            else:
                for _ in alone.train(work, supply):
                    pass
            took = Took((time.perf_counter() - wall) / len(work), (time.process_time() - cpu) / len(work))
            (found.kept[name] if name else found.alone).append(took)


def _in_memory(recorder: Recorder, task: LoadedTask, store: Store) -> Memory:
    """What the children of a task draw on, in memory; the data is prepared within the time, as it is in the loop."""
    digests = {digest for asked in recorder.asked for work in asked for digest in work.digests}
    traces = {trace for asked in recorder.asked for work in asked for trace in work.traces}
    data = StoreSupply(store, {task.task.name: SearchData.of(task)})
    return Memory(store.components(digests), {trace: store.trace(trace) for trace in traces}, data.dataset)


@dataclass(frozen=True)
class Worst:
    """What keeping a child costs when its training costs nothing: seconds per child, in all and by the store's method;
    `n_bytes` are the weights that it brings."""

    seconds: float
    spread: tuple[float, float]
    by_method: Mapping[str, float]
    n_bytes: float


def grow_for_free(store: Store, task: LoadedTask, evaluator: Evaluator, settings: Settings) -> Worst:
    """A whole segment of children that `evaluator` makes up."""
    clock, each = Clock(), list[float]()
    run = begin(store, (task.task.name,), settings, new=[task.task], images=list(hashes_of(task)))
    recorder = Recorder(evaluator)
    with working(store, run, {task.task.name: task}, Engine(workers="1")) as search:
        (segment,) = run.segments
        timed = replace(search, evaluator=recorder, store=cast(Any, TimedStore(store, clock)))
        population, remembered = Population.of(task.task.name, store.pool(), search.config), remembering(search)
        for generation in range(settings.children or 1):
            if population.children >= (settings.children or 1):
                break
            before, kept = sum(clock.seconds.values()), population.children
            population = evolve_generation(timed, segment, generation, population, remembered)
            each.append((sum(clock.seconds.values()) - before) / (population.children - kept))
        evolve(replace(search, evaluator=evaluator))
    children = population.children
    n_bytes = sum(c.n_bytes for c in recorder.components.values())
    n_bytes += sum(array.nbytes for trace in recorder.traces.values() for array in trace.values())
    return Worst(
        statistics.median(each),
        (min(each), max(each)),
        {name: seconds / children for name, seconds in clock.seconds.items()},
        n_bytes / children,
    )
