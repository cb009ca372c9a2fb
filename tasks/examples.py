"""The content of one split: labels at hand, images decoded when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mutant.tasks.content import Content, Pixels, Reader
from mutant.tasks.errors import UserError
from mutant.tasks.limits import Limits
from mutant.tasks.preprocess import Augmentation, augment, prepare
from mutant.tasks.threads import map_indices

SIZE_CACHE_BYTES = 2**30
"""Prepared images that one `Examples` keeps, over all sizes; the size unused for longest goes first."""


def content_hash(image: Pixels) -> str:
    """SHA-256 of RGB pixels [h, w, 3] and their shape: equal pictures have equal hashes in any file or encoding."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}x3:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


@dataclass(eq=False)
class Examples:
    """Labelled images of one split. Read-only to its users; what it caches is not pickled.

    labels: int32 [n], indices into the task's class names. hashes: `content_hash` of each image.
    looks: `perceptual_hash` of each image.
    """

    labels: NDArray[np.int32]
    hashes: tuple[str, ...]
    content: Content
    limits: Limits = field(default_factory=Limits)
    decoded: Sequence[Pixels | None] = ()
    looks: tuple[bytes, ...] = ()
    _prepared: dict[int, Pixels] = field(default_factory=dict[int, Pixels], init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.hashes) == len(self.content):
            raise ValueError(f"{len(self.labels)} labels, {len(self.hashes)} hashes, {len(self.content)} images")
        self.labels.setflags(write=False)
        self.decoded = self.decoded or (None,) * len(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "decoded": (), "_prepared": {}}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.decoded = (None,) * len(self.labels)
        self.labels.setflags(write=False)

    def images(self, size: int) -> Pixels:
        """All images prepared at `size`: uint8 [n, size, size, 3], read-only, the same array each time.

        Raises UserError when an image is gone or has changed since the task was loaded.
        """
        if size in self._prepared:
            self._prepared[size] = self._prepared.pop(size)
            return self._prepared[size]
        images = self._each(size, range(len(self)), lambda place, image: prepare(image, size))
        images.setflags(write=False)
        self._prepared[size] = images
        while len(self._prepared) > 1 and sum(a.nbytes for a in self._prepared.values()) > SIZE_CACHE_BYTES:
            del self._prepared[next(iter(self._prepared))]
        return images

    def augmented(
        self, size: int, augmentation: Augmentation, seeds: NDArray[np.uint64], indices: NDArray[np.integer]
    ) -> Pixels:
        """Images `indices` [m], each augmented by its own seed of `seeds` [m]: uint8 [m, size, size, 3].

        Row k depends on image indices[k] and on seeds[k] alone.
        """
        if len(seeds) != len(indices):
            raise ValueError(f"{len(seeds)} seeds for {len(indices)} images")
        if not augmentation.active:
            return self.images(size)[indices]
        order = [int(index) for index in indices]
        return self._each(size, order, lambda place, image: augment(image, size, augmentation, int(seeds[place])))

    def subset(self, indices: NDArray[np.integer]) -> Examples:
        """The examples at `indices`, in that order."""
        places = np.asarray(indices, dtype=np.int64)
        order: list[int] = places.tolist()
        return Examples(
            labels=self.labels[places],
            hashes=tuple(self.hashes[i] for i in order),
            content=self.content.take(places),
            limits=self.limits,
            decoded=tuple(self.decoded[i] for i in order),
            looks=tuple(self.looks[i] for i in order) if self.looks else (),
        )

    def _each(self, size: int, order: Sequence[int], change: Callable[[int, Pixels], Pixels]) -> Pixels:
        result = np.empty((len(order), size, size, 3), dtype=np.uint8)
        with self._reader() as read:

            def one(place: int) -> None:
                result[place] = change(place, read(order[place]))

            for _ in map_indices(one, range(len(order))):
                pass
        return result

    @contextmanager
    def _reader(self) -> Generator[Reader]:
        if all(image is not None for image in self.decoded):
            yield self._kept
            return
        with self.content.reader(self.limits) as read:

            def checked(index: int) -> Pixels:
                kept = self.decoded[index]
                if kept is not None:
                    return kept
                image = read(index)
                if content_hash(image) != self.hashes[index]:
                    raise UserError(f"'{self.content.name(index)}' has changed since the task was loaded.")
                return image

            yield checked

    def _kept(self, index: int) -> Pixels:
        image = self.decoded[index]
        assert image is not None
        return image
