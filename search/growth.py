"""Running the loop for a system: tasks loaded and checked, a run begun or taken up, workers started and stopped."""

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from mutant import __version__, backend
from mutant.activations.homes import run_home
from mutant.activations.limits import CacheLimits
from mutant.search.config import RunConfig, Settings, run_config
from mutant.search.crews import in_this_process, start_evaluator
from mutant.search.energy import SegmentMeter
from mutant.search.planning import expected_flops
from mutant.search.prediction import Sizes
from mutant.search.progress import Listener, Notice, both, silent
from mutant.search.recorded import recorded_config
from mutant.search.setup import Search
from mutant.search.strategies import check_fits, parse_strategy
from mutant.search.supply import SearchData, StoreSupply
from mutant.search.workers import (
    Crew,
    Gangs,
    Terms,
    check_address,
    choose_workers,
    ray_is_installed,
)
from mutant.storage.holding import holding
from mutant.storage.images import TaskImages
from mutant.storage.records import Run
from mutant.storage.store import Store
from mutant.tasks.errors import UserError, missing_extra
from mutant.tasks.load import LoadedTask, load
from mutant.tasks.task import Task


@dataclass(frozen=True)
class Engine:
    """How a run is worked off. Only a `budget` that runs out has an influence on its result.

    `workers` is `auto` or a number; `address` joins a Ray cluster; `budget` in seconds stops new generations after it
    (each segment still gets one). `cache` limits what each host keeps of activations. `told` hears about the crew.
    `pipeline`: the workers share the groups of one child, which interlocking backpropagation lets work side by side.
    `patience`: seconds without progress after which a worker on Ray is taken to hang; None chooses (docs/workers.md).
    `share`: this run's weight among the runs that share the cluster at `address` and have one; None: it takes what is
    free.
    """

    workers: str | int = "auto"
    address: str | None = None
    budget: float | None = None
    listener: Listener = silent
    told: Callable[[Crew], None] = field(default=lambda _: None)
    cache: CacheLimits = CacheLimits()
    pipeline: bool = False
    patience: float | None = None
    share: float | None = None


@contextmanager
def leased(store: Store, purpose: str, listener: Listener = silent) -> Generator[None]:
    """Be the one who may change runs while the block lasts; nothing more where the store holds its lease already."""
    if store.lease is not None:
        yield
        return
    with holding(store, purpose, told=lambda text: listener(Notice(text))):
        yield


def check_workers(engine: Engine) -> None:
    """Raise `UserError` now, before a run begins, for workers that could not be started later."""
    choose_workers(engine.workers, 0.0)
    if (engine.address is not None or str(engine.workers) not in ("auto", "1")) and not ray_is_installed():
        raise missing_extra("ray", "ray")
    if engine.share is not None and not 0 < engine.share < float("inf"):
        raise UserError(f"--share must be a weight above 0, not {engine.share:g}.")
    if engine.share is not None and engine.address is None:
        raise UserError("--share is for a Ray cluster that several runs use.", hint="Name it: --ray-address ADDRESS")
    if engine.share is not None and engine.pipeline:
        raise UserError("--pipeline keeps its workers for itself, so it takes no --share.", hint="Leave one out.")
    if engine.address is not None:
        check_address(engine.address)


def check_gangs(store: Store, tasks: Sequence[str], settings: Settings, engine: Engine) -> None:
    """Raise `UserError` now for gangs that are larger than the crew, or that cannot train what is asked for."""
    config = configure(store, tuple(tasks), settings)
    gang = config.gang
    crew = choose_workers(engine.workers, 0.0, address=engine.address, gang=gang)
    _check_share(config.threads, engine)
    alone = engine.pipeline or in_this_process(crew, engine.address, gang)
    if config.threads > 1 and alone and not backend.may_compute_with(config.threads):
        raise _other_threads(config.threads)
    if gang > 1 and not ray_is_installed():
        raise missing_extra("ray", "ray")
    if gang > 1 and engine.pipeline:
        raise UserError("--pipeline shares a child's groups, --gang its batches.", hint="Leave one of them out.")


def begin(
    store: Store,
    tasks: Sequence[str],
    settings: Settings,
    *,
    new: Sequence[Task] = (),
    images: Sequence[TaskImages] = (),
    baseline: bool = False,
) -> Run:
    """A new run over `tasks`, recorded with all its settings and, in the same transaction, its `new` tasks
    and the hashes of their `images`.

    Raises `UserError` when another run is unfinished: one thing at a time.
    """
    check_no_open_run(store)
    config = configure(store, tuple(tasks), settings, baseline=baseline)
    check_fits(parse_strategy(config.strategy), store.root())
    return store.begin_run(config.to_dict(), config.segments, new_tasks=new, images=images)


def check_no_open_run(store: Store) -> None:
    """Raise `UserError` when a run is unfinished, naming its tasks and both ways on."""
    run = store.unfinished_run()
    if run is not None:
        names = ", ".join(dict.fromkeys(segment.task for segment in run.segments))
        hint = "Finish it first: mutant resume. Or give it up: mutant abandon"
        raise UserError(f"Run {run.id} on {names} is not finished.", hint=hint)


def configure(store: Store, tasks: tuple[str, ...], settings: Settings, *, baseline: bool = False) -> RunConfig:
    """The settings over the system's own (given to `mutant init`) over the preset's."""
    info, root = store.info, store.root()
    defaults = Settings(seed=info.seed, **info.settings.get("run", {}))
    features = root.parts[-1].spec["features"]
    return run_config(
        settings.over(defaults),
        tasks,
        reference_parameters=root.n_parameters + 2 * features + 2,
        reference_flops=root.flops,
        image_step=info.settings.get("image_step", 16),
        baseline=baseline,
    )


@contextmanager
def working(store: Store, run: Run, loaded: Mapping[str, LoadedTask], engine: Engine) -> Generator[Search]:
    """Everything the loop needs for `run`, with the workers running until the block ends."""
    config = recorded_config(run)
    deadline = None if engine.budget is None else time.monotonic() + engine.budget
    predicted = expected_flops(store, config, {name: Sizes.of(task.task) for name, task in loaded.items()})
    threads = config.threads
    _check_share(threads, engine)
    crew = choose_workers(engine.workers, predicted, address=engine.address, gang=config.gang, threads=threads)
    if engine.pipeline or in_this_process(crew, engine.address, config.gang):
        _compute_with(threads, engine.listener)
    engine.told(crew)
    supply = StoreSupply(store, {name: SearchData.of(task) for name, task in loaded.items()})
    with run_home(home := home_name(store, run)):
        evaluator = start_evaluator(
            crew,
            terms=Terms(engine.address, engine.patience, engine.share, threads),
            cache=engine.cache,
            home=home,
            told=lambda text: engine.listener(Notice(text)),
            pipeline=engine.pipeline,
            gangs=Gangs(config.gang, config.sharded),
        )
        with (
            closing(evaluator),
            leased(store, f"run {run.id}", engine.listener),
            closing(SegmentMeter(store, run.id, here=engine.address is None)) as meter,
        ):
            if run.state == "open":
                _record_engine(store, run, engine, crew)
            listener = both(meter.hear, engine.listener)
            yield Search(store, run, config, evaluator, supply, listener, deadline, engine.budget)


def _check_share(threads: int, engine: Engine) -> None:
    """Raise `UserError` for workers of several threads where runs take turns at cores."""
    if threads > 1 and engine.share is not None:
        raise UserError(
            f"Runs that share a cluster take turns at single cores, and a worker here has {threads} threads.",
            hint="Leave out --share or --threads.",
        )


def _compute_with(threads: int, listener: Listener) -> None:
    """Train in this process with the run's threads. Raises `UserError` where JAX runs here already with others."""
    if backend.compute_with(threads):
        return
    if threads > 1:
        raise _other_threads(threads)
    listener(Notice("JAX runs in this process with more than one thread: children can end with other bits."))


def _other_threads(threads: int) -> UserError:
    return UserError(
        f"JAX runs in this process already, and not with the {threads} threads of this run.",
        hint=f"Begin in a new process, or set {backend.THREADS}={threads} in its environment; or --workers 2.",
    )


def home_name(store: Store, run: Run) -> str:
    """What the directory for activations of a system's run is called, the same for every process of a host."""
    return f"{hashlib.sha256(str(store.url).encode()).hexdigest()[:12]}-{run.id}"


def _record_engine(store: Store, run: Run, engine: Engine, crew: Crew) -> None:
    """An event that tells who works the run off from now on, where that is not as it was before.

    The person is told when it is by other versions, or on another processor, than it was begun: other bits can follow.
    """
    now = {
        "workers": "auto" if crew.workers is None else crew.workers,
        "ray_address": engine.address,
        "budget_seconds": engine.budget,
        "share": engine.share,
        "patience": engine.patience,
        "pipeline": engine.pipeline,
        "versions": {"mutant": __version__, **backend.versions()},
        "processor": backend.processor(),
    }
    before = [event.data["now"] for event in store.events(run.id, "worked off by")]
    told = [then for then in before if then.get("versions")]  # older runs do not tell
    others = _others(told[0], now) if told else []
    if others:
        text = f"Run {run.id} was begun with {'; '.join(others)}. Its children can end with other bits from here on."
        engine.listener(Notice(text))
    if not before or before[-1] != now:
        store.record_event(run.id, "worked off by", {"before": before[-1] if before else None, "now": now})


def _others(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a run was begun with, of that on which the last bits depend, where it is another now."""
    there, here = dict(begun["versions"]), dict(now["versions"])
    names = [name for name in here if there.get(name) != here[name]]
    found = [f"{name} {there.get(name, 'missing')}, and here is {here[name]}" for name in names]
    if begun.get("processor") != now["processor"]:
        found.append(f"the processor {begun.get('processor')}, and here is {now['processor']}")
    return found


def reload(
    store: Store, names: Sequence[str], at_hand: Mapping[str, LoadedTask] | None = None
) -> dict[str, LoadedTask]:
    """The named tasks, those not `at_hand` from their sources again, checked to be what the system learnt from.

    Raises `UserError` when a source has gone or its content has changed.
    """
    loaded: dict[str, LoadedTask] = {}
    for name in dict.fromkeys(names):
        known = store.task(name)
        try:
            task = (at_hand or {}).get(name) or load(known.uri, name=name)
        except UserError as error:
            hint = f"Put its source back, or give an unfinished run up: mutant abandon. {error.hint or ''}".rstrip()
            raise UserError(f"Task {name!r}: {error.message}", hint=hint) from error
        if task.task.fingerprint != known.fingerprint:
            raise UserError(
                f"The content of task {name!r} at {known.uri} has changed since it was added.",
                hint="Put the old content back, or add the new one under another name: mutant add URI --name NEW",
            )
        loaded[name] = task
    return loaded
