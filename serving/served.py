"""What is served: tasks' paths with their components on the device, each component there once."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mutant.component import Spec
from mutant.path import Path
from mutant.storage.store import Store
from mutant.tasks.task import Task

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True, eq=False, weakref_slot=True, slots=True)
class Loaded:
    """A component on the device."""

    digest: str
    spec: Spec
    arrays: "Mapping[str, jax.Array]"
    n_bytes: int


@dataclass(frozen=True, eq=False)
class Served:
    """One version of a task's model: `version` is the digest of what it computes."""

    task: Task
    path: Path
    version: str
    chain: tuple[Loaded, ...]

    @property
    def image_size(self) -> int:
        """Pixels, width and height."""
        return self.path.hyperparameters.image_size


class Resident:
    """The components that are on the device: one that several paths use is there once, and goes with the last of them.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: WeakValueDictionary[str, Loaded] = WeakValueDictionary()

    def load(self, store: Store, paths: Sequence[tuple[Task, Path]]) -> tuple[Served, ...]:
        """The paths with their components, of which only those are read that are not on the device yet.

        Raises Damaged when stored weights are not what their digest says, or were collected.
        """
        with self._lock:
            wanted = dict.fromkeys(part.digest for _, path in paths for part in path.parts)
            held = {digest: loaded for digest in wanted if (loaded := self._held.get(digest)) is not None}
            for loaded in _read(store, [digest for digest in wanted if digest not in held]):
                held[loaded.digest] = self._held[loaded.digest] = loaded
        return tuple(
            Served(task, path, path.version, tuple(held[part.digest] for part in path.parts)) for task, path in paths
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights on the device."""
        return sum(loaded.n_bytes for loaded in list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)


def _read(store: Store, digests: Sequence[str]) -> Iterable[Loaded]:
    from mutant.network import on_device

    for component in store.components(digests).values() if digests else ():
        (arrays,) = on_device([component.arrays])
        yield Loaded(component.digest, component.spec, arrays, component.n_bytes)
