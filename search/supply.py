"""What evaluators draw on: components and traces from the store, train and validation data from the tasks' sources."""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread, get_native_id

from mutant.byte_cache import ByteCache
from mutant.component import Arrays, Component
from mutant.dataset import Dataset, Images, Indices, Seeds, Split
from mutant.storage.store import Store
from mutant.tasks.errors import UserError
from mutant.tasks.examples import Examples
from mutant.tasks.load import LoadedTask
from mutant.tasks.preprocess import Augmentation


@dataclass(frozen=True)
class SearchData:
    """A task's train and validation examples. The test split has no place here, so the search cannot read it."""

    name: str
    fingerprint: str
    classes: int
    train: Examples
    validation: Examples

    @staticmethod
    def of(loaded: LoadedTask) -> "SearchData":
        task = loaded.task
        return SearchData(task.name, task.fingerprint, len(task.class_names), loaded.train, loaded.validation)

    def dataset(self, image_size: int) -> Dataset:
        return Dataset(
            self._split("train", self.train, image_size),
            self._split("validation", self.validation, image_size),
            self.classes,
            Augmented(self.train, image_size),
        )

    def _split(self, name: str, examples: Examples, size: int) -> Split:
        return Split(f"{self.fingerprint}/{name}/{size}", examples.images(size), examples.labels)


@dataclass(frozen=True)
class Augmented:
    """Augmented training images at one size."""

    examples: Examples
    size: int

    def __call__(self, augmentation: Augmentation, indices: Indices, seeds: Seeds) -> Images:
        return self.examples.augmented(self.size, augmentation, seeds, indices)


class StoreSupply:
    """Draws components on the store and data on the loaded tasks, and keeps at hand what fits its budgets in bytes."""

    def __init__(self, store: Store, data: Mapping[str, SearchData], budget_bytes: int = 1 << 30) -> None:
        self._store = store
        self._data = data
        self._components: ByteCache[str, Component] = ByteCache(budget_bytes, lambda component: component.n_bytes)
        self._datasets: ByteCache[tuple[str, int], Dataset] = ByteCache(budget_bytes, lambda dataset: dataset.n_bytes)

        self._expected: dict[tuple[str, int], Thread] = {}

    def expect(self, task: str, image_size: int) -> None:
        """Prepare a task's images while something else is done, as long as nobody else needs the cores."""
        key = (task, image_size)
        if key not in self._datasets and key not in self._expected:
            self._expected[key] = Thread(target=self._prepare, args=key, daemon=True)
            self._expected[key].start()

    def _prepare(self, task: str, image_size: int) -> None:
        data = self._data[task]
        if (len(data.train) + len(data.validation)) * image_size**2 * 3 > self._datasets.budget_bytes:
            return
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, get_native_id(), 19)  # of this thread and those that it starts
        with suppress(UserError, OSError, MemoryError):  # whoever asks for the data meets the error again
            data.train.images(image_size)
            data.validation.images(image_size)

    def components(self, digests: Iterable[str]) -> dict[str, Component]:
        """Components by digest; what is not at hand is read in one transaction."""
        wanted = tuple(digests)
        found = self._components.at_hand(wanted)
        if missing := [digest for digest in wanted if digest not in found]:
            read = self._store.components(missing)
            for digest, component in read.items():
                self._components.put(digest, component)
            found |= read
        return {digest: found[digest] for digest in wanted}

    def trace(self, digest: str) -> Arrays:
        return self._store.trace(digest)

    def dataset(self, task: str, image_size: int) -> Dataset:
        expected = self._expected.pop((task, image_size), None)
        if expected is not None:
            expected.join()
        return self._datasets.get((task, image_size), lambda: self._data[task].dataset(image_size))
