"""Leakage: test images of a task, or near duplicates of them, that trained a component on the task's path."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutant.origins import Origin, origins
from mutant.path import Path
from mutant.storage.faults import decoding
from mutant.storage.images import TaskImages, load_images
from mutant.storage.store import Store
from mutant.tasks.perceptual import count_near


@dataclass(frozen=True)
class Leak:
    """What a task's training images have to do with the test images of another, or of the same.

    `exact` test images are training images of `task`, `near` more are near duplicates of one; both None where no
    hashes were kept. `components` are those that `task` trained and that the path uses or started from, as (slot,
    digest).
    """

    task: str
    components: tuple[tuple[str, str], ...]
    exact: int | None
    near: int | None

    @property
    def found(self) -> bool:
        return bool(self.exact or self.near)


@dataclass(frozen=True)
class Leakage:
    """Every task that trained a component of the path, as `Leak`s with and without a finding."""

    task: str
    path: str
    test_images: int
    trained_by: tuple[Leak, ...]

    @property
    def leaks(self) -> tuple[Leak, ...]:
        return tuple(one for one in self.trained_by if one.found)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Tasks of which no hashes were kept, on either side: an older version added or imported one of them."""
        return tuple(one.task for one in self.trained_by if one.exact is None)


def leakage(store: Store, path: Path) -> Leakage:
    """The test images of the path's task held against the training images of all that trained what it is made of.

    That is: the components it uses and those they were cloned from. What the root was trained on is not known.
    """
    assert path.task is not None
    trained: defaultdict[str, list[Origin]] = defaultdict(list)
    ancestry, test_split = store.ancestors(path.id), store.task(path.task).split("test")
    with store.reading() as connection:
        with decoding():  # recorded mutations that do not fit their parents make no path
            found_origins = origins(ancestry)
        for origin in found_origins:
            trained[origin.ancestor.task or ""].append(origin)
        test = load_images(connection, path.task, "test")
        found = [_leak(task, of, test, load_images(connection, task, "train")) for task, of in trained.items()]
    return Leakage(path.task, path.id, test_split.examples, tuple(found))


def _leak(task: str, of: Sequence[Origin], test: TaskImages | None, train: TaskImages | None) -> Leak:
    components = tuple(dict.fromkeys((origin.slot, origin.ancestor.digest) for origin in of))
    if test is None or train is None:
        return Leak(task, components, None, None)
    exact = np.isin(test.content, train.content)
    return Leak(task, components, int(exact.sum()), count_near(test.looks[~exact], train.looks))
