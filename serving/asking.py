"""From encoded or raw images to logits: decoding off the event loop, the queue, the deadline, a client that goes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import Request

from mutant.serving.batching import Answer
from mutant.serving.decoding import Decoder, ImageLimits, Pixels
from mutant.serving.engine import Job
from mutant.serving.lanes import Lane
from mutant.serving.refusals import Refused, late, too_many
from mutant.serving.served import Served
from mutant.serving.service import Service

T = TypeVar("T")
_MOST_READS = 64
_MOST_CHANGES = 16
_MOST_LOADS = 16
_SMALL_BODY = 2**15
"""Bytes of a body that is parsed at once, in a millisecond or two."""


class ClientGone(Exception):
    """The client went before its answer was there."""


@dataclass(frozen=True)
class Question:
    """What a request asks: for these images (encoded, or pixels uint8 [h, w, 3]) the answers of these paths."""

    paths: Sequence[Served]
    images: Sequence[bytes | Pixels]
    seconds: float


class Asker:
    """Puts questions to the service; its threads do other things than the event loop.

    Decoding, parsing, reading the database, for models or for the page, bringing older versions onto the device, and
    changing the database have threads of their own: none waits for another kind.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        limits = ImageLimits(settings.most_bytes, settings.most_pixels, settings.most_pixels_in_all)
        self._decoder = Decoder(limits)
        self._parser = Lane("parser", 1, _MOST_READS)
        self._reader = Lane("reader", 2, _MOST_READS)
        self._viewer = Lane("viewer", 2, _MOST_READS)
        self._loader = Lane("loader", 1, _MOST_LOADS)
        self._changer = Lane("changer", 1, _MOST_CHANGES)

    def close(self) -> None:
        lanes = (self._parser, self._reader, self._viewer, self._loader, self._changer)
        for one in (self._decoder, *lanes):
            one.close()

    def seconds(self, milliseconds: float | None) -> float:
        """A request's deadline: what it gives, at most the server's own."""
        most = self.service.settings.deadline
        return most if milliseconds is None else min(most, milliseconds / 1000)

    async def version(self, task: str, version: str | None) -> Served:
        """A task's model, or one version of it; raises Refused.

        The database is asked for another version than the best only, and who asks for one that is on the device waits
        for none that is loaded or compiled.
        """
        snapshot, loader = self.service.snapshot, self.service.loader
        if version is None:
            return snapshot.task(task)
        current = snapshot.current(task, version)
        if current is not None:
            return current
        found = await self.reading(loader.find, snapshot, task, version)
        return found if isinstance(found, Served) else await self._within_deadline(self._loader, loader.load, found)

    async def reading(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call what reads the database; raises Refused (429, 504)."""
        return await self._within_deadline(self._reader, call, *arguments)

    async def viewing(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call what reads the database for the page, which can take longer; raises Refused (429, 504)."""
        return await self._within_deadline(self._viewer, call, *arguments)

    async def parsing(self, n_bytes: int, call: Callable[..., T], *arguments: Any) -> T:
        """Call what parses a body of `n_bytes`, off the event loop when it is large; raises Refused (429, 504)."""
        if n_bytes <= _SMALL_BODY:
            return call(*arguments)
        return await self._within_deadline(self._parser, call, *arguments)

    async def changing(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call what changes the database, one after the other, each to its end; raises Refused (429)."""
        return await self._changer.run(None, call, *arguments)

    async def _within_deadline(self, lane: Lane, call: Callable[..., T], *arguments: Any) -> T:
        seconds = self.service.settings.deadline
        try:
            return await lane.run(seconds, call, *arguments)
        except TimeoutError as error:
            raise late(1000 * seconds) from error

    async def ask(self, question: Question, gone: "asyncio.Future[None]") -> Answer:
        """The answer. Raises Refused (413, 422, 429, 503, 504), and ClientGone when `gone` is done before.

        `gone` is cancelled at the end.
        """
        try:
            return await self._ask(question, gone)
        finally:
            gone.cancel()

    async def _ask(self, question: Question, gone: "asyncio.Future[None]") -> Answer:
        if not question.images:
            raise Refused(422, "There is no image in the request.")
        if len(question.images) > self.service.settings.most_images:
            raise too_many(len(question.images), self.service.settings.most_images)
        ends = time.monotonic() + question.seconds
        if _is_ready(question):
            prepared = {question.paths[0].image_size: np.stack(list(question.images))}
        else:
            prepared = await self._prepared(question, ends, gone)
        left = ends - time.monotonic()
        if left <= 0:
            raise late(1000 * question.seconds)
        waiting = asyncio.wrap_future(self.service.batcher.submit(Job(tuple(question.paths), prepared), left))
        if not await _done(waiting, gone, left):
            raise late(1000 * question.seconds)
        return waiting.result()

    async def _prepared(self, question: Question, ends: float, gone: "asyncio.Future[None]") -> dict[int, Pixels]:
        sizes = sorted({path.image_size for path in question.paths})
        with self.service.batcher.room(len(question.images)):
            work = self._decoder.prepared(question.images, sizes, ends, question.seconds)
            decoding = asyncio.ensure_future(work)
            await _done(decoding, gone, None)
            return decoding.result()


async def _done(work: "asyncio.Future[Any]", gone: "asyncio.Future[None]", seconds: float | None) -> bool:
    """Whether the work is done within `seconds`; raises ClientGone. What is not done at the end is cancelled."""
    try:
        await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and gone.done():
            raise ClientGone
        return work.done()
    finally:
        if not work.done():
            work.cancel()


def _is_ready(question: Question) -> bool:
    """Whether the images need neither be decoded nor resized, so that another thread would only cost time."""
    sizes = {path.image_size for path in question.paths}
    return all(not isinstance(image, bytes) and {*image.shape[:2]} == sizes for image in question.images)


def watched(request: Request) -> "asyncio.Future[None]":
    """Done when the request's client has gone; its body must have been read before."""
    return asyncio.ensure_future(_disconnected(request))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
