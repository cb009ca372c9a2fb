"""A perceptual hash: close for copies of a picture in another size, encoding or brightness, far for other pictures.

The signs of the low frequencies of a discrete cosine transform, as in pHash (Zauner 2010, section 3.2), but 255 of them
where pHash has 63: with 64 bits, different handwritten characters collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BYTES = 32
NEAR_BITS = 20
"""Hashes that differ in at most so many of 256 bits mean near duplicates; docs/metrics.md has measured rates."""
FLAT = bytes(HASH_BYTES)
"""The hash of a picture without contrast or of stripes alone, which says too little: near to no other."""
_SIDE = 32
_KEPT = 16
_FLAT_LEVELS = 8
_LEAST_BITS = 32
"""Set bits of a hash that says enough; there are about 128 in most pictures, 8 in stripes."""
# Whole numbers, so that every sum is exact in float64 and the hash is the same with any linear algebra library.
_COSINES = np.rint(
    1024 * np.cos(np.pi * np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
)  # [_KEPT, _SIDE]


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """RGB pixels [h, w, 3] as 32 x 32 levels of grey: what `perceptual_hashes` takes."""
    grey = Image.fromarray(image).convert("L")
    return grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0).tobytes()


def perceptual_hashes(thumbnails: Sequence[bytes]) -> list[bytes]:
    """The hash of each thumbnail, `HASH_BYTES` bytes; many at once, since one costs little more than its calls.

    >>> perceptual_hashes([thumbnail(np.full((9, 7, 3), 200, np.uint8))]) == [FLAT]
    True
    """
    levels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, _SIDE, _SIDE)
    flat = np.ptp(levels, axis=(1, 2)) < _FLAT_LEVELS
    bits = (_COSINES @ levels.astype(np.float64) @ _COSINES.T > 0).reshape(-1, _KEPT * _KEPT)
    bits[flat | (bits.sum(axis=1) < _LEAST_BITS)] = False
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


def count_near(tested: NDArray[np.uint64], trained: NDArray[np.uint64]) -> int:
    """How many of the hashes `tested` [n, 4] are within `NEAR_BITS` of one of `trained` [m, 4]; time O(n m)."""
    trained = trained[trained.any(axis=1)]
    first = np.ascontiguousarray(trained[:, 0])
    return sum(_is_near(one, first, trained) for one in tested if one.any())


def _is_near(one: NDArray[Any], first: NDArray[np.uint64], trained: NDArray[np.uint64]) -> bool:
    # The first word, of the lowest frequencies, leaves next to nothing for the others.
    close = np.flatnonzero(np.bitwise_count(first ^ one[0]) <= NEAR_BITS)
    return bool((np.bitwise_count(trained[close] ^ one).sum(axis=1) <= NEAR_BITS).any())
