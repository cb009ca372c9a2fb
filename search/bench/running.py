"""Working a benchmark off: a system for every method and repeat, grown over all tasks, resumed where it stopped."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import numpy as np

from mutant import backend
from mutant.pool import accounted_parameters
from mutant.position import derive
from mutant.search.bench.logistic import logistic_results
from mutant.search.bench.methods import LOGISTIC, Method
from mutant.search.config import RunConfig, Settings, settings_of
from mutant.search.energy import Meter
from mutant.search.growth import Engine, configure
from mutant.search.presets import DEFAULT, PRESETS
from mutant.search.progress import Listener, silent
from mutant.search.recorded import recorded_config
from mutant.search.suites.suite import Suite
from mutant.search.system import System
from mutant.storage.digest import digest
from mutant.storage.matrix import TEST
from mutant.storage.records import CandidateRecord
from mutant.storage.results import CellResult, Results, TaskResult
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask, load

MOST_CHILDREN = 48
"""Children of a baseline's segment, at most, where the budget is not counted in children and the suite says nothing
else: cheap ones could be trained without end. A search has as many as its preset, if the budget has room for them."""


@dataclass(frozen=True)
class Cell:
    """One method in one repeat; the repeat is the seed of its run."""

    method: Method
    repeat: int

    @property
    def file(self) -> str:
        return f"{self.method.name}-{self.repeat}.db"


@dataclass(frozen=True)
class Bench:
    """A suite with what it is worked off by. `directory` holds the results and a system for every cell."""

    suite: Suite
    methods: tuple[Method, ...]
    repeats: int
    directory: FilePath
    file: FilePath | None = None
    """The root's weights, where they are not to be fetched."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, the first repeat of every method before the second of one."""
        return tuple(Cell(method, repeat) for repeat in range(self.repeats) for method in self.methods)

    def settings(self) -> Mapping[str, str]:
        """What decides the results, as texts by name; more methods and repeats may come later."""
        suite = self.suite
        return {
            "suite": suite.name,
            "root": suite.root,
            "image_size": str(suite.image_size),
            "blocks": str(suite.blocks),
            "budget": suite.budget,
            "preset": str(suite.preset),
            "settings": repr(sorted(suite.settings.given().items())),
            "tasks": ", ".join(suite.tasks),
        }


Began = Callable[[Cell, int, int], None]
"""Hears that a cell begins: its number from 0, of how many."""


def run_bench(
    bench: Bench, engine: Engine, began: Began = lambda cell, number, of: None, listener: Listener = silent
) -> None:
    """Every cell that has no result yet, each one resumed where it was stopped.

    Raises `UserError` for a directory in which another benchmark lies.
    """
    results = open_results(bench)
    try:
        done = {(cell.method, cell.repeat) for cell in results.cells()}
        waiting = [cell for cell in bench.cells if (cell.method.name, cell.repeat) not in done]
        if not waiting:
            return
        backend.compute_with(bench.suite.settings.threads or 1)  # before a new system's root has started JAX
        loaded = {name: load(uri, name=name) for name, uri in bench.suite.tasks.items()}
        for cell in waiting:
            began(cell, bench.cells.index(cell), len(bench.cells))
            results.record(_run_cell(bench, cell, loaded, replace(engine, listener=listener)))
    finally:
        results.close()


def open_results(bench: Bench) -> Results:
    """The results in the benchmark's directory, which is made. Raises `UserError` where it holds those of another."""
    bench.directory.mkdir(parents=True, exist_ok=True)
    results = Results.open(bench.directory / "results.db")
    results.begin(bench.settings())
    for name, value in results.settings().items():
        now = bench.settings().get(name)
        if now != value:
            results.close()
            raise UserError(
                f"'{bench.directory}' holds a benchmark with {name} {value}, not {now}.",
                hint="Name another directory: --dir DIR",
            )
    return results


def _run_cell(bench: Bench, cell: Cell, loaded: Mapping[str, LoadedTask], engine: Engine) -> CellResult:
    began, processor, meter = time.monotonic(), time.process_time(), Meter.read()
    with _system(bench, cell) as system:
        fresh = not system.store.tasks()
        if cell.method.name == LOGISTIC:
            tasks = logistic_results(system, [loaded[name] for name in bench.suite.tasks], cell.repeat)
            total = system.store.root().n_parameters
        else:
            _grow(bench, cell, system, loaded, engine)
            tasks, total = results_of(system, cell), _total_parameters(system.store)
        after = Meter.read()
        known = fresh and meter is not None and after is not None
        alone = fresh and str(engine.workers) == "1"  # no process but this one has computed anything of it
        return CellResult(
            cell.method.name,
            cell.repeat,
            cell.method.group,
            total,
            digest(system.store),
            time.monotonic() - began,
            after.joules_since(meter) if known and after and meter else None,
            tuple(tasks),
            backend.processor(),
            time.process_time() - processor if alone else None,
        )


def _system(bench: Bench, cell: Cell) -> System:
    folder, suite = bench.directory / "systems", bench.suite
    folder.mkdir(exist_ok=True)
    file = folder / cell.file
    if file.exists():
        return System.open(file)
    return System.create(
        file, root=suite.root, blocks=suite.blocks, image_size=suite.image_size, seed=cell.repeat, file=bench.file
    )


def _grow(bench: Bench, cell: Cell, system: System, loaded: Mapping[str, LoadedTask], engine: Engine) -> None:
    settings, names = run_settings(bench.suite, cell), order(tuple(bench.suite.tasks), cell)
    if not system.store.tasks():
        system.add_loaded([loaded[name] for name in names], settings=settings, engine=engine, baseline=False)
        return
    _check_same_settings(
        bench.directory / "systems" / cell.file, system.store, configure(system.store, names, settings)
    )
    if system.store.unfinished_run() is not None:
        system.resume(engine=engine, at_hand=loaded)


def _check_same_settings(file: FilePath, store: Store, config: RunConfig) -> None:
    """Raise `UserError` where a cell's system was grown, in part at least, with other settings than it would be now."""
    began, now = (settings_of(one).given() for one in (recorded_config(store.runs()[0]), config))
    different = sorted(name for name in began | now if began.get(name) != now.get(name))
    if different:
        name = different[0]
        raise UserError(
            f"'{file}' began with {name} {began.get(name)}, and now it would be {now.get(name)}.",
            hint=f"Begin it again: rm '{file}'. Or name another directory: --dir DIR",
        )


def run_settings(suite: Suite, cell: Cell) -> Settings:
    """The settings of a cell's run: the method's over the suite's, at the suite's budget, the repeat as the seed."""
    budget = suite.run_budget
    settings = cell.method.settings.over(suite.settings)
    tuned = MOST_CHILDREN if cell.method.group == "baseline" else None
    most = int(budget.amount) if budget.unit == "children" else settings.children or tuned
    preset = settings.preset or suite.preset
    settings = replace(settings, preset=preset, budget=budget.text, seed=cell.repeat, children=most)
    if cell.method.settings.visits is None or budget.unit == "children":
        return settings
    return _sharing_children(replace(settings, visits=suite.settings.visits), cell.method.settings.visits)


def _sharing_children(settings: Settings, visits: int) -> Settings:
    """So many visits with the children that a task has in all under `settings`, shared among them."""
    preset = PRESETS[settings.preset or DEFAULT]
    before = settings.visits or preset.visits
    if visits == before:
        return replace(settings, visits=visits)
    children = (settings.children or preset.children) * before // visits
    return replace(settings, visits=visits, children=max(1, children))


def order(tasks: tuple[str, ...], cell: Cell) -> tuple[str, ...]:
    """The order in which a cell's tasks come."""
    if not cell.method.shuffled:
        return tasks
    drawn: list[int] = np.random.default_rng(derive(cell.repeat, "order of tasks")).permutation(len(tasks)).tolist()
    return tuple(tasks[i] for i in drawn)


def results_of(system: System, cell: Cell) -> list[TaskResult]:
    """What every task of a finished system reached, and what it took."""
    store = system.store
    pool, tested = store.pool(), {e.path: e for e in store.evaluations() if e.split == TEST}
    found: list[TaskResult] = []
    for place, task in enumerate(store.tasks()):
        path = system.best(task.name)
        records = _records(store, task.name)
        costs = [record.cost for record in records]
        found.append(
            TaskResult(
                method=cell.method.name,
                repeat=cell.repeat,
                task=task.name,
                place=place,
                validation_accuracy=path.quality,
                test_accuracy=tested[path.id].accuracy,
                test_examples=tested[path.id].examples,
                accounted_parameters=accounted_parameters(path.parts, task.name, pool),
                n_parameters=path.n_parameters,
                flops_per_example=path.flops,
                children=len(records),
                failed=sum(record.state == "FAILED" for record in records),
                examples=sum(cost.examples for cost in costs),
                flops=sum(cost.flops for cost in costs),
                device_seconds=sum(cost.on_device for cost in costs),
                seconds=sum(cost.seconds for cost in costs),
                path=path.id,
                hyperparameters=path.hyperparameters.to_dict(),
            )
        )
    return found


def _records(store: Store, task: str) -> list[CandidateRecord]:
    segments = [segment for run in store.runs() for segment in run.segments if segment.task == task]
    return [record for segment in segments for record in store.candidates(segment.key)]


def _total_parameters(store: Store) -> int:
    """Parameters of all components that answer for a task, each counted once."""
    parts = {part.digest: part.n_parameters for path in store.pool().paths for part in path.parts}
    return sum(parts.values())
