"""From a request's images to what the network takes, off the event loop: small ones at once, large ones in turn.

An image is prepared as soon as it is decoded, and only one large one is decoded at a time, so that the memory it takes
does not grow with the requests; small ones have threads of their own and wait for no large one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutant.serving.lanes import Lane
from mutant.serving.refusals import Refused, late
from mutant.tasks.images import ImageError, decode, pixels_of
from mutant.tasks.limits import Limits
from mutant.tasks.preprocess import prepare

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SMALL = 2**20
"""Pixels of images that are decoded in one go: some 20 ms."""
_DECODERS = 2


@dataclass(frozen=True)
class ImageLimits:
    """`most_bytes` and `most_pixels` of one image, and `most_in_all`: pixels of all encoded images of a request."""

    most_bytes: int
    most_pixels: int
    most_in_all: int


@dataclass(frozen=True)
class _Begun:
    """`done`: of the first images, by size. `counts`: pixels of all images."""

    done: Sequence[Mapping[int, Pixels]]
    counts: Sequence[int]


class Decoder:
    """Decodes and prepares images in threads of its own."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._small, self._large = Lane("decoder", _DECODERS), Lane("large-decoder", 1)

    def close(self) -> None:
        self._small.close()
        self._large.close()

    async def prepared(
        self, images: Sequence[bytes | Pixels], sizes: Sequence[int], ends: float, seconds: float
    ) -> dict[int, Pixels]:
        """The images by each of `sizes`, uint8 [n, S, S, 3].

        Looks at the clock and at the task's cancellation before every large image. `ends` is in seconds of
        `time.monotonic`, `seconds` what was given. Raises Refused (413, 422, 504).
        """
        try:
            begun = await self._small.run(_left(ends), self._begin, images, sizes)
            done = [*begun.done]
            for first, last in _slices(begun.counts, len(done)):
                lane = self._large if begun.counts[first] > SMALL else self._small
                done += await lane.run(_left(ends), self._some, images, sizes, first, last)
        except TimeoutError as error:
            raise late(1000 * seconds) from error
        return {size: np.stack([one[size] for one in done]) for size in sizes}

    def _begin(self, images: Sequence[bytes | Pixels], sizes: Sequence[int]) -> _Begun:
        """See how large the images are, and prepare them if they are all small."""
        counts = [self._pixels(image, number) for number, image in enumerate(images)]
        encoded = sum(count for image, count in zip(images, counts, strict=True) if isinstance(image, bytes))
        if len(images) > 1 and encoded > self._limits.most_in_all:
            most = self._limits.most_in_all
            raise Refused(413, f"The images have {encoded:,} pixels, more than the limit of {most:,} for a request.")
        small = sum(counts) <= SMALL
        return _Begun(self._some(images, sizes, 0, len(images)) if small else [], counts)

    def _some(
        self, images: Sequence[bytes | Pixels], sizes: Sequence[int], first: int, last: int
    ) -> list[Mapping[int, Pixels]]:
        return [self._one(images[number], number, sizes) for number in range(first, last)]

    def _one(self, image: bytes | Pixels, number: int, sizes: Sequence[int]) -> Mapping[int, Pixels]:
        pixels = image
        if isinstance(pixels, bytes):
            try:
                pixels = decode(pixels, self._of_one)
            except ImageError as error:
                raise _unusable(error, number) from error
        return {size: prepare(pixels, size) for size in sizes}

    def _pixels(self, image: bytes | Pixels, number: int) -> int:
        if not isinstance(image, bytes):
            return image.shape[0] * image.shape[1]
        try:
            return pixels_of(image, self._of_one)
        except ImageError as error:
            raise _unusable(error, number) from error

    @property
    def _of_one(self) -> Limits:
        return Limits(max_pixels=self._limits.most_pixels, max_bytes=self._limits.most_bytes)


def _slices(counts: Sequence[int], done: int) -> Iterator[tuple[int, int]]:
    """Runs of images, from `done` on, that are decoded in one go: of `SMALL` pixels at most, or one large image.

    >>> list(_slices([500_000, 500_000, 100_000, 9_000_000, 1], 0))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    first = done
    while first < len(counts):
        last, pixels = first + 1, counts[first]
        while last < len(counts) and pixels + counts[last] <= SMALL:
            pixels += counts[last]
            last += 1
        yield first, last
        first = last


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _unusable(error: ImageError, number: int) -> Refused:
    status = 413 if "limit" in error.message else 422
    return Refused(status, f"Image {number + 1} cannot be used: {error.message}", error.hint)
