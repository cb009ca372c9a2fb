"""A witness from outside: scikit-learn's logistic regression on what the frozen root gives for an image."""

import importlib
import time
from collections.abc import Sequence
from typing import Any

from mutant.search.bench.features import features_of
from mutant.search.system import System
from mutant.storage.results import TaskResult
from mutant.tasks.errors import missing_extra
from mutant.tasks.load import LoadedTask

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the penalty, C, of which the validation split chooses one."""


def logistic_results(system: System, tasks: Sequence[LoadedTask], repeat: int) -> list[TaskResult]:
    """One regression for each task on standardized features. Raises `MissingExtra` without scikit-learn.

    It has no randomness, so that every repeat is the same.
    """
    try:
        module: Any = importlib.import_module("sklearn.linear_model")
    except ImportError:
        raise missing_extra("sklearn", "samples") from None
    root, found = system.store.root(), list[TaskResult]()
    for place, loaded in enumerate(tasks):
        began = time.monotonic()
        features = features_of(system, loaded)
        mean, spread = features["train"].mean(0), features["train"].std(0) + 1e-6
        x = {name: (rows - mean) / spread for name, rows in features.items()}
        fits: list[tuple[float, float, Any]] = []
        for strength in STRENGTHS:
            fit: Any = module.LogisticRegression(C=strength, max_iter=300).fit(x["train"], loaded.train.labels)
            fits.append((float(fit.score(x["validation"], loaded.validation.labels)), -strength, fit))
        validated, strength, fit = max(fits, key=lambda one: one[:2])
        classes = len(loaded.task.class_names)
        head = (features["train"].shape[1] + 1) * classes
        seconds = time.monotonic() - began
        found.append(
            TaskResult(
                method="logistic",
                repeat=repeat,
                task=loaded.task.name,
                place=place,
                validation_accuracy=validated,
                test_accuracy=float(fit.score(x["test"], loaded.test.labels)),
                test_examples=len(loaded.test),
                accounted_parameters=root.n_parameters / len(tasks) + head,
                n_parameters=root.n_parameters + head,
                flops_per_example=root.flops,
                children=len(STRENGTHS),
                failed=0,
                examples=0,
                flops=0.0,
                device_seconds=seconds,
                seconds=seconds,
                path=root.id,
                hyperparameters={"C": -strength},
            )
        )
    return found
