"""The store: the only way into a system's database. Every write is one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from mutant.component import Arrays, Component
from mutant.outcome import Outcome
from mutant.path import Path
from mutant.pool import Pool
from mutant.spans import Seat, Span
from mutant.storage import births, candidates, catalog, facts, leases, lineage, migrate, paths, runs, tally, weights
from mutant.storage.blobs.placement import Placement, chosen
from mutant.storage.engine import revision
from mutant.storage.founding import check_same, found
from mutant.storage.images import TaskImages, write_images
from mutant.storage.locks import BUSY_SECONDS
from mutant.storage.records import (
    Baseline,
    CandidateRecord,
    Evaluation,
    Event,
    Golden,
    Planned,
    Run,
    SegmentKey,
    SystemInfo,
)
from mutant.storage.refusals import Conflict
from mutant.storage.schema import PathRow, RunRow, TaskRow
from mutant.storage.timings import Beginning, ChildPlace, Commit, write_commit, write_worker
from mutant.storage.transactions import Transactions
from mutant.storage.url import database_url
from mutant.tasks.task import Task


class Store(Transactions):
    """An open system. Use it as a context manager; make one with `create` or `open`, not directly."""

    def __init__(self, url: URL, *, read_only: bool, busy_seconds: float) -> None:
        super().__init__(url, read_only=read_only, busy_seconds=busy_seconds)
        self._info: SystemInfo | None = None
        self._committed: Commit | None = None

    @staticmethod
    def create(
        url: str | None,
        info: SystemInfo,
        root: Path,
        components: Iterable[Component],
        placement: Placement | None = None,
        *,
        exist_ok: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> "Store":
        """Make a system with its root, whole or not at all; `components` are all of the root's.

        `placement` (as `blobs.placement.chosen` makes it) says where its weights will lie. Raises UserError when there
        is one already, unless `exist_ok` and it has the same root and seed.
        """
        place = database_url(url)
        if not found(place, info, root, components, placement or chosen(place)):
            with Store.open(url, read_only=True) as there:
                check_same(place, (info, root), (there.info, there.root()), exist_ok=exist_ok)
        return Store.open(url, busy_seconds=busy_seconds)

    @staticmethod
    def open(url: str | None = None, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> "Store":
        """Open a system. `url` as for `database_url`.

        Raises UserError when there is none, when it is not ours or damaged, when its schema is older or newer than
        this program's, and, unless `read_only`, when it cannot be written.
        """
        place = database_url(url)
        migrate.check_revision(place, revision(place))
        store = Store(place, read_only=read_only, busy_seconds=busy_seconds)
        try:
            store.info  # noqa: B018
            if not read_only:
                with store.writing():
                    pass
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The system and its tasks

    @property
    def info(self) -> SystemInfo:
        if self._info is None:
            with self.reading() as connection:
                self._info = catalog.load_system(connection)[0]
        return self._info

    def add_task(self, task: Task) -> None:
        """Keep a task. The same one again changes nothing; another one of the same name raises Conflict."""
        with self.writing() as connection:
            catalog.add_task(connection, task)

    def tasks(self, *, removed: bool = False) -> tuple[Task, ...]:
        """The tasks in order of arrival; `removed`: also those that only lineage knows still."""
        with self.reading() as connection:
            return catalog.load_tasks(connection, removed=removed)

    def task(self, name: str) -> Task:
        """The task called `name`; raises Unknown with the nearest name."""
        with self.reading() as connection:
            return catalog.load_task(connection, name)

    # Paths

    def root(self) -> Path:
        with self.reading() as connection:
            return self._root(connection)

    def _root(self, connection: Connection) -> Path:
        return paths.load_path(connection, catalog.load_system(connection)[1])

    def path(self, id_or_prefix: str) -> Path:
        """The path whose id begins so; raises Unknown when there is none or more than one."""
        with self.reading() as connection:
            (path,) = paths.load_paths(connection, PathRow.id == paths.full_id(connection, id_or_prefix))
            return path

    def paths(self, *, task: str | None = None) -> tuple[Path, ...]:
        """All paths (of one task, or of all with the root first), by their place in the runs."""
        with self.reading() as connection:
            where = None if task is None else PathRow.task_key == catalog.task_key(connection, task)
            return paths.load_paths(connection, where)

    def ancestors(self, path_id: str) -> tuple[Path, ...]:
        """The path itself first, the root last."""
        with self.reading() as connection:
            return lineage.ancestors(connection, paths.full_id(connection, path_id))

    def descendants(self, path_id: str) -> tuple[Path, ...]:
        """All paths that come from this one, without itself."""
        with self.reading() as connection:
            return lineage.descendants(connection, paths.full_id(connection, path_id))

    def best(self, task: str) -> Path | None:
        """The winner of the task's latest finished segment; None before there is one."""
        with self.reading() as connection:
            catalog.task_key(connection, task)
            key = runs.winners(connection, TaskRow.name == task).get(task)
            return None if key is None else paths.load_path(connection, key)

    def learnt(self) -> tuple[str, ...]:
        """The tasks that have a best path, in order of arrival."""
        with self.reading() as connection:
            return tuple(runs.winners(connection))

    def pool(self) -> Pool:
        """The root and every task's best path, in the order in which the tasks came."""
        with self.reading() as connection:
            winners = runs.winners(connection)
            return Pool(self._root(connection), paths.best_paths(connection, winners))

    # Weights

    def component(self, digest: str) -> Component:
        """A component with its arrays, checked against its digest; raises Damaged when they differ."""
        return self.components([digest])[digest]

    def components(self, digests: Iterable[str]) -> dict[str, Component]:
        """Components by digest, each checked against it."""
        with self.reading() as connection:
            return weights.read_components(connection, tuple(digests))

    def trace(self, digest: str) -> Arrays:
        """The optimizer's momentum that `Part.trace` names, checked against its digest."""
        with self.reading() as connection:
            return weights.read_arrays(connection, weights.TRACE, digest)

    # Runs

    def begin_run(
        self,
        config: Mapping[str, Any],
        segments: Sequence[str],
        *,
        new_tasks: Sequence[Task] = (),
        images: Sequence[TaskImages] = (),
    ) -> Run:
        """Keep `new_tasks` with the hashes of their `images`, and begin a run of one segment per name of `segments`.

        All of it or nothing. Raises Conflict when another run is not finished.
        """
        with self.changing() as connection:
            for task in new_tasks:
                catalog.add_task(connection, task)
            write_images(connection, images)
            tasks = [catalog.task_key(connection, name) for name in segments]
            return runs.load_run(connection, runs.begin(connection, config, tasks))

    def runs(self) -> tuple[Run, ...]:
        """All runs, oldest first."""
        with self.reading() as connection:
            return runs.load_runs(connection)

    def run(self, run_id: int) -> Run:
        with self.reading() as connection:
            return runs.load_run(connection, run_id)

    def unfinished_run(self) -> Run | None:
        """The run that `mutant resume` goes on with."""
        with self.reading() as connection:
            return next(iter(runs.load_runs(connection, RunRow.state == "open")), None)

    def plan_generation(self, segment: SegmentKey, generation: int, planned: Sequence[Planned]) -> None:
        """Write a generation's children as QUEUED; again with the same ones nothing changes, with others Conflict."""
        with self.changing() as connection:
            candidates.plan(connection, segment, generation, planned)

    def draw_candidate(self, segment: SegmentKey, generation: int, child: Planned, worker: str) -> None:
        """Write one child that `worker` begins to train, its first attempt. Needs the system's lease."""
        with self.changing() as connection:
            write_worker(connection, token := leases.token(self.lease), worker, None)
            candidates.draw(connection, segment, generation, child, token, worker)

    def candidates(self, segment: SegmentKey, generation: int | None = None) -> tuple[CandidateRecord, ...]:
        """The candidates of a segment, or of one of its generations, by (generation, child)."""
        with self.reading() as connection:
            return candidates.load_candidates(connection, segment, generation)

    def lease_candidate(
        self, segment: SegmentKey, generation: int, child: int, worker: str, seat: Seat | None = None
    ) -> int:
        """Note that `worker` begins to train a candidate, and its `seat`; the attempt's number. Needs the lease."""
        with self.changing() as connection:
            write_worker(connection, token := leases.token(self.lease), worker, seat)
            return candidates.lease(connection, segment, generation, child, token, worker)

    def lose_candidate(self, segment: SegmentKey, generation: int, child: int, attempt: int) -> None:
        """Note that the worker of an attempt was lost, so that its candidate waits for another."""
        with self.changing() as connection:
            candidates.lose(connection, segment, generation, child, attempt)

    def tallies(self) -> dict[SegmentKey, tally.Tally]:
        """What became of the candidates of every segment that has any, counted."""
        with self.reading() as connection:
            return tally.tallies(connection)

    def last_failures(self, most: int) -> tuple[tally.Failure, ...]:
        """The latest candidates that could not be trained, oldest first."""
        with self.reading() as connection:
            return tally.last_failures(connection, most)

    def commit_outcome(
        self, segment: SegmentKey, generation: int, child: int, outcome: Outcome, **told: int | None
    ) -> Span:
        """Write all that came of a candidate, again: nothing; when. `told`, Conflict, Late: `candidates.commit`."""
        began, new = Beginning.now(), births.shipped(self.depot, outcome)
        with self.changing() as connection:
            candidates.commit(connection, segment, generation, child, outcome, new, **told)
            write_commit(connection, self._committed)
        self._committed = Commit(ChildPlace(segment, generation, child), began.until_now())
        return self._committed.span

    def training_seconds(self) -> dict[str, float]:
        """Seconds spent on training candidates, by task, of every task that has any."""
        with self.reading() as connection:
            return candidates.training_seconds(connection)

    def finish_segment(self, segment: SegmentKey, winner: str | None, golden: Golden | None) -> None:
        """Close a segment with its winner and the winner's golden outputs (both None when no path came of it).

        A path that wins again keeps its first golden outputs.
        """
        if (winner is None) != (golden is None):
            raise Conflict("A segment's winner and its golden outputs belong together.")
        blob = None if golden is None else facts.golden_blob(golden)
        weights.ship(self.depot, [] if blob is None else [blob])
        with self.changing() as connection:
            runs.finish_segment(connection, segment, winner)
            write_commit(connection, self._committed)
            if winner is not None and golden is not None and blob is not None:
                facts.write_golden(connection, winner, golden, blob)

    def change_run(self, run_id: int, config: Mapping[str, Any], change: Mapping[str, Any]) -> Run:
        """Give an open run other settings, with an event that tells the `change`."""
        with self.changing() as connection:
            runs.change(connection, run_id, config)
            facts.write_event(connection, run_id, "settings changed", change)
            return runs.load_run(connection, run_id)

    def finish_run(self, run_id: int) -> None:
        """Close a run all of whose segments are finished."""
        with self.changing() as connection:
            runs.end(connection, run_id, "finished")

    def abandon_run(self, run_id: int) -> None:
        """Give an unfinished run up: its rows stay, and another run can begin."""
        with self.changing() as connection:
            runs.end(connection, run_id, "abandoned")

    def holder(self) -> leases.Lease | None:
        """Who holds the system's lease; None when nobody does."""
        with self.reading() as connection:
            return leases.holder(connection)

    def give_lease_back(self) -> None:
        with self.changing() as connection:
            leases.give_back(connection)

    def record_event(self, run_id: int | None, kind: str, data: Mapping[str, Any]) -> None:
        with self.writing() as connection:
            facts.write_event(connection, run_id, kind, data)

    def events(self, run_id: int | None = None, kind: str | None = None) -> tuple[Event, ...]:
        """Events of one run, or all, oldest first; of one kind, or all."""
        with self.reading() as connection:
            return facts.load_events(connection, run_id, kind)

    # Facts found later

    def record_evaluation(self, evaluation: Evaluation) -> None:
        """Keep an accuracy; measured again on the same data it takes the earlier one's place."""
        with self.writing() as connection:
            facts.write_evaluation(connection, evaluation)

    def evaluations(self, task: str | None = None) -> tuple[Evaluation, ...]:
        """Evaluations on one task, or all, oldest first."""
        with self.reading() as connection:
            return facts.load_evaluations(connection, task)

    def record_baseline(self, baseline: Baseline) -> None:
        """Keep a baseline; trained again it takes the place of the earlier one of the same task and name."""
        with self.writing() as connection:
            facts.write_baseline(connection, baseline)

    def baselines(self, task: str | None = None) -> tuple[Baseline, ...]:
        """Baselines of one task, or all in the order of the tasks."""
        with self.reading() as connection:
            return facts.load_baselines(connection, task)

    def golden(self, path_id: str) -> Golden | None:
        """A path's stored outputs, checked against their digest; None for a path that never won."""
        with self.reading() as connection:
            return facts.load_golden(connection, path_id)
