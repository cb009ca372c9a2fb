"""From encoded or raw images to logits: decoding off the event loop, the queue, the deadline, a client that goes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import Request

from mutant.serving.batching import Answer
from mutant.serving.engine import Job
from mutant.serving.refusals import Refused, late
from mutant.serving.served import Served
from mutant.serving.service import Service
from mutant.tasks.images import ImageError, decode
from mutant.tasks.limits import Limits
from mutant.tasks.preprocess import prepare

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
T = TypeVar("T")
_DECODERS = 2


class ClientGone(Exception):
    """The client went before its answer was there."""


@dataclass(frozen=True)
class Question:
    """What a request asks: for these images (encoded, or pixels uint8 [h, w, 3]) the answers of these paths."""

    paths: Sequence[Served]
    images: Sequence[bytes | Pixels]
    seconds: float


class Asker:
    """Puts questions to the service; its threads decode images while the event loop does other things."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._threads = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def seconds(self, milliseconds: float | None) -> float:
        """A request's deadline: what it gives, at most the server's own."""
        most = self.service.settings.deadline
        return most if milliseconds is None else min(most, milliseconds / 1000)

    async def version(self, task: str, version: str | None) -> Served:
        """A task's model, or one version of it; raises Refused."""
        if version is None:
            return self.service.snapshot.task(task)
        return await self.in_thread(self.service.version, task, version)

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call what would block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def ask(self, question: Question, gone: "asyncio.Future[None]") -> Answer:
        """The answer. Raises Refused (413, 422, 429, 503, 504), and ClientGone when `gone` is done before.

        `gone` is cancelled at the end.
        """
        try:
            return await self._ask(question, gone)
        finally:
            gone.cancel()

    async def _ask(self, question: Question, gone: "asyncio.Future[None]") -> Answer:
        settings = self.service.settings
        if not question.images:
            raise Refused(422, "There is no image in the request.")
        if len(question.images) > settings.most_images:
            raise Refused(413, f"{len(question.images)} images are more than the {settings.most_images} of a request.")
        ends = time.monotonic() + question.seconds
        job = self._job(question) if _is_ready(question) else await self.in_thread(self._job, question)
        left = ends - time.monotonic()
        if left <= 0:
            raise late(1000 * question.seconds)
        future = self.service.batcher.submit(job, left)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait({waiting, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if gone.done():
                raise ClientGone
            raise late(1000 * question.seconds)
        finally:
            if not waiting.done():
                waiting.cancel()

    def _job(self, question: Question) -> Job:
        limits = Limits(max_pixels=self.service.settings.most_pixels, max_bytes=self.service.settings.most_bytes)
        sizes = sorted({path.image_size for path in question.paths})
        pixels = [_decoded(image, number, limits) for number, image in enumerate(question.images)]
        return Job(tuple(question.paths), {size: np.stack([prepare(one, size) for one in pixels]) for size in sizes})


def _is_ready(question: Question) -> bool:
    """Whether the images need neither be decoded nor resized, so that another thread would only cost time."""
    sizes = {path.image_size for path in question.paths}
    return all(not isinstance(image, bytes) and {*image.shape[:2]} == sizes for image in question.images)


def _decoded(image: bytes | Pixels, number: int, limits: Limits) -> Pixels:
    if not isinstance(image, bytes):
        return image
    try:
        return decode(image, limits)
    except ImageError as error:
        status = 413 if "limit" in error.message else 422
        raise Refused(status, f"Image {number + 1} cannot be used: {error.message}", error.hint) from error


def watched(request: Request) -> "asyncio.Future[None]":
    """Done when the request's client has gone; its body must have been read before."""
    return asyncio.ensure_future(_disconnected(request))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
