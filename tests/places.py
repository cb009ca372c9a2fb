"""A new database's name that also says where the weights of a system in it are to lie."""

from pathlib import Path
from typing import Any, Self

from mutant.storage.blobs.placement import Placement, chosen
from mutant.storage.ownership import MARK
from mutant.storage.url import database_url


class Place(str):
    """A database's name; a system that tests make in it has this placement."""

    options: dict[str, Any]

    def __new__(cls, name: str, *, blobs: Path | str | None = None, inline_limit: int | str | None = None) -> Self:
        place = super().__new__(cls, name)
        place.options = {"blobs": blobs, "inline_limit": inline_limit}
        return place


def beside(directory: Path) -> Place:
    """A database in `directory` all of whose weights lie in its directory `blobs`."""
    return Place(str(directory / "mutant.db"), blobs=directory / "blobs", inline_limit=0)


def blob_files(directory: Path) -> dict[str, Path]:
    """The files of blobs below a store's directory, by name, without the mark of whose they are."""
    return {path.name: path for path in directory.glob("*/*/*") if path.name != MARK}


def placement(name: str) -> Placement:
    return chosen(database_url(name), **(name.options if isinstance(name, Place) else {}))
