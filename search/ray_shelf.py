"""What children need, in Ray's object store: put there once each, and let go of when no child needs it any more."""

from collections.abc import Callable, Sequence
from typing import Any

from mutant.search.evaluator import Supply, Work
from mutant.search.ray_start import ray
from mutant.search.ray_worker import Parcel, n_bytes
from mutant.tasks.errors import UserError


class ObjectShelf:
    """References by digest, or by task and image size, to components, traces and data sets in the object store."""

    def __init__(self) -> None:
        self._references: dict[Any, Any] = {}

    def parcel(self, work: Work, supply: Supply, ahead: Work | None = None) -> Parcel:
        """A candidate with references to what it needs; each value travels to the object store once."""
        if missing := [digest for digest in work.digests if digest not in self._references]:
            for digest, component in supply.components(missing).items():
                self._references[digest] = _stored(component)
        return Parcel(
            work,
            {digest: self._references[digest] for digest in work.digests},
            {digest: self._put(digest, supply.trace) for digest in work.traces},
            self._put(work.dataset, lambda key: supply.dataset(*key)),
            ahead,
        )

    def keep_for(self, work: Sequence[Work]) -> None:
        """Let go of what these candidates do not need, so that the object store can, too."""
        needed = {key for item in work for key in (*item.digests, *item.traces, item.dataset)}
        self._references = {key: value for key, value in self._references.items() if key in needed}

    def clear(self) -> None:
        """Let go of everything: what is needed is put into the store again."""
        self._references = {}

    def _put(self, key: Any, get: Callable[[Any], Any]) -> Any:
        if key not in self._references:
            self._references[key] = _stored(get(key))
        return self._references[key]


def _stored(value: Any) -> Any:
    """A reference to a value that was put into the store. Raises `UserError` where that has no room, nor its disk."""
    try:
        return ray.put(value)
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise UserError(
            f"Ray's object store has no room for the {n_bytes(value) / 2**20:,.0f} MiB that a child needs.",
            hint="Give it more (ray start --object-store-memory BYTES), or its disk, then: mutant resume",
        ) from error
