"""mutant: a multitask model that grows one task at a time (muNet, arXiv 2205.10937; µ2Net, arXiv 2205.12755).

The public API is exported lazily: importing this package imports no JAX, no database and no Ray.

>>> sorted(__all__)[:3]
['Engine', 'GenerationFinished', 'Mutation']
"""

import importlib
from typing import TYPE_CHECKING, Any

from mutant import backend

backend.prepare()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mutant.mutation import Mutation
    from mutant.path import Path
    from mutant.pool import accounted_parameters
    from mutant.roots import registry as root_registry
    from mutant.search.config import Settings, read_settings
    from mutant.search.growth import Engine
    from mutant.search.plot import plot_model, plot_quality
    from mutant.search.progress import GenerationFinished
    from mutant.search.system import System, TaskSummary, create, open_system
    from mutant.tasks.errors import UserError
    from mutant.tasks.load import load as load_task
    from mutant.tasks.samples import catalogue as samples
    from mutant.tasks.task import Task

_EXPORTS = {
    "Engine": "mutant.search.growth:Engine",
    "GenerationFinished": "mutant.search.progress:GenerationFinished",
    "Mutation": "mutant.mutation:Mutation",
    "Path": "mutant.path:Path",
    "Settings": "mutant.search.config:Settings",
    "System": "mutant.search.system:System",
    "Task": "mutant.tasks.task:Task",
    "TaskSummary": "mutant.search.system:TaskSummary",
    "UserError": "mutant.tasks.errors:UserError",
    "accounted_parameters": "mutant.pool:accounted_parameters",
    "create": "mutant.search.system:create",
    "load_task": "mutant.tasks.load:load",
    "open_system": "mutant.search.system:open_system",
    "plot_model": "mutant.search.plot:plot_model",
    "plot_quality": "mutant.search.plot:plot_quality",
    "read_settings": "mutant.search.config:read_settings",
    "root_registry": "mutant.roots:registry",
    "samples": "mutant.tasks.samples:catalogue",
}

__all__ = [
    "Engine",
    "GenerationFinished",
    "Mutation",
    "Path",
    "Settings",
    "System",
    "Task",
    "TaskSummary",
    "UserError",
    "accounted_parameters",
    "create",
    "load_task",
    "open_system",
    "plot_model",
    "plot_quality",
    "read_settings",
    "root_registry",
    "samples",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mutant' has no attribute {name!r}")
    module, _, attribute = _EXPORTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
