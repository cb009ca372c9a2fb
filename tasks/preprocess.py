"""One preprocessing for training and serving, and augmentation. Normalisation is inside the network.

Augmentation has the data hyperparameters of µ2Net (arXiv 2205.12755). Every random number of an example comes from its
own seed: the result does not depend on order, batch or threads.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mutant.tasks.errors import UserError

Pixels = NDArray[np.uint8]

CROP_ATTEMPTS = 10
_DRAWS = 8 + 4 * CROP_ATTEMPTS


def prepare(image: Pixels, size: int) -> Pixels:
    """The whole image [h, w, 3] squashed to [size, size, 3]: bilinear, antialiased when it shrinks (Pillow)."""
    _check(image, size)
    if image.shape[:2] == (size, size):
        return image.copy()
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)


def prepare_box(image: Pixels, size: int, box: tuple[float, float, float, float]) -> Pixels:
    """`prepare` of the part `box` (left, top, right, bottom; in pixels, fractions allowed) of the image."""
    _check(image, size)
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.array(resized, dtype=np.uint8)


def _check(image: Pixels, size: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise UserError(f"Expected uint8 pixels [h, w, 3], got {image.dtype} {list(image.shape)}.")
    if size < 1:
        raise UserError(f"An image size must be at least 1, got {size}.")


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may be changed; the defaults change nothing.

    crop_area_min, crop_aspect_min: in (0, 1]; a crop covers a share of the image drawn from [crop_area_min, 1], its
    width / height is changed by a factor drawn from [crop_aspect_min, 1 / crop_aspect_min].
    flip: left to right, half of the time. Deltas: brightness is shifted by up to delta of the full scale, contrast and
    saturation scaled by 1 ± delta, the hue turned by up to delta of the circle, and the image passed through a JPEG
    of quality 100 · (1 − delta) to 100.
    """

    crop_area_min: float = 1.0
    crop_aspect_min: float = 1.0
    flip: bool = False
    brightness_delta: float = 0.0
    contrast_delta: float = 0.0
    saturation_delta: float = 0.0
    hue_delta: float = 0.0
    jpeg_quality_delta: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop_area_min", "crop_aspect_min"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise UserError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}.")
        for field in fields(self):
            if field.name.endswith("_delta") and not 0.0 <= getattr(self, field.name) <= 1.0:
                raise UserError(f"{field.name} must be from 0 to 1, got {getattr(self, field.name)}.")

    @property
    def active(self) -> bool:
        """Whether any image can be changed at all."""
        return self != Augmentation()

    @property
    def crops(self) -> bool:
        """Whether parts of the image can be cut off."""
        return self.crop_area_min < 1.0 or self.crop_aspect_min < 1.0


def augment(image: Pixels, size: int, augmentation: Augmentation, seed: int) -> Pixels:
    """The image [h, w, 3] prepared at [size, size, 3] and changed as `seed` (uint64) decides."""
    draws = _uniform(seed)
    if augmentation.crops:
        pixels = prepare_box(image, size, _crop_box(image.shape[1], image.shape[0], augmentation, draws[8:]))
    else:
        pixels = prepare(image, size)
    if augmentation.flip and draws[0] < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    pixels = _recolour(pixels, augmentation, draws)
    if augmentation.jpeg_quality_delta > 0.0:
        pixels = _jpeg(pixels, round(100.0 * (1.0 - augmentation.jpeg_quality_delta * float(draws[5]))))
    return pixels


def _uniform(seed: int) -> NDArray[np.float64]:
    """`_DRAWS` numbers in [0, 1), a fixed place for each use; the bit stream of Philox does not change with NumPy."""
    raw = np.asarray(np.random.Philox(key=int(seed)).random_raw(_DRAWS), dtype=np.uint64)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _crop_box(
    width: int, height: int, augmentation: Augmentation, draws: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """The first drawn box that fits in the image, else the whole image."""
    reach = -math.log(augmentation.crop_aspect_min)
    for attempt in range(CROP_ATTEMPTS):
        area, aspect, left, top = (float(draw) for draw in draws[4 * attempt : 4 * attempt + 4])
        share = augmentation.crop_area_min + (1.0 - augmentation.crop_area_min) * area
        stretch = math.exp(reach * (2.0 * aspect - 1.0) / 2.0)
        w, h = width * math.sqrt(share) * stretch, height * math.sqrt(share) / stretch
        if 1.0 <= w <= width and 1.0 <= h <= height:
            x, y = left * (width - w), top * (height - h)
            return x, y, min(x + w, width), min(y + h, height)
    return 0.0, 0.0, float(width), float(height)


def _recolour(pixels: Pixels, augmentation: Augmentation, draws: NDArray[np.float64]) -> Pixels:
    a = augmentation
    if not (a.brightness_delta or a.contrast_delta or a.saturation_delta or a.hue_delta):
        return pixels
    shift = (2.0 * draws[1:5] - 1.0).astype(np.float32)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255.0)
    if a.brightness_delta:
        planes = np.clip(planes + np.float32(a.brightness_delta) * shift[0], 0.0, 1.0)
    if a.contrast_delta:
        mean = planes.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
        planes = np.clip((planes - mean) * (1 + np.float32(a.contrast_delta) * shift[1]) + mean, 0.0, 1.0)
    if a.saturation_delta:
        planes = _saturate(planes, 1 + np.float32(a.saturation_delta) * shift[2])
    if a.hue_delta:
        planes = _turn_hue(planes, np.float32(a.hue_delta) * shift[3])
    return np.ascontiguousarray(np.rint(planes * np.float32(255.0)).astype(np.uint8).transpose(1, 2, 0))


def _value_and_chroma(planes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """HSV value, and value times saturation, [h, w] of RGB planes [3, h, w]."""
    red, green, blue = planes[0], planes[1], planes[2]
    value = np.maximum(np.maximum(red, green), blue)
    return value, value - np.minimum(np.minimum(red, green), blue)


def _saturate(planes: NDArray[np.float32], factor: np.float32) -> NDArray[np.float32]:
    """HSV saturation of RGB planes [3, h, w] times `factor`, at most 1; value and hue stay."""
    value, chroma = _value_and_chroma(planes)
    scale = np.full(value.shape, factor, dtype=np.float32)
    np.divide(value, chroma, out=scale, where=chroma * factor > value)
    lift: NDArray[np.float32] = (planes - value) * scale
    return value + lift


def _turn_hue(planes: NDArray[np.float32], turn: np.float32) -> NDArray[np.float32]:
    """HSV hue of RGB planes [3, h, w] plus `turn` of the circle; value and saturation stay."""
    red, green, blue = planes[0], planes[1], planes[2]
    value, chroma = _value_and_chroma(planes)
    safe = np.maximum(chroma, np.float32(1e-6))
    sextant = (red - green) / safe + np.float32(4)
    np.copyto(sextant, (blue - red) / safe + np.float32(2), where=value == green)
    np.copyto(sextant, (green - blue) / safe, where=value == red)
    turned = np.empty_like(planes)
    for plane, start in enumerate((5, 3, 1)):
        place = sextant + (6 * turn + np.float32(start))
        ramp = place - 6 * np.floor(place / 6)
        turned[plane] = value - chroma * np.clip(np.minimum(ramp, 4 - ramp), 0, 1)
    return turned


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=max(1, quality))
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)
