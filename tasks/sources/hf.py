"""`hf:ORG/NAME`: a data set of the Hugging Face hub, or of a local directory, through the library `datasets`.

`?config=` and `?revision=` choose among its versions, `?image=` and `?label=` name columns when there are several.
Data sets that want to run code of their own are refused by the library.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import Reader, read_file
from mutant.tasks.errors import UserError, missing_extra, printable, unknown
from mutant.tasks.images import ImageError, decode
from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.slicing import canonical
from mutant.tasks.uri import TaskURI


@dataclass(frozen=True, eq=False)
class HfContent:
    """Images of the column `column` of a split, which the library maps from its files."""

    dataset: Any
    column: str
    positions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, index: int) -> str:
        return f"row {self.positions[index]}"

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        def read(index: int) -> NDArray[np.uint8]:
            value = self.dataset[int(self.positions[index])][self.column]
            if value is None or (value.get("bytes") is None and value.get("path") is None):
                raise ImageError("There is no image in this row.")
            data = value.get("bytes")
            return decode(data if data is not None else read_file(Path(value["path"]), limits), limits)

        yield read

    def take(self, indices: NDArray[np.int64]) -> HfContent:
        return HfContent(self.dataset, self.column, self.positions[indices])


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The data set's splits. Raises UserError, MissingExtra without the library."""
    datasets = _datasets()
    try:
        loaded = datasets.load_dataset(uri.target, uri.option("config"), revision=uri.option("revision"))
    except Exception as error:  # network, unknown name or config, scripts, ...
        first = printable(next(iter(str(error).splitlines()), "") or type(error).__name__)
        raise UserError(f"hf:{uri.target} cannot be loaded: {first}") from error
    names = sorted(loaded.keys())
    features = loaded[names[0]].features
    image = _column(uri, "image", features, datasets.Image)
    label = _column(uri, "label", features, datasets.ClassLabel)
    splits: list[RawSplit] = []
    missing = 0
    for name in names:
        dataset = loaded[name].cast_column(image, datasets.Image(decode=False))
        labels = np.array([-1 if value is None else int(value) for value in dataset[label]], dtype=np.int32)
        positions = np.flatnonzero(labels >= 0).astype(np.int64)
        missing += len(labels) - len(positions)
        splits.append(RawSplit(canonical(str(name)), HfContent(dataset, image, positions), labels[positions]))
    info = loaded[names[0]].info
    version = "@".join(part for part in (uri.target, uri.option("revision") or str(info.version or "")) if part)
    return RawTask(
        tuple(splits),
        tuple(printable(str(name)) for name in features[label].names),
        source_version=version,
        licence=str(info.license) if info.license else None,
        notes=(f"{missing:,} rows without a label were left out",) if missing else (),
    )


def _datasets() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("datasets", "hf") from error
    return datasets


def _column(uri: TaskURI, role: str, features: Any, kind: type) -> str:
    candidates = sorted(str(name) for name, feature in features.items() if isinstance(feature, kind))
    wanted = uri.option(role)
    if wanted is not None:
        if wanted not in candidates:
            raise unknown(f"{role} column", wanted, candidates)
        return wanted
    if role in candidates:
        return role
    if len(candidates) != 1:
        raise UserError(
            f"hf:{uri.target} has {len(candidates)} {role} columns: {', '.join(candidates) or 'none'}.",
            hint=f"Name one with ?{role}=" if candidates else "It is no image classification task.",
        )
    return candidates[0]
