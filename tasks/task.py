"""A task: what is to be learnt, resolved and fingerprinted, without the images themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutant.tasks.errors import UserError

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One resolved split: its name, its number of examples, its content's fingerprint and where it came from."""

    name: str
    examples: int
    fingerprint: str
    origin: str


@dataclass(frozen=True)
class Task:
    """A labelled image set with train, validation and test splits and class names.

    The database keeps it, so that serving and predicting need no source. `fingerprint` is the SHA-256 over the decoded
    content, labels and class names of all splits: file names, encodings and directories do not enter it.
    """

    name: str
    uri: str
    class_names: tuple[str, ...]
    splits: tuple[Split, ...]
    fingerprint: str
    source_version: str | None = None
    licence: str | None = None
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> Split:
        """The split called `name`; raises UserError for an unknown one."""
        for split in self.splits:
            if split.name == name:
                return split
        raise UserError(f"Task '{self.name}' has no split '{name}'.", hint=f"Splits: {', '.join(SPLIT_NAMES)}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, read back by `from_json`."""
        return {
            "name": self.name,
            "uri": self.uri,
            "class_names": list(self.class_names),
            "splits": [
                {"name": s.name, "examples": s.examples, "fingerprint": s.fingerprint, "origin": s.origin}
                for s in self.splits
            ],
            "fingerprint": self.fingerprint,
            "source_version": self.source_version,
            "licence": self.licence,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The task written by `to_json`; raises UserError when a field is missing or misshapen."""
        try:
            return cls(
                name=str(value["name"]),
                uri=str(value["uri"]),
                class_names=tuple(str(name) for name in value["class_names"]),
                splits=tuple(
                    Split(str(s["name"]), int(s["examples"]), str(s["fingerprint"]), str(s["origin"]))
                    for s in value["splits"]
                ),
                fingerprint=str(value["fingerprint"]),
                source_version=_optional(value.get("source_version")),
                licence=_optional(value.get("licence")),
                notes=tuple(str(note) for note in value.get("notes", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"Not a stored task: {type(error).__name__}: {error}.") from error


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
