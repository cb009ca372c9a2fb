"""A load of closed-loop clients over loopback: raw HTTP/1.1 on kept connections, so that the client costs little."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """What clients saw: latencies in seconds, answers that were not 200 or not as expected, and the time it took.

    `again` counts requests that were sent again because a server failed (5xx, or a connection that broke).
    """

    latencies: list[float] = field(default_factory=list[float])
    wrong: int = 0
    again: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, q: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.latencies, q)) * 1000


def request(path: str, body: bytes, headers: str = "") -> bytes:
    """A POST request as bytes."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def infer(task: str, images: np.ndarray) -> bytes:
    """A binary request of the Open Inference Protocol for pixels uint8 [n, S, S, 3]; the answer is binary logits."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    tensor["parameters"] = {"binary_data_size": images.nbytes}
    wanted = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    return request(
        f"/v2/models/{task}/infer", head + images.tobytes(), f"Inference-Header-Content-Length: {len(head)}\r\n"
    )


Right = Callable[[int, bytes], bool]
"""Whether the body of an answer to the request of this index is as it should be."""


def run(port: int, requests: Sequence[bytes], clients: int, seconds: float, right: Right = lambda *_: True) -> Load:
    """`clients` that each ask one of `requests` after the other for `seconds`."""
    load = Load()
    asyncio.run(_all(port, requests, clients, seconds, right, load))
    return load


async def _all(port: int, requests: Sequence[bytes], clients: int, seconds: float, right: Right, load: Load) -> None:
    began = time.perf_counter()
    turn = itertools.count()
    await asyncio.gather(*(_one(port, requests, began + seconds, turn, right, load) for _ in range(clients)))
    load.seconds = time.perf_counter() - began


async def _one(
    port: int, requests: Sequence[bytes], ends: float, turn: Iterator[int], right: Right, load: Load
) -> None:
    connection = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < ends:
        index = next(turn) % len(requests)
        asked = time.perf_counter()
        while (answer := await _asked(connection, requests[index])) is None:
            load.again += 1
            connection[1].close()
            await asyncio.sleep(0.02)
            connection = await asyncio.open_connection("127.0.0.1", port)
        load.latencies.append(time.perf_counter() - asked)
        if not answer[0].startswith(b"HTTP/1.1 200") or not right(index, answer[1]):
            load.wrong += 1
    connection[1].close()


async def _asked(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes
) -> tuple[bytes, bytes] | None:
    """Head and body of an answer; None when the server failed."""
    reader, writer = connection
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError, IndexError):
        return None
    return None if head[9:10] == b"5" else (head, body)
