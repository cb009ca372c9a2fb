"""Safe decoding: bytes that anybody may have made become RGB pixels, or an error that says why not."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mutant.tasks.errors import UserError
from mutant.tasks.limits import DEFAULT_LIMITS, Limits

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
"""Pillow decoders that are used. Those that run other programs (EPS) or read other files (FPX, WMF) are not."""

EXTENSIONS = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".gif",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
    ]
)
BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, the paper that drawings and logos with alpha are made for."""

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """One image that cannot be used, and why."""


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """RGB pixels [h, w, 3] of an encoded image: first frame, upright (EXIF), 8 bits, alpha over `BACKGROUND`.

    Raises ImageError for bytes that are no image of `FORMATS`, are damaged, or exceed the limits; the size is looked
    at before any pixel is decoded.
    """
    with _opened(data, limits) as image:
        image.load()
        return np.array(_upright(_to_rgb(image), image), dtype=np.uint8)


def pixels_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> int:
    """Width times height of an encoded image, without decoding it; raises ImageError as `decode` does."""
    with _opened(data, limits) as image:
        return image.size[0] * image.size[1]


@contextmanager
def _opened(data: bytes, limits: Limits) -> Generator[Image.Image]:
    """An image whose size is within the limits; what goes wrong with it inside becomes an ImageError."""
    if not data:
        raise ImageError("The file is empty.")
    if len(data) > limits.max_bytes:
        raise ImageError(f"{len(data):,} bytes are more than the limit of {limits.max_bytes:,}.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                raise ImageError(f"{width} x {height} pixels are more than the limit of {limits.max_pixels:,} pixels.")
            yield image
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError("Not an image in a format that is read: " + ", ".join(FORMATS) + ".") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"More pixels than the limit of {limits.max_pixels:,}.") from error
    except MemoryError as error:
        raise ImageError("Not enough memory to decode it.") from error
    except Exception as error:  # decoders raise nearly every type on hostile bytes
        raise ImageError(f"Damaged: {error or type(error).__name__}.") from error


def from_array(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """RGB pixels [h, w, 3] of uint8 pixels [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] (alpha over `BACKGROUND`)."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ImageError(f"Expected uint8 pixels [h, w] or [h, w, c], got {array.dtype} {list(array.shape)}.")
    channels = 1 if array.ndim == 2 else array.shape[2]
    pixels = array.astype(np.uint8, copy=False).reshape(*array.shape[:2], channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(pixels)
    if channels == 4:
        return np.array(_over_background(Image.fromarray(pixels, "RGBA")), dtype=np.uint8)
    raise ImageError(f"Expected 1, 3 or 4 channels, got {channels}.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep_gray(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _over_background(image.convert("RGBA"))
    return image.convert("RGB")


def _deep_gray(image: Image.Image) -> Image.Image:
    """Gray with more than 8 bits: integers are read as 16-bit, floats as [0, 1] unless one is above 1."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        eight_bit = values if values.max(initial=0.0) > 1.0 else values * 255.0
    else:
        eight_bit = values / 257.0
    return Image.fromarray(np.clip(np.rint(eight_bit), 0, 255).astype(np.uint8))


def _over_background(image: Image.Image) -> Image.Image:
    background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(background, image).convert("RGB")


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return pixels
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)
