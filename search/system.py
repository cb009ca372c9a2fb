"""A system from Python: create it, grow it by tasks, resume, predict, evaluate, verify. The command line calls it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Self

from mutant import __version__, backend
from mutant.answers import Images, Logits, answer
from mutant.component import Component
from mutant.path import Path
from mutant.pool import Pool, accounted_parameters, shared_share
from mutant.predict import Prediction, predict
from mutant.roots import load_root
from mutant.search.baselines import HEAD_ONLY, KINDS, Plan, train_baseline
from mutant.search.comparison import Heard, compare
from mutant.search.config import Settings, check
from mutant.search.evaluate import evaluate
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.evolve import Search, evolve
from mutant.search.growth import Engine, begin, check_gangs, check_no_open_run, check_workers, leased, reload, working
from mutant.search.metrics import MetricsReport, metrics
from mutant.search.replay import Replay, replay
from mutant.search.resuming import changed
from mutant.search.starting import root_path, system_info
from mutant.storage.blobs.placement import chosen
from mutant.storage.collection import Collection, gc
from mutant.storage.export import export_system, export_task
from mutant.storage.images import hashes_of
from mutant.storage.importing import Imported, import_tasks
from mutant.storage.leakage import Leakage, leakage
from mutant.storage.matrix import TEST
from mutant.storage.records import Baseline, Evaluation, Run
from mutant.storage.removal import Removal, remove, undo
from mutant.storage.store import Store
from mutant.storage.url import database_url
from mutant.storage.verify import Report, verify
from mutant.storage.whole import open_source
from mutant.tasks.errors import UserError
from mutant.tasks.load import LoadedTask, load
from mutant.tasks.uri import default_name, parse


@dataclass(frozen=True)
class TaskSummary:
    """One task of a grown system: what it reached and what it costs. Accuracies 0 to 1, None where not measured.

    `shared` is the share of the path's parameters that it takes frozen from the root or other tasks; `seconds` the
    training time of all its children.
    """

    task: str
    classes: int
    validation_accuracy: float | None
    test_accuracy: float | None
    head_only_test_accuracy: float | None
    accounted_parameters: float | None
    n_parameters: int | None
    shared: float | None
    seconds: float
    path: str | None


class System:
    """A multitask model in its database. Use it as a context manager, or close it.

    >>> import mutant, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with mutant.create(folder / "m.db", root="random:vit-ti16", blocks=1, image_size=16) as system:
    ...     print(system.store.root().depth, [task.name for task in system.store.tasks()])
    1 []
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def create(
        cls,
        db: str | os.PathLike[str] | None = None,
        *,
        root: str,
        blocks: int | None = None,
        image_size: int | None = None,
        seed: int = 0,
        settings: Settings = Settings(),
        blobs: str | os.PathLike[str] | None = None,
        inline_limit: int | str | None = None,
        **source: Any,
    ) -> Self:
        """A new system in database `db` grown from a pretrained root (`mutant.roots()` lists them).

        Weights of more than `inline_limit` bytes (`"64KiB"`; 0: all) go to `blobs`, a directory or an `s3://` or `gs://`
        URL, which no other database may share. `source` goes to `mutant.roots.load_root`: `file`, `cache_dir`,
        `sha256`, `trust_first_use`. Raises `UserError` when the database exists or the root cannot be had.
        """
        check(settings)
        url = None if db is None else os.fspath(db)
        placement = chosen(database_url(url), blobs, inline_limit)
        loaded = load_root(root, blocks=blocks, seed=seed, **source)
        path, components = root_path(loaded, image_size)
        info = system_info(loaded, path, seed=seed, version=__version__, settings=settings)
        return cls(Store.create(url, info, path, components, placement))

    @classmethod
    def open(cls, db: str | os.PathLike[str] | None = None, *, read_only: bool = False) -> Self:
        """The system in `db` (default: `MUTANT_DB`, else `mutant.db` here)."""
        return cls(Store.open(None if db is None else os.fspath(db), read_only=read_only))

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        uris: str | Sequence[str],
        *,
        name: str | None = None,
        settings: Settings = Settings(),
        engine: Engine = Engine(),
        baseline: bool = True,
    ) -> tuple[TaskSummary, ...]:
        """Add tasks and evolve each; returns what they reached on their test splits.

        `name` renames a single task. Nothing is written when a task cannot be loaded.
        """
        wanted = [uris] if isinstance(uris, str) else list(uris)
        if name is not None and len(wanted) != 1:
            raise UserError("--name is for one task at a time.")
        check_workers(engine)
        check_no_open_run(self.store)
        self._refuse_known([name or default_name(parse(uri).resolved()) for uri in wanted])
        tasks = [_load(uri, name) for uri in wanted]
        return self.add_loaded(tasks, settings=settings, engine=engine, baseline=baseline)

    def add_loaded(
        self,
        tasks: Sequence[LoadedTask],
        *,
        settings: Settings = Settings(),
        engine: Engine = Engine(),
        baseline: bool = True,
    ) -> tuple[TaskSummary, ...]:
        """`add`, for tasks that are at hand already."""
        check_no_open_run(self.store)
        self._refuse_known([task.task.name for task in tasks])
        loaded = {task.task.name: task for task in tasks}
        if len(loaded) != len(tasks):
            raise UserError("Two of the tasks have the same name.", hint="Name one: mutant add URI --name NAME")
        check_gangs(self.store, tuple(loaded), settings, engine)
        new, images = [task.task for task in tasks], [one for task in tasks for one in hashes_of(task)]
        with leased(self.store, "mutant add", engine.listener):
            run = begin(self.store, tuple(loaded), settings, new=new, images=images, baseline=baseline)
            return self._work_off(run, loaded, engine)

    def evolve(
        self, tasks: Sequence[str] = (), *, settings: Settings = Settings(), engine: Engine = Engine()
    ) -> tuple[TaskSummary, ...]:
        """More segments on tasks that are already in (all of them by default)."""
        names = tuple(self.store.task(name).name for name in tasks) or tuple(t.name for t in self.store.tasks())
        if not names:
            raise UserError("There is no task to evolve.", hint="Add one: mutant add URI")
        check_workers(engine)
        check_no_open_run(self.store)
        check_gangs(self.store, names, settings, engine)
        loaded = reload(self.store, names)
        with leased(self.store, "mutant evolve", engine.listener):
            return self._work_off(begin(self.store, names, settings), loaded, engine)

    def resume(
        self,
        *,
        settings: Settings = Settings(),
        engine: Engine = Engine(),
        at_hand: Mapping[str, LoadedTask] | None = None,
    ) -> tuple[TaskSummary, ...]:
        """Go on with the unfinished run at its first open position, as if nothing had happened.

        The tasks are read from their sources again, but for those `at_hand` by name. Of the `settings` only the budget
        and, for segments that have not begun, the penalties may differ from the run's own: `UserError` for others.
        """
        run = self.store.unfinished_run()
        if run is None:
            raise UserError("There is nothing to resume: every run is finished.", hint="See: mutant status")
        check_workers(engine)
        loaded = reload(self.store, [segment.task for segment in run.segments], at_hand)
        with leased(self.store, "mutant resume", engine.listener):
            run = changed(self.store, self.store.run(run.id), check(settings))
            return self._work_off(run, loaded, engine)

    def predict(
        self, task: str, images: Sequence[bytes | str | os.PathLike[str]], *, top_k: int = 5
    ) -> tuple[Prediction, ...]:
        """The most probable classes of images given as files or encoded bytes. The task's source is not needed."""
        known, path = self.store.task(task), self.best(task)
        data = [image if isinstance(image, bytes) else _read(FilePath(image)) for image in images]
        return predict(path, self._components(path), known, data, top_k=top_k)

    def evaluate(self, tasks: Sequence[str] = (), *, split: str = "test") -> tuple[Evaluation, ...]:
        """Accuracy of each task's path on a split of its source, recorded."""
        names = tasks or [task.name for task in self.store.tasks() if self.store.best(task.name)]
        found = tuple(
            evaluate(path := self.best(name), self._components(path), loaded, InProcessEvaluator(), split=split)
            for name, loaded in reload(self.store, names).items()
        )
        for evaluation in found:
            self.store.record_evaluation(evaluation)
        return found

    def baseline(
        self,
        tasks: Sequence[str] = (),
        *,
        kind: str = "full",
        engine: Engine = Engine(),
        heard: Heard = lambda task, done, of, outcome: None,
    ) -> tuple[Baseline, ...]:
        """Train tasks (all by default) from the root without the search, at the budget that the search spent on them.

        `kind` is `full` (every component is trained) or `head` (only a new head is). What comes of it is recorded.
        """
        check_workers(engine)
        return compare(self.store, tasks, kind, engine, heard)

    def abandon(self) -> int:
        """Give the unfinished run up: what is committed stays, and another run can begin. The run's id.

        Raises `UserError` when every run is finished.
        """
        run = self.store.unfinished_run()
        if run is None:
            raise UserError("There is no unfinished run to abandon.", hint="See: mutant status")
        with leased(self.store, "mutant abandon"):
            self.store.abandon_run(run.id)
        return run.id

    def verify(self, tasks: Sequence[str] = (), *, everything: bool = False) -> Report:
        """Recompute hashes and golden outputs: proof that no task's answers changed.

        `everything` also hashes the components and the momentum of all other paths, and recomputes the golden outputs
        of those that have some: they won an earlier segment, or their task was removed.
        """
        from mutant.network import BATCH

        here = backend.describe()
        return verify(self.store, _logits, tasks=list(tasks) or None, everything=everything, backend=here, batch=BATCH)

    def replay(self, run: int | None = None) -> tuple[Replay, ...]:
        """Draw every child of a run (all runs by default) again from its log, and compare. Nothing is trained."""
        runs = self.store.runs() if run is None else (self.store.run(run),)
        drawn = {key.run for key in self.store.tallies()}
        return tuple(replay(self.store, one) for one in runs if one.id in drawn)

    def leakage(self, task: str) -> Leakage:
        """Test images of `task` that trained what its path is made of, by the hashes kept when tasks were added."""
        return leakage(self.store, self.best(task))

    def metrics(self) -> MetricsReport:
        """The accuracy matrix, average accuracies, backward transfer, forgetting, gain over fine-tuning."""
        return metrics(self.store)

    def export(self, task: str | None, directory: str | os.PathLike[str]) -> FilePath:
        """Write a task's path as safetensors, config, model card and lineage; None: the whole system."""
        if task is None:
            return export_system(self.store, FilePath(directory))
        return export_task(self.store, task, FilePath(directory))

    def import_(
        self, source: str | os.PathLike[str], tasks: Sequence[str] = (), *, name: str | None = None
    ) -> tuple[Imported, ...]:
        """Bring tasks of another system (a database, or what `export` wrote) into this one, all of them or none.

        `name` renames a single one. A task that is here already with the same model changes nothing.
        """
        with open_source(os.fspath(source)) as theirs, leased(self.store, "mutant import"):
            return import_tasks(theirs, self.store, tasks, name=name)

    def remove(self, task: str, *, force: bool = False) -> Removal:
        """Take a task out of what answers; the others go on unchanged. `force`: also when others build on it."""
        with leased(self.store, "mutant rm"):
            return remove(self.store, task, force=force)

    def bring_back(self, task: str) -> None:
        """Undo `remove`, as long as nothing of the task was collected."""
        with leased(self.store, "mutant rm"):
            undo(self.store, task)

    def gc(self, *, dry_run: bool = False, adopt: bool = False) -> Collection:
        """Drop the weights of paths that lost; every row of lineage stays, and so does every answer.

        `adopt` takes over the blob store of the database that this one was copied from or moved away from.
        """
        if dry_run:
            return gc(self.store, dry_run=True)
        with leased(self.store, "mutant gc"):
            return gc(self.store, adopt=adopt)

    def best(self, task: str) -> Path:
        """The path that answers for a task."""
        path = self.store.best(self.store.task(task).name)
        if path is None:
            hint = f"mutant evolve {task}" if self.store.unfinished_run() is None else "mutant resume"
            raise UserError(f"Task {task!r} has no finished path yet.", hint=f"Go on with: {hint}")
        return path

    def summary(self, pool: Pool | None = None) -> tuple[TaskSummary, ...]:
        """What every task reached and costs, in the order of arrival. `pool`: the store's, where it is at hand."""
        return self._summaries([task.name for task in self.store.tasks()], pool)

    def _summaries(self, names: Iterable[str], pool: Pool | None = None) -> tuple[TaskSummary, ...]:
        """By a fixed number of queries, however many tasks there are."""
        pool, seconds = pool or self.store.pool(), self.store.training_seconds()
        tasks = {task.name: task for task in self.store.tasks()}
        tested = {(e.task, e.path): e.accuracy for e in self.store.evaluations() if e.split == TEST}
        head = {b.task: b.test_accuracy for b in self.store.baselines() if b.name == HEAD_ONLY}
        best = {path.task: path for path in pool.paths}

        def summary(name: str, path: Path | None) -> TaskSummary:
            return TaskSummary(
                name,
                len(tasks[name].class_names),
                path.quality if path else None,
                tested.get((name, path.id)) if path else None,
                head.get(name),
                accounted_parameters(path.parts, name, pool) if path else None,
                path.n_parameters if path else None,
                shared_share(path) if path else None,
                seconds.get(name, 0.0),
                path.id if path else None,
            )

        return tuple(summary(name, best.get(name)) for name in names)

    def _components(self, path: Path) -> dict[str, Any]:
        return self.store.components(part.digest for part in path.parts)

    def _refuse_known(self, names: Sequence[str]) -> None:
        known = {task.name for task in self.store.tasks()}
        for name in names:
            if name in known:
                hint = f"Evolve it further: mutant evolve {name}. Or add it under another name: --name NAME"
                raise UserError(f"There is a task {name!r} already.", hint=hint)

    def _work_off(self, run: Run, loaded: dict[str, LoadedTask], engine: Engine) -> tuple[TaskSummary, ...]:
        with working(self.store, run, loaded, engine) as search:
            evolve(search, lambda: self._measure(search, loaded))
        return self._summaries(loaded)

    def _measure(self, search: Search, loaded: Mapping[str, LoadedTask]) -> None:
        """Test every path that won a segment and was not tested, and the head-only baselines that the run asks for."""
        segments = self.store.run(search.run.id).segments
        won = {winner for segment in segments if (winner := segment.winner) is not None}
        won |= {path.id for name in loaded if (path := self.store.best(name)) is not None}
        tested = {e.path for e in self.store.evaluations() if e.split == TEST}
        for path in [self.store.path(id_) for id_ in sorted(won - tested)]:
            task = loaded[path.task or ""]
            self.store.record_evaluation(evaluate(path, self._components(path), task, search.evaluator))
        for name, task in loaded.items():
            if self.store.best(name) is None:
                continue
            if search.config.baseline and not any(b.name == HEAD_ONLY for b in self.store.baselines(name)):
                baseline = self._head_only(search, task)
                if baseline is not None:
                    self.store.record_baseline(baseline)

    def _head_only(self, search: Search, loaded: LoadedTask) -> Baseline | None:
        config = search.config
        plan = Plan(KINDS["head"], config.training, seed=config.seed)
        return train_baseline(plan, self.store.root(), loaded, search.evaluator, search.supply)


def _logits(path: Path, components: Mapping[str, Component], images: Images) -> Logits:
    return answer(path, components, images).logits


def _load(uri: str, name: str | None) -> LoadedTask:
    """The task at `uri`; an error says which of several tasks it is about."""
    try:
        return load(uri, name=name)
    except UserError as error:
        raise UserError(
            error.message if uri in error.message else f"{uri}: {error.message}", hint=error.hint
        ) from error


def _read(file: FilePath) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read image {str(file)!r}: {error.strerror}.") from error


create = System.create
open_system = System.open
