"""The proof that nothing was forgotten: hashes and golden outputs, computed again and compared to the bit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from sqlalchemy import select

from mutant.component import Component
from mutant.path import Path
from mutant.storage import weights
from mutant.storage.collection import collected
from mutant.storage.faults import DECODING
from mutant.storage.records import Golden
from mutant.storage.refusals import BlobDamaged, Damaged
from mutant.storage.schema import CollectedRow, ComponentRow, PathRow
from mutant.storage.store import Store

Forward = Callable[[Path, Mapping[str, Component], np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Logits float32 [n, classes] of a path, its components by digest, and images uint8 [n, S, S, 3]."""
Verdict = Literal["identical", "different", "not comparable"]


@dataclass(frozen=True)
class DamagedComponent:
    """A component that is not what its digest says: `reason` is `missing`, `torn`, `unreadable` or `changed`."""

    digest: str
    reason: str
    spec: str = ""


@dataclass(frozen=True)
class TaskReport:
    """What became of a task. `component` is the first of its path that is damaged, as `slot: kind (reason)`.

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
    are known by their lineage alone.
    """

    tasks: tuple[TaskReport, ...]
    components_checked: int
    damaged: tuple[DamagedComponent, ...]
    components_collected: int = 0
    paths_collected: int = 0

    @property
    def ok(self) -> bool:
        """Whether no task and no component differs; what cannot be compared here is no difference."""
        return not self.damaged and all(task.verdict != "different" for task in self.tasks)


def verify(
    store: Store,
    forward: Forward,
    *,
    tasks: Sequence[str] | None = None,
    everything: bool = False,
    backend: str | None = None,
) -> Report:
    """Recompute the hashes of the components that the tasks' best paths use, and the tasks' golden outputs.

    `tasks` None means all; `everything` adds every stored component, those of paths that lost as well. `backend` names
    the one that `forward` runs on, as in `Golden.backend` (None: taken to be the golden outputs' own). Raises UserError
    for an unknown task.
    """
    names = [task.name for task in store.tasks()] if tasks is None else list(dict.fromkeys(tasks))
    checker = _Checker(store)
    reports = [_check_task(store, name, forward, checker, backend) for name in names]
    checker.check(part.digest for part in store.root().parts)
    if everything:
        with store.reading() as connection:
            gone = select(CollectedRow.digest).where(CollectedRow.digest == ComponentRow.digest).exists()
            every = list(connection.scalars(select(ComponentRow.digest).where(~gone).order_by(ComponentRow.key)))
        checker.check(every)
    with store.reading() as connection:
        components, paths = collected(connection)
    return Report(tuple(reports), len(checker.checked), tuple(checker.damaged.values()), components, paths)


class _Checker:
    """Reads components without trusting them; holds those of one path at a time, and remembers which were checked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Component] = {}
        self.checked: set[str] = set()
        self.damaged: dict[str, DamagedComponent] = {}

    def components(self, path: Path) -> dict[str, Component]:
        """The path's components as they are stored, damaged or not; those that cannot be read are left out."""
        wanted = list(dict.fromkeys(part.digest for part in path.parts))
        held = {digest: self._held[digest] for digest in wanted if digest in self._held}
        self._held = held | self._read([digest for digest in wanted if digest not in held])
        return self._held

    def check(self, digests: Iterable[str]) -> None:
        """Check components that were not checked yet, without holding them."""
        todo = [digest for digest in dict.fromkeys(digests) if digest not in self.checked]
        for start in range(0, len(todo), 16):
            self._read(todo[start : start + 16])

    def _read(self, digests: Sequence[str]) -> dict[str, Component]:
        found: dict[str, Component] = {}
        with self._store.reading() as connection:
            kinds = weights.specs(connection, digests)
            for row in weights.stored(connection, digests):
                digest = row.digest
                try:
                    found[digest] = Component(kinds[digest], weights.decode(row.read()))
                except BlobDamaged as error:
                    self._blame(digest, error.reason, str(kinds.get(digest, "")))
                    continue
                except DECODING as error:
                    self._blame(digest, f"unreadable: {error}", str(kinds.get(digest, "")))
                    continue
                if found[digest].digest != digest:
                    self._blame(digest, "changed", str(kinds[digest]))
        for digest in digests:
            if digest not in found and digest not in self.damaged:
                self._blame(digest, "missing", str(kinds.get(digest, "")))
        self.checked.update(digests)
        return found

    def _blame(self, digest: str, reason: str, spec: str) -> None:
        self.damaged[digest] = DamagedComponent(digest, reason, spec)


def _check_task(store: Store, name: str, forward: Forward, checker: _Checker, backend: str | None) -> TaskReport:
    path = store.best(name)
    if path is None:
        return TaskReport(name, "not comparable", reason="no segment of the task is finished yet")
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
    if golden is None:
        verdict: Verdict = "not comparable" if first is None else "different"
        return replace(report, verdict=verdict, reason="the path has no golden outputs")
    if any(part.digest not in components for part in path.parts):
        return replace(report, values=golden.logits.size, reason="a component cannot be read")
    try:
        logits = forward(path, components, golden.images)
    except Exception as error:  # its components are whole, but they do not make a network any more
        return replace(
            report, verdict="different", reason=f"its outputs cannot be computed: {type(error).__name__}: {error}"
        )
    return _judged(report, golden, logits, backend)


def _version(store: Store, path: Path) -> str | None:
    with store.reading() as connection:
        return connection.scalar(select(PathRow.version).where(PathRow.id == path.id))


def _judged(report: TaskReport, golden: Golden, logits: np.ndarray[Any, Any], backend: str | None) -> TaskReport:
    """The report with its verdict on `logits`; `report.component` says whether the path's weights are as they were."""
    report = replace(report, values=golden.logits.size)
    elsewhere = _elsewhere(golden, backend) if report.component is None else ""
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
    if elsewhere:
        return replace(report, verdict="not comparable", reason=elsewhere)
    why = (
        "a component has changed"
        if report.component
        else "every component is as it was, but the program computes otherwise"
    )
    return replace(report, reason=why)


def _bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values).view(np.uint32)


def _elsewhere(golden: Golden, backend: str | None) -> str:
    """What differs between here and where the golden outputs were made; empty when nothing does."""
    differences: list[str] = []
    if backend is not None and backend != golden.backend:
        differences.append(f"the back end was {golden.backend}, here it is {backend}")
    for package, then in sorted(golden.versions.items()):
        here = _installed(package)
        if here != then:
            differences.append(f"{package} was {then}, here it is {here or 'missing'}")
    return "; ".join(differences)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
