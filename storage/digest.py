"""The digest of what a database means: equal for two runs of the same settings, however they were interrupted.

It covers the bytes of all weights, wherever they lie, and every row but the log of events, the leases, the keys to the
server and what which worker did when, and in the rows everything but times, costs in seconds, compilations, the wording
of failures, the room that collected weights took, and the order of arrival (the numbers of rows inside the database),
but for the order that a run without generations was drawn by.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from mutant.hyperparameters import Hyperparameters
from mutant.mutation import to_dict
from mutant.outcome import Cost
from mutant.path import Path
from mutant.storage import catalog, facts, runs, weights
from mutant.storage.candidates import load_candidates
from mutant.storage.faults import decoding
from mutant.storage.jsons import canonical
from mutant.storage.paths import load_paths
from mutant.storage.records import CandidateRecord, Run
from mutant.storage.schema import (
    CollectedRow,
    ComponentRow,
    GoldenRow,
    ImagesRow,
    PathRow,
    TaskRow,
    TraceRow,
    WeightsRow,
)
from mutant.storage.store import Store

LATER = ("trained_blocks", "optimizer")
"""Hyperparameters that came after the first version, with what all paths before them had as the default."""


def digest(store: Store) -> str:
    """SHA-256 (hex) of the meaning of all rows and weights."""
    sha = hashlib.sha256()
    with store.reading() as connection, decoding():  # it is nothing but values of rows
        for row in _rows(connection):
            sha.update(canonical(row).encode())
            sha.update(b"\n")
    return sha.hexdigest()


def _rows(connection: Connection) -> Iterator[list[Any]]:
    """Every row's meaning, in an order that does not depend on when the rows came."""
    info, root_key = catalog.load_system(connection)
    all_runs, all_paths = runs.load_runs(connection), load_paths(connection)
    root = connection.scalar(select(PathRow.id).where(PathRow.key == root_key))
    yield ["system", {k: v for k, v in asdict(info).items() if k != "created_at"}, root]
    tasks = select(TaskRow.position, TaskRow.name, TaskRow.uri, TaskRow.fingerprint, TaskRow.data)
    yield from (["task", *task] for task in connection.execute(tasks.order_by(TaskRow.position)))
    removed = select(TaskRow.name).where(TaskRow.removed_at.is_not(None)).order_by(TaskRow.position)
    yield from (["removed", name] for name in connection.scalars(removed))
    images = select(TaskRow.name, ImagesRow.split, ImagesRow.content, ImagesRow.looks)
    images = images.join(ImagesRow, ImagesRow.task_key == TaskRow.key).order_by(TaskRow.position, ImagesRow.split)
    for name, split, *hashes in connection.execute(images):
        yield ["images", name, split, *(hashlib.sha256(blob).hexdigest() for blob in hashes)]
    yield from (_run(run) for run in all_runs)
    for run in all_runs:
        for segment in run.segments:
            yield from (_candidate(record) for record in load_candidates(connection, segment.key))
    yield from (_path(path) for path in sorted(all_paths, key=lambda path: path.id))
    yield from _facts(connection)
    yield from _content(connection)


def _run(run: Run) -> list[Any]:
    segments = [[s.index, s.task, s.visit, s.state, s.winner] for s in run.segments]
    return ["run", run.id, run.config, run.state, segments]


def _candidate(record: CandidateRecord) -> list[Any]:
    place = [record.segment.run, record.segment.index, record.generation, record.child]
    plan = record.planned
    planned: list[Any] = [_settings(record.hyperparameters), plan.probabilities, plan.pool_version]
    planned += [] if plan.predicted_flops is None else [plan.predicted_flops]  # none in systems of older versions
    planned += [] if plan.known is None else [{"known": plan.known}]  # nor in a run by generations
    state = "QUEUED" if record.is_open else record.state
    outcome: list[Any] = [state, record.path, record.validations, record.failure, _cost(record.cost)]
    outcome += [] if record.arrival is None else [{"arrival": record.arrival}]
    return ["candidate", place, record.candidate.id, planned, outcome]


def _path(path: Path) -> list[Any]:
    parts = [[p.slot, p.digest, p.depth, p.trained_by, p.task, p.trace] for p in path.parts]
    mutations = [to_dict(mutation) for mutation in path.mutations]
    settings = [_settings(path.hyperparameters), path.probabilities]
    return ["path", path.id, path.task, path.parent, parts, mutations, settings, path.quality, path.flops]


def _settings(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Hyperparameters; of those that older versions did not know only what differs from what they all had."""
    return _known(hyperparameters.to_dict())


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a mapping of hyperparameters by name."""
    usual = Hyperparameters().to_dict()
    return {name: value for name, value in settings.items() if name not in LATER or value != usual[name]}


def _facts(connection: Connection) -> Iterator[list[Any]]:
    row = GoldenRow
    goldens = select(PathRow.id, row.digest, row.backend, row.versions, row.batch_shape)
    goldens = goldens.join(PathRow, PathRow.key == row.path_key).order_by(PathRow.id)
    yield from (["golden", *golden] for golden in connection.execute(goldens))
    evaluations = (
        [e.path, e.task, e.split, e.fingerprint, e.accuracy, e.examples] for e in facts.load_evaluations(connection)
    )
    yield from (["evaluation", *evaluation] for evaluation in sorted(evaluations))
    for b in facts.load_baselines(connection):
        accuracies = [b.validation_accuracy, b.test_accuracy]
        yield ["baseline", b.task, b.name, accuracies, b.n_parameters, _known(b.hyperparameters), _cost(b.cost)]


def _content(connection: Connection) -> Iterator[list[Any]]:
    versions = select(PathRow.id, PathRow.version).order_by(PathRow.id)
    row = ComponentRow
    components = select(row.digest, row.spec, row.n_parameters, row.n_bytes).order_by(row.digest)
    traces = select(TraceRow.digest).order_by(TraceRow.digest)
    gone = select(CollectedRow.digest).order_by(CollectedRow.digest)
    for subject, query in (("version", versions), ("component", components), ("trace", traces), ("collected", gone)):
        yield from ([subject, *found] for found in connection.execute(query))
    stored = select(WeightsRow.digest, WeightsRow.n_bytes, WeightsRow.data).order_by(WeightsRow.digest)
    for weight in weights.rows(connection, stored):
        yield ["weights", weight.digest, weight.n_bytes, hashlib.sha256(weight.read()).hexdigest()]


def _cost(cost: Cost) -> dict[str, Any]:
    """The parts of a cost that do not depend on the machine and on what its caches held."""
    return {"examples": cost.examples, "flops": cost.flops}
