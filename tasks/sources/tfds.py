"""`tfds:NAME[/CONFIG][:VERSION]`: TensorFlow Datasets, read without TensorFlow. The only file that imports TFDS.

Data prepared as array_record is read in place, images as the encoded bytes that they are stored as. What is not there
yet is downloaded and prepared, for which some data sets need TensorFlow. `?data_dir=` names another directory than
TFDS's own; `?image=` and `?label=` name the features when the data set does not say which they are, or a label that
follows from others (`derived_labels.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import Reader
from mutant.tasks.errors import UserError, missing_extra, nearest, printable, unknown
from mutant.tasks.images import ImageError, decode
from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.slicing import canonical
from mutant.tasks.sources.derived_labels import LabelRule, brightness, derived_labels
from mutant.tasks.uri import TaskURI


@dataclass(frozen=True, eq=False)
class TfdsContent:
    """Images of a split of the data set prepared in `directory`, by their positions, their pixels times `factor`."""

    directory: str
    split: str
    feature: str
    positions: NDArray[np.int64]
    factor: int = 1

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, index: int) -> str:
        return f"{self.split}[{self.positions[index]}]"

    @contextmanager
    def reader(self, limits: Limits) -> Generator[Reader]:
        tfds = _tfds()
        stored = _Stored.of(tfds, tfds.builder_from_directory(self.directory), self.split, self.feature)

        def read(index: int) -> NDArray[np.uint8]:
            try:
                image = stored[int(self.positions[index])][self.feature]
            except (ValueError, KeyError, OSError, IndexError) as error:
                raise ImageError(f"Cannot be read: {error}.") from error
            if not isinstance(image, bytes):
                raise ImageError("There is no image.")
            pixels = decode(image, limits)
            return pixels if self.factor == 1 else np.minimum(pixels, 255 // self.factor) * np.uint8(self.factor)

        yield read

    def take(self, indices: NDArray[np.int64]) -> TfdsContent:
        return replace(self, positions=self.positions[indices])


@dataclass(frozen=True)
class Described:
    """What is known of a data set before examples are read; `sizes` of its splits: None where it is not prepared."""

    full_name: str
    image: str
    label: LabelRule
    sizes: Mapping[str, int] | None


def describe(uri: TaskURI) -> Described:
    """The data set by its files or else its code, nothing prepared or fetched.

    Raises UserError when there is none of the name, or no such feature; MissingExtra without tensorflow-datasets.
    """
    tfds = _tfds()
    with _quiet():
        builder = _builder(tfds, uri)
        prepared = bool(builder.is_prepared())
    image, label = _features(tfds, builder, uri)
    splits = {canonical(name): int(info.num_examples) for name, info in builder.info.splits.items()}
    return Described(str(builder.info.full_name), image, label, splits if prepared else None)


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The data set's splits; only labels are read. Raises UserError, MissingExtra without tensorflow-datasets."""
    tfds = _tfds()
    builder = _prepared(tfds, uri)
    image, label = _features(tfds, builder, uri)
    splits: list[RawSplit] = []
    missing = 0
    for name, info in sorted(builder.info.splits.items()):
        if info.num_examples:
            labels = _labels(tfds, builder, name, label)
            positions = np.flatnonzero(labels >= 0).astype(np.int64)
            missing += len(labels) - len(positions)
            content = TfdsContent(str(builder.data_path), name, image, positions, brightness(builder.info.name))
            splits.append(RawSplit(canonical(name), content, labels[positions]))
    licence = str(getattr(builder.info.redistribution_info, "license", "") or "") or None
    return RawTask(
        tuple(splits),
        label.names,
        source_version=str(builder.info.full_name),
        licence=licence,
        notes=(f"{missing:,} examples without a label were left out",) if missing else (),
    )


def _tfds() -> Any:
    try:
        import tensorflow_datasets as tfds  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise missing_extra("tensorflow-datasets", "tfds") from error
    return tfds


@contextmanager
def _quiet() -> Generator[None]:
    """TFDS does not warn of directories in which nothing is prepared."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _prepared(tfds: Any, uri: TaskURI) -> Any:
    """The builder of the data set, prepared now if it was not."""
    builder = _builder(tfds, uri)
    try:
        if not builder.is_prepared():
            builder.download_and_prepare()
    except ImportError as error:
        raise UserError(
            f"Preparing tfds:{uri.target} needs the package '{error.name}'.",
            hint="Install it once to prepare the data set (tensorflow-cpu for TensorFlow); reading needs it no more.",
        ) from error
    except Exception as error:  # network, disk, checksum, manual download, ...
        raise UserError(f"tfds:{uri.target} cannot be prepared: {_first_line(error)}") from error
    return builder


def _builder(tfds: Any, uri: TaskURI) -> Any:
    """The builder of the data set, from its files where they are."""
    options = {} if uri.option("data_dir") is None else {"data_dir": uri.option("data_dir")}
    from_files = tfds.core.read_only_builder.builder_from_files
    try:
        return from_files(uri.target, **options)
    except Exception:  # not on disk, or by its code only
        return _builder_from_code(tfds, uri, options)


def _builder_from_code(tfds: Any, uri: TaskURI, options: Mapping[str, Any]) -> Any:
    try:
        return tfds.builder(uri.target, file_format="array_record", **options)
    except tfds.core.registered.DatasetNotFoundError as error:
        best = nearest(uri.target.split(":")[0].split("/")[0], tfds.list_builders(with_community_datasets=False))
        hint = f"Nearest: 'tfds:{best}'." if best else "The TFDS catalogue lists all."
        raise UserError(f"TFDS has no data set '{uri.target}'.", hint=hint) from error
    except ImportError as error:
        raise UserError(f"tfds:{uri.target} needs the package '{error.name}'.") from error
    except Exception as error:  # unknown config, version or grammar, by assertions and ValueErrors
        raise UserError(f"tfds:{uri.target} cannot be opened: {_first_line(error)}") from error


def _features(tfds: Any, builder: Any, uri: TaskURI) -> tuple[str, LabelRule]:
    """The name of the image feature and the label: the URI's, the data set's own, or the only ones of their type."""
    features = dict(builder.info.features.items())
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    derived = derived_labels(builder.info.name)
    keys = builder.info.supervised_keys or ()
    supervised: dict[str, Any] = dict(zip(kinds, keys, strict=False))
    found: list[str] = []
    for role, kind in kinds.items():
        own = [name for name, feature in sorted(features.items()) if isinstance(feature, kind)]
        candidates = sorted({*own, *(derived if role == "label" else ())})
        wanted = uri.option(role)
        if wanted is not None:
            if wanted not in candidates:
                raise unknown(f"{role} feature", wanted, candidates)
            found.append(wanted)
        elif supervised.get(role) in own:
            found.append(str(supervised[role]))
        elif len(own) == 1:
            found.append(own[0])
        else:
            raise UserError(
                f"tfds:{uri.target} has {len(candidates)} {role} features: {', '.join(candidates) or 'none'}.",
                hint=f"Name one with ?{role}=" if candidates else "It is no image classification task.",
            )
    image, label = found
    return image, _own_label(features[label], label) if label in features else derived[label]


def _own_label(feature: Any, name: str) -> LabelRule:
    """The label that a ClassLabel feature is."""
    return LabelRule(name, tuple(printable(str(one)) for one in feature.names), lambda example: int(example[name]))


@dataclass(frozen=True, eq=False)
class _Stored:
    """Random access to one feature of a split's examples as it is stored: images encoded, sequences as arrays."""

    source: Any
    parser: Any

    @staticmethod
    def of(tfds: Any, builder: Any, split: str, feature: str) -> _Stored:
        try:
            source = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        except NotImplementedError as error:
            file_format = builder.info.file_format.value
            raise UserError(
                f"{builder.info.full_name} is prepared as {file_format}, which only TensorFlow reads.",
                hint="Where TensorFlow is installed, convert it with: tfds convert_format "
                f"--out_file_format=array_record --dataset_dir={builder.data_path}",
            ) from error
        kinds = builder.info.features.get_serialized_info()
        return _Stored(source, tfds.core.example_parser.ExampleParserNp({feature: kinds[feature]}))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> Mapping[str, Any]:
        return self.parser.parse_example(self.source[position])


def _labels(tfds: Any, builder: Any, split: str, label: LabelRule) -> NDArray[np.int32]:
    try:
        stored = _Stored.of(tfds, builder, split, label.feature)
        return np.array([label.of(stored[position]) for position in range(len(stored))], dtype=np.int32)
    except ImportError as error:
        raise UserError(f"Reading {builder.info.full_name} needs the package '{error.name}'.") from error


def _first_line(error: Exception) -> str:
    return printable(next(iter(str(error).splitlines()), "") or type(error).__name__)
