"""Micro-batching: requests that arrive while the device is busy are computed together when it is free.

A bounded queue, a deadline for every request, and a request whose client has gone is dropped before it costs anything.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from mutant.serving.engine import Job, Logits, Work
from mutant.serving.refusals import busy, late, not_ready

Run = Callable[[Sequence[Job]], tuple[list[Logits], Work]]


@dataclass(frozen=True)
class Queueing:
    """How requests are gathered. `most_rows`: images of one batch (a larger request is a batch by itself).

    `delay`: seconds that a batch with company waits for more; one that is alone, with nobody before it, waits for
    nothing. `most_waiting`: images in the queue or being decoded for it, above which requests are refused.
    """

    most_rows: int = 16
    delay: float = 0.002
    most_waiting: int = 256


@dataclass(frozen=True, eq=False)
class Answer:
    """Logits by version, and how long the request waited and was computed, in seconds."""

    logits: Logits
    waited: float
    computed: float


@dataclass(frozen=True)
class Batch:
    """What was computed at once: requests, images, seconds, and the FLOPs that sharing saved."""

    requests: int
    rows: int
    seconds: float
    work: Work


@dataclass(eq=False)
class _Waiting:
    job: Job
    future: "Future[Answer]"
    since: float
    deadline: float


class Batcher:
    """One thread that computes batches. `heard` is told of each; it must be quick and raise nothing."""

    def __init__(
        self, run: Run, queueing: Queueing = Queueing(), heard: Callable[[Batch], None] = lambda _: None
    ) -> None:
        self._run, self._queueing, self._heard = run, queueing, heard
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._decoding = 0
        self._crowded = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, job: Job, seconds: float) -> "Future[Answer]":
        """Queue a job that must be answered within `seconds`; cancel the future when nobody waits for it any more.

        Raises Refused when the queue is full or the server goes down.
        """
        now = time.monotonic()
        item = _Waiting(job, Future(), now, now + seconds)
        with self._changed:
            if self._closing:
                raise not_ready("The server is going down.")
            self._check(job.rows)
            self._queue.append(item)
            self._rows += job.rows
            self._changed.notify()
        item.future.add_done_callback(lambda future: self._left(item) if future.cancelled() else None)
        return item.future

    @contextmanager
    def room(self, rows: int) -> Generator[None]:
        """Room in the queue for images that are being decoded: they count as waiting. Raises Refused as `submit`."""
        with self._changed:
            self._check(rows)
            self._decoding += rows
        try:
            yield
        finally:
            with self._changed:
                self._decoding -= rows

    def _check(self, rows: int) -> None:
        taken = self._rows + self._decoding
        if taken and taken + rows > self._queueing.most_waiting:
            raise busy(taken)

    def _left(self, item: _Waiting) -> None:
        """Give back the room of a request that nobody waits for any more."""
        with self._changed:
            if item in self._queue:
                self._queue.remove(item)
                self._rows -= item.job.rows
                self._changed.notify()

    @property
    def waiting(self) -> int:
        """Images in the queue, and those that are being decoded for it."""
        return self._rows + self._decoding

    def close(self, seconds: float = 30.0) -> None:
        """Answer all that waits, then stop; what is not answered within `seconds` is left."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            live = [item for item in batch if self._claim(item)]
            if live:
                self._compute(live)

    def _next(self) -> list[_Waiting] | None:
        """The next batch, or None when there will be none."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return None
                if self._crowded or len(self._queue) > 1:
                    patience = self._queue[0].since + self._queueing.delay - time.monotonic()
                    self._changed.wait_for(lambda: self._rows >= self._queueing.most_rows or self._closing, patience)
                if self._queue:  # all of them may have gone meanwhile
                    break
            batch = [self._pop()]
            rows = batch[0].job.rows
            while self._queue and rows + self._queue[0].job.rows <= self._queueing.most_rows:
                batch.append(self._pop())
                rows += batch[-1].job.rows
            self._crowded = len(batch) > 1
            return batch

    def _pop(self) -> _Waiting:
        item = self._queue.popleft()
        self._rows -= item.job.rows
        return item

    def _claim(self, item: _Waiting) -> bool:
        """Whether somebody still waits for it."""
        if not item.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() < item.deadline:
            return True
        item.future.set_exception(late(1000 * (item.deadline - item.since)))
        return False

    def _compute(self, batch: Sequence[_Waiting]) -> None:
        began = time.monotonic()
        try:
            outputs, work = self._run([item.job for item in batch])
        except BaseException as error:
            if len(batch) > 1:  # whose fault it is shows when each is computed alone
                for item in batch:
                    self._compute([item])
            else:
                batch[0].future.set_exception(error)
            return
        seconds = time.monotonic() - began
        for item, logits in zip(batch, outputs, strict=True):
            item.future.set_result(Answer(logits, began - item.since, seconds))
        self._heard(Batch(len(batch), sum(item.job.rows for item in batch), seconds, work))
