"""What the frozen root gives for the images of a task."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mutant.answers import answer
from mutant.search.system import System
from mutant.tasks.load import LoadedTask
from mutant.tasks.task import SPLIT_NAMES

Rows = np.ndarray[Any, np.dtype[np.float32]]


def features_of(system: System, loaded: LoadedTask) -> Mapping[str, Rows]:
    """The root's output below a head, float32 [n, features], for each split."""
    root = system.store.root()
    components = system.store.components(part.digest for part in root.parts)
    size = root.hyperparameters.image_size
    return {name: answer(root, components, loaded.split(name).images(size)).logits for name in SPLIT_NAMES}
