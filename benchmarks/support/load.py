"""A load of closed-loop clients over loopback: raw HTTP/1.1 on kept connections, so that the client costs little."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

PATIENCE = 60.0
"""Seconds after which a request without an answer is lost."""
SHOWN = 10
"""Wrong answers that are kept to be looked at."""


class Answer(NamedTuple):
    """The status and body of an answer; `asked` is when its request was sent first (`time.perf_counter`)."""

    status: int
    body: bytes
    asked: float


def fine(answer: Answer) -> bool:
    """Whether it is an answer at all."""
    return answer.status == 200


@dataclass(frozen=True)
class Ask:
    """A request as bytes, whether an answer to it is as it should be, and the route by which answers are counted."""

    request: bytes
    right: Callable[[Answer], bool] = fine
    route: str = ""


@dataclass
class Load:
    """What clients saw: latencies in seconds, answers by route, and the time it took.

    `wrong` answers are not as expected (a 5xx is one), `lost` are requests that got none: the connection broke, or
    nothing came. Where requests are sent again after either, `again` counts how often, and lost are those that had no
    answer after `PATIENCE` seconds. Wrong answers have a latency too; lost requests have none.
    """

    latencies: list[float] = field(default_factory=list[float])
    answers: Counter[str] = field(default_factory=Counter[str])
    wrong: int = 0
    lost: int = 0
    again: int = 0
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list[str])
    """The first wrong answers and lost requests, in words."""

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, q: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.latencies, q)) * 1000

    def count(self, ask: Ask, answer: Answer | None) -> None:
        """Count what came of a request; None: nothing."""
        if answer is None:
            self.lost += 1
            self._note(f"{ask.route} lost")
            return
        self.latencies.append(time.perf_counter() - answer.asked)
        self.answers[ask.route] += 1
        if not ask.right(answer):
            self.wrong += 1
            self._note(f"{ask.route} {answer.status} {answer.body[:200]!r}")

    def add(self, other: "Load") -> None:
        """Take in what other clients saw after these."""
        self.latencies += other.latencies
        self.answers += other.answers
        self.wrong, self.lost, self.again = self.wrong + other.wrong, self.lost + other.lost, self.again + other.again
        self.seconds += other.seconds
        for words in other.seen:
            self._note(words)

    def _note(self, words: str) -> None:
        if len(self.seen) < SHOWN:
            self.seen.append(words)


def request(path: str, body: bytes, headers: str = "") -> bytes:
    """A POST request as bytes."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def infer(model: str, images: np.ndarray) -> bytes:
    """A binary request of the Open Inference Protocol for pixels uint8 [n, S, S, 3]; the answer is binary logits.

    `model` is a task, or TASK/versions/VERSION.
    """
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    tensor["parameters"] = {"binary_data_size": images.nbytes}
    wanted = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    return request(
        f"/v2/models/{model}/infer", head + images.tobytes(), f"Inference-Header-Content-Length: {len(head)}\r\n"
    )


def run(port: int, asks: Iterator[Ask], clients: int, seconds: float, *, resend: bool = False) -> Load:
    """`clients` that take one request after the other from `asks` for `seconds`.

    `resend`: a request that was answered with 5xx or lost is sent again, for replicas that are killed. Otherwise every
    request is sent once.
    """
    load = Load()
    asyncio.run(_all(port, asks, clients, seconds, load, resend))
    return load


def ask_once(port: int, sent: bytes) -> Answer | None:
    """The answer to one request on a connection of its own; None when there is none. For a thread beside a load."""

    async def alone() -> Answer | None:
        client = _Client(port)
        try:
            return await client.ask(sent)
        finally:
            client.close()

    return asyncio.run(alone())


async def _all(port: int, asks: Iterator[Ask], clients: int, seconds: float, load: Load, resend: bool) -> None:
    began = time.perf_counter()
    await asyncio.gather(*(_one(port, asks, began + seconds, load, resend) for _ in range(clients)))
    load.seconds = time.perf_counter() - began


async def _one(port: int, asks: Iterator[Ask], ends: float, load: Load, resend: bool) -> None:
    client = _Client(port)
    while time.perf_counter() < ends:
        ask = next(asks)
        asked = time.perf_counter()
        answer = await client.ask(ask.request)
        while resend and (answer is None or answer.status >= 500) and time.perf_counter() - asked < PATIENCE:
            load.again += 1
            client.close()
            await asyncio.sleep(0.02)
            answer = await client.ask(ask.request)
        load.count(ask, answer and answer._replace(asked=asked))
        if answer is None:
            await asyncio.sleep(0.02)  # a server that is gone is not asked as fast as one can
    client.close()


class _Client:
    """A connection that is kept, and opened again when it has to be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, sent: bytes) -> Answer | None:
        """The answer; None when the connection broke, or nothing came."""
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                head, body = await self._asked(sent)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, ValueError):
            self.close()
            return None
        if b"\r\nconnection: close" in head:
            self.close()
        return Answer(int(head[9:12]), body, asked)

    async def _asked(self, sent: bytes) -> tuple[bytes, bytes]:
        """Head, in small letters, and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return head, await reader.readexactly(length)
