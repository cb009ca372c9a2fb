"""Hyperparameters of a path and the ordered lists they move in (arXiv 2205.10937 table 1, 2205.12755, 2209.07326)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

Schedule = Literal["constant", "cosine", "restarts", "linear"]
Optimizer = Literal["sgd", "signum"]
HyperparameterValue = float | int | bool | str | None

SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine", "restarts", "linear")
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "signum")
_DELTAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Hyperparameters:
    """One path's settings; every value stays in its ordered list of `Space`.

    `image_size` is in pixels; `learning_rate` is the peak after the warm-up, `warmup_ratio` a share of all steps;
    `momentum` None means plain SGD; the `optimizer` `signum` steps along the sign of the momentum. `trained_blocks` is
    how many of its top blocks a child trains, where the rules clone top blocks together (`mutant.rules`). The
    `DATA_HYPERPARAMETERS` shape the training images (the papers' `ds_*`).
    """

    learning_rate: float = 0.01
    schedule: Schedule = "cosine"
    warmup_ratio: float = 0.1
    momentum: float | None = 0.9
    nesterov: bool = False
    adapter_width: int = 32
    trained_blocks: int = 8
    image_size: int = 32
    crop_area_min: float = 1.0
    crop_aspect_min: float = 1.0
    flip: bool = False
    brightness_delta: float = 0.0
    contrast_delta: float = 0.0
    saturation_delta: float = 0.0
    hue_delta: float = 0.0
    jpeg_quality_delta: float = 0.0
    optimizer: Optimizer = "sgd"

    def to_dict(self) -> dict[str, HyperparameterValue]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Hyperparameters":
        return Hyperparameters(**values)

    def with_value(self, name: str, value: HyperparameterValue) -> "Hyperparameters":
        return replace(self, **{name: value})


HYPERPARAMETERS = tuple(f.name for f in fields(Hyperparameters))
DATA_HYPERPARAMETERS = (
    "image_size",
    "crop_area_min",
    "crop_aspect_min",
    "flip",
    "brightness_delta",
    "contrast_delta",
    "saturation_delta",
    "hue_delta",
    "jpeg_quality_delta",
)

LISTS: Mapping[str, tuple[HyperparameterValue, ...]] = {
    "learning_rate": (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "schedule": SCHEDULES,
    "warmup_ratio": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    "momentum": (None, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
    "nesterov": (False, True),
    "optimizer": OPTIMIZERS,
    "adapter_width": (8, 16, 32, 64, 128),
    "trained_blocks": (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32),
    "crop_area_min": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.95, 1.0),
    "crop_aspect_min": (0.25, 0.5, 0.75, 1.0),
    "flip": (False, True),
    "brightness_delta": _DELTAS,
    "contrast_delta": _DELTAS,
    "saturation_delta": _DELTAS,
    "hue_delta": _DELTAS,
    "jpeg_quality_delta": _DELTAS,
}
"""Every list but that of the image size, which depends on the root's patch (`image_sizes`)."""


def image_sizes(step: int = 16, largest: int = 384) -> tuple[int, ...]:
    """The ordered image sizes in pixels: multiples of `step` (16 in the papers, the patch size of a ViT here).

    >>> image_sizes(14, 56)
    (14, 28, 42, 56)
    """
    return tuple(range(step, largest + 1, step))


def neighbour(
    values: tuple[HyperparameterValue, ...], current: HyperparameterValue, *, up: bool
) -> HyperparameterValue:
    """One index up or down in an ordered list, clamped at its ends (arXiv 2205.10937, section 3.1).

    A value that is not in the list (a user's own start) moves to its nearest neighbour on that side.

    >>> neighbour((None, .2, .4), None, up=False) is None
    True
    >>> neighbour((8, 16, 32), 20, up=True)
    32
    """
    if current in values:
        index = values.index(current) + (1 if up else -1)
        return values[max(0, min(index, len(values) - 1))]
    numbers = [v for v in values if isinstance(v, int | float)]
    if not numbers or not isinstance(current, int | float):
        raise ValueError(f"{current!r} is not in the list {values}")
    beyond = [v for v in numbers if (v > current if up else v < current)]
    return (min(beyond) if up else max(beyond)) if beyond else (max(numbers) if up else min(numbers))
