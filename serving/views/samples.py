"""Sample images to choose from: those that a task's golden outputs were computed on."""

import io
from dataclasses import dataclass

from PIL import Image

from mutant.path import Path
from mutant.pool import Pool
from mutant.serving.views.colours import badges
from mutant.storage.records import Golden
from mutant.storage.store import Store
from mutant.tasks.errors import Unknown, unknown


@dataclass(frozen=True)
class SampleSet:
    """A task with `images` sample images, named by their index from 0; they are its path's golden ones."""

    task: str
    number: int
    colour: str
    path: str
    images: int


@dataclass(frozen=True)
class SamplesView:
    """The tasks that have sample images, in order of arrival."""

    samples: list[SampleSet]


def samples_view(store: Store) -> SamplesView:
    """How many sample images each task has."""
    marks = badges(store)
    found = [(path, store.golden(path.id)) for path in store.pool().paths]
    return SamplesView(
        [
            SampleSet(path.task or "", mark.number, mark.colour, path.id, len(golden.images))
            for path, golden in found
            if golden is not None and (mark := marks.get(path.task or "")) is not None
        ]
    )


def sampled(pool: Pool, task: str) -> Path:
    """The path whose golden outputs hold a task's samples. Raises Unknown, with the nearest, for no such task."""
    found = next((path for path in pool.paths if path.task == task), None)
    if found is None:
        raise unknown("task", task, pool.tasks, see="mutant list")
    return found


def sample_png(store: Store, path: Path, index: int) -> bytes:
    """One sample image of a task's path, as PNG. Raises Unknown when there is none with this index."""
    golden = store.golden(path.id)
    images = 0 if golden is None else len(golden.images)
    if golden is None or index >= images:
        hint = f"Nearest: {images - 1}." if images else "It has none."
        raise Unknown(f"Task '{path.task}' has no sample image {index}.", hint=hint)
    return _png(golden, index)


def _png(golden: Golden, index: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(golden.images[index], "RGB").save(written, "PNG")
    return written.getvalue()
