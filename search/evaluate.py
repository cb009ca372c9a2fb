"""Accuracy on a split that the search never reads: the only place where a test split is used."""

from collections.abc import Mapping

import numpy as np

from mutant.component import Component
from mutant.path import Path
from mutant.search.evaluator import Evaluator
from mutant.storage.records import Evaluation
from mutant.tasks.load import LoadedTask


def evaluate(
    path: Path, components: Mapping[str, Component], loaded: LoadedTask, evaluator: Evaluator, *, split: str = "test"
) -> Evaluation:
    """Accuracy (0 to 1) of a path on one split of its task."""
    examples = loaded.split(split)
    answers = evaluator.answer(path, components, examples.images(path.hyperparameters.image_size))
    right = int((np.argmax(answers.logits, axis=-1) == examples.labels).sum())
    fingerprint = loaded.task.split(split).fingerprint
    return Evaluation(path.id, loaded.task.name, split, right / len(examples), len(examples), fingerprint)
