"""A path's answers with the back end whose bits they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutant.component import Component
from mutant.path import Path

Images = np.ndarray[Any, np.dtype[np.uint8]]
Logits = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits float32 [n, classes], and what decides their last bit: back end, library versions, shape of a batch."""

    logits: Logits
    backend: str
    versions: Mapping[str, str]
    batch_shape: tuple[int, ...]


def answer(path: Path, components: Mapping[str, Component], images: Images) -> Answers:
    """Answers of a path to prepared images uint8 [n, S, S, 3]; JAX is imported here and not before."""
    from mutant import backend
    from mutant.network import BATCH, predict_logits

    logits = predict_logits(path, components, images)
    return Answers(logits, backend.describe(), backend.versions(), (BATCH, *images.shape[1:]))
