"""Files that installed packages carry, found without importing the packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from mutant.tasks.errors import UserError, missing_extra

EXTRA = "samples"


def package_directory(module: str, distribution: str) -> Path:
    """The directory of the package `module`; raises MissingExtra when its distribution is not installed."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise missing_extra(distribution, EXTRA)
    return Path(next(iter(found.submodule_search_locations)))


def package_file(module: str, distribution: str, path: str) -> Path:
    """The file `path` in the package `module`; raises MissingExtra, or UserError when the package has no such file."""
    file = package_directory(module, distribution) / path
    if not file.is_file():
        raise UserError(
            f"{version(distribution)} does not carry '{path}'.", hint="Install another version of the package."
        )
    return file


def installed(module: str) -> bool:
    """Whether the package can be found."""
    return importlib.util.find_spec(module) is not None


def version(distribution: str) -> str:
    """The distribution and its version, for example `mlxtend 0.25.0`."""
    try:
        return f"{distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return distribution
