"""Threads for what would block the event loop: a few of each kind, with a bounded queue before them and a deadline."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mutant.serving.refusals import Refused, not_ready

T = TypeVar("T")


class Lane:
    """`threads` threads, and at most `most` calls that run or wait for one (None: the caller bounds them)."""

    def __init__(self, name: str, threads: int, most: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._name, self._most = name, most
        self._lock = threading.Lock()
        self._calls = 0

    async def run(self, seconds: float | None, call: Callable[..., T], *arguments: Any) -> T:
        """What a call gives; raises TimeoutError after `seconds`, and Refused when too many wait (429).

        A call that nobody waits for any more is dropped if it has not begun, else it runs to its end.
        """
        future = self._submitted(call, *arguments)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
            if waiting.done():
                return waiting.result()
            raise TimeoutError
        finally:
            if not waiting.done():
                waiting.cancel()

    def _submitted(self, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        with self._lock:
            if self._most is not None and self._calls >= self._most:
                raise Refused(429, "Too many requests of this kind wait.", "Try again soon.", {"Retry-After": "2"})
            self._calls += 1
        try:
            future = self._pool.submit(call, *arguments)
        except RuntimeError as error:  # it is closed
            raise not_ready("The server is going down.") from error
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: "Future[Any]") -> None:
        with self._lock:
            self._calls -= 1

    def close(self) -> None:
        """Take nothing new; what has begun goes on by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
