"""A task's path as a directory that is complete by itself: weights, configuration and model card."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from safetensors import SafetensorError

from mutant.component import Component, Spec
from mutant.hyperparameters import Hyperparameters
from mutant.mutation import from_dict, to_dict
from mutant.path import Part, Path
from mutant.storage import card, weights
from mutant.storage.faults import DECODING
from mutant.storage.jsons import canonical
from mutant.storage.records import SystemInfo
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.task import Task

FORMAT = 1
MODEL, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True)
class Exported:
    """What an exported directory holds: enough to predict, and where it came from (`lineage`: the path first)."""

    path: Path
    components: Mapping[str, Component]
    task: Task
    system: SystemInfo
    lineage: tuple[Mapping[str, Any], ...]

    def __hash__(self) -> int:
        return hash(self.path.id)


def export_task(store: Store, task: str, directory: FilePath) -> FilePath:
    """Write the task's best path to `directory`, whole or not at all; the directory.

    Raises UserError for an unknown task, one without a path, or a directory that is not empty.
    """
