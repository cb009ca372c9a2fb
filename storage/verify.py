"""The proof that nothing was forgotten: hashes and golden outputs, computed again and compared to the bit."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, select

from mutant.component import Arrays, Component, Spec, content_digest
from mutant.path import Path
from mutant.storage import weights
from mutant.storage.collection import collected
from mutant.storage.faults import DECODING
from mutant.storage.records import Golden
from mutant.storage.refusals import BlobDamaged, Collected, Damaged
from mutant.storage.schema import CollectedRow, ComponentRow, GoldenRow, PartRow, PathRow, SegmentRow, TaskRow, TraceRow
from mutant.storage.store import Store

Forward = Callable[[Path, Mapping[str, Component], np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Logits float32 [n, classes] of a path, its components by digest, and images uint8 [n, S, S, 3]."""
Verdict = Literal["identical", "different", "not comparable"]


@dataclass(frozen=True)
class DamagedComponent:
    """A component that is not what its digest says: `reason` is `missing`, `torn`, `unreadable` or `changed`.

    A trace of the optimizer's momentum is told likewise; its `spec` is `trace()`.
    """

    digest: str
    reason: str
    spec: str = ""


@dataclass(frozen=True)
class TaskReport:
    """What became of a task's path. `component` is the first of the path that is damaged, as `slot: kind (reason)`.

    A path without golden outputs is `different`: none becomes a task's best without them, so they are lost.
    `differing` of `values` logits differ, by `largest_difference` at most (None where they could not be computed or
    are not finite).
    """

    task: str
    verdict: Verdict
    path: str | None = None
    reason: str = ""
    component: str | None = None
    values: int = 0
    differing: int = 0
    largest_difference: float | None = None


@dataclass(frozen=True)
class Report:
    """All that `verify` found.

    `components_collected` were dropped by `mutant gc` and are not damage; `paths_collected` lost, used one of them, and
    are known by their lineage alone. `earlier` and `traces_checked` come with `everything`: the paths with golden
    outputs that are no task's best any more, and the momentum that was kept.
    """

    tasks: tuple[TaskReport, ...]
    components_checked: int
    damaged: tuple[DamagedComponent, ...]
    components_collected: int = 0
    paths_collected: int = 0
    traces_checked: int = 0
    earlier: tuple[TaskReport, ...] = ()

    @property
    def paths(self) -> tuple[TaskReport, ...]:
        """Those of the tasks' best paths and the earlier ones."""
        return (*self.tasks, *self.earlier)

    @property
    def ok(self) -> bool:
        """Whether no path and no component differs; what cannot be compared here is no difference."""
        return not self.damaged and all(path.verdict != "different" for path in self.paths)


def verify(
    store: Store,
    forward: Forward,
    *,
    tasks: Sequence[str] | None = None,
    everything: bool = False,
    backend: str | None = None,
    batch: int | None = None,
) -> Report:
    """Recompute the hashes of the components that the tasks' best paths use, and the tasks' golden outputs.

    `tasks` None means all. `everything` adds all stored components, those of paths that lost as well, the momentum, and
    the golden outputs of all other paths that won a segment: an earlier one, or one of a task that was removed.
    (A path that won no segment never has any.) What was collected is left out. `backend` names the one that `forward`
    runs on, as in `Golden.backend`, and `batch` is how many images it computes at a time, as in `Golden.batch_shape`
    (None: taken to be the golden outputs' own). Raises UserError for an unknown task.
    """
    here = Here(backend, batch)
    names = [task.name for task in store.tasks()] if tasks is None else list(dict.fromkeys(tasks))
    checker = _Checker(store)
    reports = [_check_task(store, name, forward, checker, here) for name in names]
    checker.check(part.digest for part in store.root().parts)
    earlier: list[TaskReport] = []
    traces: list[str] = []
    if everything:
        others = _others_with_golden(store, {report.path for report in reports})
        earlier = [_check_path(store, name, store.path(id_), forward, checker, here) for name, id_ in others]
        checker.check(_stored(store, ComponentRow))
        traces = _stored(store, TraceRow)
        checker.check_traces(traces)
    with store.reading() as connection:
        components, paths = collected(connection)
    n_checked, damaged = len(checker.checked), tuple(checker.damaged.values())
    return Report(tuple(reports), n_checked, damaged, components, paths, len(traces), tuple(earlier))


def _stored(store: Store, row: type[ComponentRow] | type[TraceRow]) -> list[str]:
    """Digests of all components, or traces, that were not collected."""
    with store.reading() as connection:
        gone = select(CollectedRow.digest).where(CollectedRow.digest == row.digest).exists()
        return list(connection.scalars(select(row.digest).where(~gone).order_by(row.key)))


def _others_with_golden(store: Store, known: Collection[str | None]) -> list[tuple[str, str]]:
    """Task and id of the paths, but the `known` ones, that have golden outputs or must have had them (they won a
    segment), and whose golden outputs and components were not collected."""
    gone = select(CollectedRow.digest)
    lost = select(PartRow.path_key).join(ComponentRow, ComponentRow.key == PartRow.component_key)
    lost = lost.where(PartRow.path_key == PathRow.key, ComponentRow.digest.in_(gone))
    won = select(SegmentRow.run).where(SegmentRow.winner_key == PathRow.key, SegmentRow.state == "finished").exists()
    query = (
        select(TaskRow.name, PathRow.id)
        .outerjoin(GoldenRow, GoldenRow.path_key == PathRow.key)
        .join(TaskRow, TaskRow.key == PathRow.task_key)
        .where(GoldenRow.digest.is_not(None) | won)
        .where(GoldenRow.digest.is_(None) | GoldenRow.digest.not_in(gone), ~lost.exists())
        .order_by(PathRow.key)
    )
    with store.reading() as connection:
        return [(name, id_) for name, id_ in connection.execute(query) if id_ not in known]


class _Checker:
    """Reads components without trusting them; holds those of one path at a time, and remembers which were checked.

    What is missing because it was collected since it was named is no damage: it is told apart as `collected`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Component] = {}
        self.checked: set[str] = set()
        self.collected: set[str] = set()
        self.damaged: dict[str, DamagedComponent] = {}

    def components(self, path: Path) -> dict[str, Component]:
        """The path's components as they are stored, damaged or not; those that cannot be read are left out."""
        wanted = list(dict.fromkeys(part.digest for part in path.parts))
        held = {digest: self._held[digest] for digest in wanted if digest in self._held}
        self._held = held | self._read([digest for digest in wanted if digest not in held])
        return self._held

    def check(self, digests: Iterable[str]) -> None:
        """Check components that were not checked yet, without holding them."""
        for some in weights.chunks([digest for digest in dict.fromkeys(digests) if digest not in self.checked], 16):
            self._read(some)

    def check_traces(self, digests: Sequence[str]) -> None:
        for some in weights.chunks(digests, 16):
            with self._store.reading() as connection:
                for digest, trace in self._decoded(connection, some, dict.fromkeys(some, weights.TRACE)):
                    if content_digest(weights.TRACE, trace) != digest:
                        self._blame(digest, "changed", str(weights.TRACE))

    def _read(self, digests: Sequence[str]) -> dict[str, Component]:
        found: dict[str, Component] = {}
        with self._store.reading() as connection:
            kinds = weights.specs(connection, digests)
            for digest, arrays in self._decoded(connection, digests, kinds):
                if digest not in kinds:
                    self._blame(digest, "unreadable: no row says what it is", "")
                    continue
                found[digest] = Component(kinds[digest], arrays)
                if found[digest].digest != digest:
                    self._blame(digest, "changed", str(kinds[digest]))
        self.checked.update(digest for digest in digests if digest not in self.collected)
        return found

    def _decoded(
        self, connection: Connection, digests: Sequence[str], kinds: Mapping[str, Spec]
    ) -> Iterator[tuple[str, Arrays]]:
        """The arrays of each digest that can be read; the others are blamed."""
        found: set[str] = set()
        for row in weights.stored(connection, digests):
            found.add(row.digest)
            try:
                arrays = weights.decode(row.read())
            except BlobDamaged as error:
                if error.reason == "missing" and self._was_collected(row.digest):
                    continue
                self._blame(row.digest, error.reason, str(kinds.get(row.digest, "")))
            except DECODING as error:
                self._blame(row.digest, f"unreadable: {error}", str(kinds.get(row.digest, "")))
            else:
                yield row.digest, arrays
        lost = [digest for digest in digests if digest not in found]
        self.collected |= weights.collected(connection, lost)
        for digest in lost:
            if digest not in self.collected:
                self._blame(digest, "missing", str(kinds.get(digest, "")))

    def _was_collected(self, digest: str) -> bool:
        """By now: a blob goes after the rows that named it, which a transaction that had begun before still sees."""
        with self._store.reading() as now:
            self.collected |= weights.collected(now, [digest])
        return digest in self.collected

    def _blame(self, digest: str, reason: str, spec: str) -> None:
        self.damaged[digest] = DamagedComponent(digest, reason, spec)


@dataclass(frozen=True)
class Here:
    """What decides the last bit of an output here; None: what it was when the golden outputs were made."""

    backend: str | None
    batch: int | None


def _check_task(store: Store, name: str, forward: Forward, checker: _Checker, here: Here) -> TaskReport:
    path = store.best(name)
    if path is None:
        return TaskReport(name, "not comparable", reason="no segment of the task is finished yet")
    if path.task != name:
        return TaskReport(name, "different", path.id, reason=f"its best path belongs to the task '{path.task}'")
    report = _check_path(store, name, path, forward, checker, here)
    if checker.collected.isdisjoint(part.digest for part in path.parts):
        return report
    now = store.best(name)
    if now is None or now.id != path.id:  # another path has won meanwhile, and this one was collected
        return _check_task(store, name, forward, checker, here)
    return replace(report, verdict="different", reason="a component was collected, though its task needs it")


def _check_path(store: Store, name: str, path: Path, forward: Forward, checker: _Checker, here: Here) -> TaskReport:
    components = checker.components(path)
    first = next((part for part in path.parts if part.digest in checker.damaged), None)
    component = None if first is None else f"{first.slot}: {first.spec.kind} ({checker.damaged[first.digest].reason})"
    report = TaskReport(name, "different", path.id, component=component)
    if _version(store, path) != path.version:
        return replace(report, reason="the path's components are not the ones it was written with")
    try:
        golden = store.golden(path.id)
    except Damaged as error:
        return replace(report, reason=f"its golden outputs cannot be read: {error.message}")
    except Collected:
        verdict: Verdict = "not comparable" if first is None else "different"
        return replace(report, verdict=verdict, reason="its golden outputs were collected")
    if golden is None:
        return replace(report, reason="its golden outputs are missing")
    if any(part.digest in checker.collected for part in path.parts):
        verdict = "not comparable" if first is None else "different"
        return replace(report, verdict=verdict, reason="a component was collected meanwhile")
    if any(part.digest not in components for part in path.parts):
        return replace(report, values=golden.logits.size, reason="a component cannot be read")
    try:
        logits = forward(path, components, golden.images)
    except Exception as error:  # its components are whole, but they do not make a network any more
        return replace(
            report, verdict="different", reason=f"its outputs cannot be computed: {type(error).__name__}: {error}"
        )
    return _judged(report, golden, logits, here)


def _version(store: Store, path: Path) -> str | None:
    with store.reading() as connection:
        return connection.scalar(select(PathRow.version).where(PathRow.id == path.id))


def _judged(report: TaskReport, golden: Golden, logits: np.ndarray[Any, Any], here: Here) -> TaskReport:
    """The report with its verdict on `logits`; `report.component` says whether the path's weights are as they were."""
    report = replace(report, values=golden.logits.size)
    other = elsewhere(golden, here) if report.component is None else ""
    if logits.shape != golden.logits.shape or logits.dtype != golden.logits.dtype:
        shapes = f"outputs are {logits.dtype} {logits.shape}, and were {golden.logits.dtype} {golden.logits.shape}"
        return replace(report, reason=shapes)
    differing = int(np.count_nonzero(_bits(logits) != _bits(golden.logits)))
    if differing == 0:
        verdict: Verdict = "identical" if report.component is None else "different"
        reason = "" if report.component is None else "a component has changed, though not the outputs"
        return replace(report, verdict=verdict, reason=reason, largest_difference=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.max(np.abs(logits.astype(np.float64) - golden.logits.astype(np.float64))))
    known = largest if np.isfinite(largest) else None  # NaN is no JSON
    report = replace(report, differing=differing, largest_difference=known)
    if other:
        return replace(report, verdict="not comparable", reason=other)
    why = (
        "a component has changed"
        if report.component
        else "every component is as it was, but the program computes otherwise"
    )
    return replace(report, reason=why)


def _bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values).view(np.uint32)


def elsewhere(golden: Golden, here: Here) -> str:
    """What differs between here and where the golden outputs were made; empty when nothing does."""
    differences: list[str] = []
    if here.backend is not None and here.backend != golden.backend:
        differences.append(f"the back end was {golden.backend}, here it is {here.backend}")
    batch = golden.batch_shape[0] if golden.batch_shape else here.batch
    if here.batch is not None and here.batch != batch:
        differences.append(f"{batch} images were computed at a time, here it is {here.batch}")
    for package, then in sorted(golden.versions.items()):
        now = _installed(package)
        if now != then:
            differences.append(f"{package} was {then}, here it is {now or 'missing'}")
    return "; ".join(differences)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
