"""What is found out about paths later: golden outputs, accuracies, baselines, and the log of events."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mutant.storage import weights
from mutant.storage.catalog import task_key
from mutant.storage.checks import checked
from mutant.storage.costs import cost_of
from mutant.storage.faults import decoding
from mutant.storage.paths import path_key
from mutant.storage.records import Baseline, Evaluation, Event, Golden, now
from mutant.storage.schema import BaselineRow, EvaluationRow, EventRow, GoldenRow, PathRow, TaskRow
from mutant.storage.weights import Blob


def golden_blob(golden: Golden) -> Blob:
    return weights.arrays_blob(weights.GOLDEN, {"images": golden.images, "logits": golden.logits})


def write_golden(connection: Connection, path: str, golden: Golden, blob: Blob) -> None:
    """Keep a path's outputs. The first ones stay: they are what later ones are compared with."""
    key = path_key(connection, path)
    there = connection.scalar(select(GoldenRow.digest).where(GoldenRow.path_key == key))
    if there in (None, blob.digest):  # the row may be there without its weights: they can have been collected
        weights.put(connection, [blob])
    if there is not None:
        return
    row = insert(GoldenRow).values(
        path_key=key,
        digest=blob.digest,
        backend=golden.backend,
        versions=dict(golden.versions),
        batch_shape=list(golden.batch_shape),
        created_at=now(),
    )
    connection.execute(row)


@decoding()
def load_golden(connection: Connection, path: str) -> Golden | None:
    query = select(GoldenRow.__table__).join(PathRow, PathRow.key == GoldenRow.path_key).where(PathRow.id == path)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    arrays = weights.read_arrays(connection, weights.GOLDEN, row.digest)
    return checked(Golden(arrays["images"], arrays["logits"], row.backend, row.versions, tuple(row.batch_shape)))


def write_evaluation(connection: Connection, evaluation: Evaluation) -> None:
    """Keep an accuracy; measured again on the same data it takes the earlier one's place."""
    path, task = path_key(connection, evaluation.path), task_key(connection, evaluation.task)
    values: dict[str, Any] = {
        "path_key": path,
        "task_key": task,
        "split": evaluation.split,
        "fingerprint": evaluation.fingerprint,
    }
    connection.execute(delete(EvaluationRow).filter_by(**values))
    values |= {"accuracy": evaluation.accuracy, "examples": evaluation.examples, "at": evaluation.at}
    connection.execute(insert(EvaluationRow).values(values))


@decoding()
def load_evaluations(connection: Connection, task: str | None = None) -> tuple[Evaluation, ...]:
    """Evaluations, oldest first."""
    row = EvaluationRow
    query = (
        select(PathRow.id, TaskRow.name, row.split, row.accuracy, row.examples, row.fingerprint, row.at)
        .join(PathRow, PathRow.key == row.path_key)
        .join(TaskRow, TaskRow.key == row.task_key)
        .order_by(row.key)
    )
    if task is not None:
        query = query.where(row.task_key == task_key(connection, task))
    return tuple(checked(Evaluation(*found)) for found in connection.execute(query))


def write_baseline(connection: Connection, baseline: Baseline) -> None:
    """Keep a baseline; trained again it takes the place of the earlier one of the same task and name."""
    task = task_key(connection, baseline.task)
    connection.execute(delete(BaselineRow).filter_by(task_key=task, name=baseline.name))
    row = insert(BaselineRow).values(
        task_key=task,
        name=baseline.name,
        validation_accuracy=baseline.validation_accuracy,
        test_accuracy=baseline.test_accuracy,
        n_parameters=baseline.n_parameters,
        hyperparameters=dict(baseline.hyperparameters),
        **asdict(baseline.cost),
        at=baseline.at,
    )
    connection.execute(row)


@decoding()
def load_baselines(connection: Connection, task: str | None = None) -> tuple[Baseline, ...]:
    """Baselines in the order of the tasks, then by name."""
    query = select(TaskRow.name.label("task"), TaskRow.position, BaselineRow.__table__).join(
        TaskRow, TaskRow.key == BaselineRow.task_key
    )
    if task is not None:
        query = query.where(BaselineRow.task_key == task_key(connection, task))
    rows = sorted(connection.execute(query), key=lambda row: (row.position, row.name))
    return tuple(
        checked(
            Baseline(
                name=row.name,
                task=row.task,
                validation_accuracy=row.validation_accuracy,
                test_accuracy=row.test_accuracy,
                n_parameters=row.n_parameters,
                hyperparameters=row.hyperparameters,
                cost=cost_of(row),
                at=row.at,
            )
        )
        for row in rows
    )


def write_event(connection: Connection, run: int | None, kind: str, data: Mapping[str, Any]) -> None:
    connection.execute(insert(EventRow).values(run=run, kind=kind, data=dict(data), at=now()))


@decoding()
def load_events(connection: Connection, run: int | None = None, kind: str | None = None) -> tuple[Event, ...]:
    """Events, oldest first: of one run, or all; of one kind, or all."""
    query = select(EventRow.id, EventRow.run, EventRow.kind, EventRow.data, EventRow.at).order_by(EventRow.id)
    if run is not None:
        query = query.where(EventRow.run == run)
    if kind is not None:
        query = query.where(EventRow.kind == kind)
    return tuple(checked(Event(*row)) for row in connection.execute(query))
