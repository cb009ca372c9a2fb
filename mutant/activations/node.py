"""One prefix's activations in a file that every worker of the host maps: rows, and a flag for each that is done.

A row is written, then its flag: a worker that is killed in between leaves a row that is not done, never half of one.
While a worker computes rows it holds a lock on each, so that others compute other rows; locks end with their process.
Two who compute a row all the same write the same bits, so no answer rests on the locks.
"""

import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, Any]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

PAGE = 4096
_ROWS_PER_NODE = 1 << 22
"""Room for the rows of a node among the byte ranges that stand for rows; beyond it rows share a lock."""


def _whole_pages(n_bytes: int) -> int:
    return -(-n_bytes // PAGE) * PAGE


def file_size(rows: int, row_bytes: int) -> int:
    """Bytes of the file of a node, flags and rows in whole pages."""
    return _whole_pages(rows) + _whole_pages(rows * row_bytes)


class RowLocks:
    """Locks on rows of nodes, held by this process, as byte ranges of one file that stays open until it is closed."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)

    def claim(self, name: str, rows: Indices) -> Flags:
        """Which of `rows` nobody else computes; they are ours until `release`."""
        base = _base(name)
        return np.array([self._lock(base + int(row) % _ROWS_PER_NODE, fcntl.LOCK_NB) for row in rows], np.bool_)

    def wait(self, name: str, row: int) -> None:
        """Return when nobody else computes the row, or was killed over it."""
        place = _base(name) + row % _ROWS_PER_NODE
        if self._lock(place, 0):
            self._unlock(place, 1)

    def release(self, name: str) -> None:
        """Give up all that was claimed of a node."""
        self._unlock(_base(name), _ROWS_PER_NODE)

    def _lock(self, place: int, how: int) -> bool:
        """Whether the lock is ours. Where there are no locks to be had, every row is ours."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | how, 1, place)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
        return True

    def _unlock(self, place: int, many: int) -> None:
        with suppress(OSError):
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, many, place)

    def close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def _base(name: str) -> int:
    return int(name[:9], 16) * _ROWS_PER_NODE


class Node:
    """An open node. While it is open its file is in use, so that nobody evicts it. Raises `OSError`."""

    def __init__(self, file: Path, name: str, rows: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.name, self.rows, self._shape, self._dtype = name, rows, shape, np.dtype(dtype)
        self._row_bytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        self._start = _whole_pages(rows)
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            size = file_size(rows, self._row_bytes)
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, size)
            self._map = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self._descriptor)
            raise
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        self._done: Flags = np.ndarray((rows,), np.bool_, self._map)
        self._values = np.ndarray((rows, *shape), self._dtype, self._map, self._start)

    def done(self, rows: Indices) -> Flags:
        """Which of `rows` are there."""
        return self._done[rows]

    def missing(self) -> Indices:
        """Every row that is not there, in order."""
        return np.flatnonzero(~self._done)

    def read(self, rows: Indices) -> Array:
        """A copy of rows that are done [m, *shape]."""
        return self._values[rows]

    def write(self, rows: Indices, values: Array) -> None:
        """Keep what was computed for `rows`, which are in order. Raises `OSError` when there is no room."""
        if values.shape[1:] != self._shape or values.dtype != self._dtype:
            raise ValueError(f"{values.dtype} {values.shape[1:]} computed, {self._dtype} {self._shape} expected")
        contiguous = np.ascontiguousarray(values)
        for start, end in _runs(rows):
            first, many = int(rows[start]), end - start
            data = contiguous[start:end].view(np.uint8).reshape(-1).data
            _write_all(self._descriptor, data, self._start + first * self._row_bytes)
            _write_all(self._descriptor, memoryview(b"\x01" * many), first)


def in_use(file: Path) -> bool:
    """Whether any process has the node open; one that has gone is not in use."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _runs(rows: Indices) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch of consecutive numbers in sorted `rows`."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    return ((start, end) for start, end in pairwise(edges) if end > start)


def _write_all(descriptor: int, data: memoryview, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written
