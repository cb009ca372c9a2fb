"""Predictions: encoded images in, class names with probabilities out, by the same code as training prepares with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mutant.component import Component
from mutant.path import Path
from mutant.tasks.images import decode
from mutant.tasks.limits import Limits
from mutant.tasks.preprocess import prepare
from mutant.tasks.task import Task


@dataclass(frozen=True)
class Label:
    """One class with its probability, 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first, and the version of the path that answered."""

    task: str
    labels: tuple[Label, ...]
    version: str


def predict(
    path: Path,
    components: Mapping[str, Component],
    task: Task,
    images: Sequence[bytes],
    *,
    top_k: int = 5,
    limits: Limits | None = None,
) -> tuple[Prediction, ...]:
    """Predictions for encoded images (PNG, JPEG, ...). Raises `ImageError` for one that cannot be decoded."""
    from mutant.network import predict_logits, probabilities

    size = path.hyperparameters.image_size
    prepared = np.stack([prepare(decode(data, limits or Limits()), size) for data in images])
    scores = probabilities(predict_logits(path, components, prepared))
    return tuple(Prediction(task.name, top(task, row, top_k), path.version) for row in scores)


def top(task: Task, row: np.ndarray[tuple[int], np.dtype[np.float32]], top_k: int) -> tuple[Label, ...]:
    """The `top_k` most probable classes of probabilities float32 [classes], best first."""
    order = np.argsort(-row, kind="stable")[:top_k]
    return tuple(Label(task.class_names[int(i)], float(row[int(i)])) for i in order)
