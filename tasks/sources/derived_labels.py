"""Labels that a TFDS data set does not have, but that follow from an example: VTAB's tasks of counting and distance.

Bins and thresholds are those of the published benchmark (arXiv 1910.04867, google-research/task_adaptation): a
distance falls into the last bin whose lower boundary it exceeds, compared in float32. An example from which a label
does not follow, like one of a split without annotations, has -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

Example = Mapping[str, Any]
"""Features of one example by name; a sequence of objects maps their attributes to arrays [objects, ...]."""


@dataclass(frozen=True)
class LabelRule:
    """A label: an index into `names`, or a negative number for none, as a function of one feature of an example."""

    feature: str
    names: tuple[str, ...]
    of: Callable[[Example], int]


def derived_labels(dataset: str) -> Mapping[str, LabelRule]:
    """The derived labels of a data set by name, empty for most.

    >>> sorted(derived_labels("clevr"))
    ['closest_object_distance', 'count_all', 'count_cylinders']
    """
    return _RULES.get(dataset, MappingProxyType({}))


def brightness(dataset: str) -> int:
    """What pixels of the data set are multiplied by to reach from 0 to 255: dSprites are stored as 0 and 1."""
    return 255 if dataset == "dsprites" else 1


_OBJECTS = "objects"
_CYLINDER = 2
_VEHICLES = 3
"""KITTI's types below it: Car, Van, Truck."""
_FEWEST_OBJECTS, _MOST_OBJECTS = 3, 10
_NO_VEHICLE = 1_000.0
_CLEVR_BINS = {"up to 8": 0.0, "8 to 8.5": 8.0, "8.5 to 9": 8.5, "9 to 9.5": 9.0, "9.5 to 10": 9.5, "above 10": 10.0}
"""Bins with their lower boundaries, which do not belong to them. CLEVR's distances have no unit, KITTI's are metres."""
_KITTI_BINS = {
    "up to 5.6 m": -100.0,
    "5.6 to 8.4 m": 5.6,
    "8.4 to 13.4 m": 8.4,
    "13.4 to 23.4 m": 13.4,
    "above 23.4 m": 23.4,
}
_VEHICLE_BINS = {"up to 8 m": -100.0, "8 to 20 m": 8.0, "above 20 m": 20.0, "no vehicle": 999.0}


def _bin(distance: float, bins: Mapping[str, float]) -> int:
    boundaries = np.array(list(bins.values()), dtype=np.float32)
    return int(np.count_nonzero(boundaries < np.float32(distance))) - 1


def _clevr_count(example: Example) -> int:
    count = len(example[_OBJECTS]["size"])
    return count - _FEWEST_OBJECTS if _FEWEST_OBJECTS <= count <= _MOST_OBJECTS else -1


def _clevr_cylinders(example: Example) -> int:
    shapes = np.asarray(example[_OBJECTS]["shape"])
    return int(np.count_nonzero(shapes == _CYLINDER)) if len(shapes) else -1


def _clevr_distance(example: Example) -> int:
    depths = _column(example[_OBJECTS]["pixel_coords"])
    return _bin(depths.min(), _CLEVR_BINS) if len(depths) else -1


def _kitti_distance(example: Example) -> int:
    return _bin(_column(example[_OBJECTS]["location"]).min(initial=np.inf), _KITTI_BINS)


def _kitti_vehicles(example: Example) -> int:
    return min(int(np.count_nonzero(_vehicles(example))), 3)


def _kitti_vehicle_distance(example: Example) -> int:
    depths = _column(example[_OBJECTS]["location"])[_vehicles(example)]
    return _bin(depths.min(initial=_NO_VEHICLE), _VEHICLE_BINS)


def _vehicles(example: Example) -> Any:
    return np.asarray(example[_OBJECTS]["type"]) < _VEHICLES


def _column(points: Any) -> Any:
    """The third coordinate of points [objects, 3]."""
    return np.asarray(points, dtype=np.float32).reshape(-1, 3)[:, 2]


def _coarser(feature: str, classes: int, bins: int) -> LabelRule:
    """A ClassLabel of ordered classes, neighbours taken together."""
    return LabelRule(feature, _numbers(0, bins - 1), lambda example: int(example[feature]) * bins // classes)


def _numbers(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last + 1))


_RULES: Mapping[str, Mapping[str, LabelRule]] = MappingProxyType(
    {
        "clevr": {
            "count_all": LabelRule(_OBJECTS, _numbers(_FEWEST_OBJECTS, _MOST_OBJECTS), _clevr_count),
            "count_cylinders": LabelRule(_OBJECTS, _numbers(0, _MOST_OBJECTS), _clevr_cylinders),
            "closest_object_distance": LabelRule(_OBJECTS, tuple(_CLEVR_BINS), _clevr_distance),
        },
        "dsprites": {
            "label_x_position_16": _coarser("label_x_position", 32, 16),
            "label_y_position_16": _coarser("label_y_position", 32, 16),
            "label_orientation_16": _coarser("label_orientation", 40, 16),
        },
        "kitti": {
            "closest_object_distance": LabelRule(_OBJECTS, tuple(_KITTI_BINS), _kitti_distance),
            "count_vehicles": LabelRule(_OBJECTS, ("0", "1", "2", "3 or more"), _kitti_vehicles),
            "closest_vehicle_distance": LabelRule(_OBJECTS, tuple(_VEHICLE_BINS), _kitti_vehicle_distance),
        },
    }
)
