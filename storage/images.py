"""The images of tasks as hashes: enough to find an image, or a near duplicate of it, among those of another task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select

from mutant.storage.catalog import unknown_task
from mutant.storage.faults import decoding
from mutant.storage.refusals import Damaged
from mutant.storage.schema import ImagesRow, TaskRow
from mutant.tasks.load import LoadedTask
from mutant.tasks.perceptual import HASH_BYTES

HASHED = ("train", "test")
_CONTENT = np.dtype("<u8")
_LOOKS = np.dtype("<u8")


@dataclass(frozen=True, eq=False)
class TaskImages:
    """One split's images. `content` [n] uint64, ascending: the first 8 bytes of each image's SHA-256.

    `looks` [n, 4] uint64: the perceptual hash of each, in the same order.
    """

    task: str
    split: str
    content: NDArray[np.uint64]
    looks: NDArray[np.uint64]


def hashes_of(loaded: LoadedTask) -> tuple[TaskImages, ...]:
    """The images of the splits that leakage is about: 40 bytes each."""
    return tuple(_hashes(loaded, split) for split in HASHED)


def _hashes(loaded: LoadedTask, split: str) -> TaskImages:
    examples = loaded.split(split)
    content = np.array([int(digest[:16], 16) for digest in examples.hashes], dtype=_CONTENT)
    looks = np.frombuffer(b"".join(examples.looks), dtype=_LOOKS).reshape(len(content), -1)
    order = np.argsort(content, kind="stable")
    return TaskImages(loaded.task.name, split, content[order], looks[order])


def write_images(connection: Connection, images: Sequence[TaskImages]) -> None:
    """Keep the hashes of splits of which none are kept yet."""
    for one in images:
        key = _task_key(connection, one.task)
        place = (ImagesRow.task_key == key) & (ImagesRow.split == one.split)
        if connection.scalar(select(ImagesRow.split).where(place)) is None:
            row = {"content": one.content.astype(_CONTENT).tobytes(), "looks": one.looks.astype(_LOOKS).tobytes()}
            connection.execute(insert(ImagesRow).values(task_key=key, split=one.split, **row))


@decoding()
def load_images(connection: Connection, task: str, split: str) -> TaskImages | None:
    """A split's hashes, of a removed task as well; None when none were kept. Raises Damaged.

    None were kept of a task that was added before schema 0003, or imported by a version that left them out.
    """
    place = (ImagesRow.task_key == _task_key(connection, task)) & (ImagesRow.split == split)
    row = connection.execute(select(ImagesRow.content, ImagesRow.looks).where(place)).one_or_none()
    if row is None:
        return None
    if not _fits(row.content, row.looks):
        raise Damaged(f"The image hashes of task '{task}', split {split}, are damaged.")
    content, looks = np.frombuffer(row.content, _CONTENT), np.frombuffer(row.looks, _LOOKS)
    return TaskImages(task, split, content, looks.reshape(len(content), -1))


def copy_images(theirs: Connection, ours: Connection, task: str, name: str) -> None:
    """Keep another system's hashes of its `task` as those of the task `name` here, where none are kept yet."""
    found = (load_images(theirs, task, split) for split in HASHED)
    write_images(ours, [replace(one, task=name) for one in found if one is not None])


def _task_key(connection: Connection, name: str) -> int:
    """Of a task that may be removed: what its images trained is on the paths of others."""
    key = connection.scalar(select(TaskRow.key).where(TaskRow.name == name))
    if key is None:
        raise unknown_task(connection, name)
    return key


def _fits(content: Any, looks: Any) -> bool:
    both = isinstance(content, bytes) and isinstance(looks, bytes)
    return both and len(content) % 8 == 0 and len(looks) * 8 == len(content) * HASH_BYTES
