"""Running the app: one plain uvicorn process on one socket, which drains when it is told to stop."""

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from mutant import backend
from mutant.serving.app import build
from mutant.serving.front import Front
from mutant.serving.heads import BoundedProtocol
from mutant.serving.logs import log_to
from mutant.serving.service import Service
from mutant.serving.settings import ServeSettings
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

DRAIN_SECONDS = 30
HEARD_SECONDS = 0.25
"""How long new requests are still heard after the signal: what had been sent when it came is on its way in."""
_HOST = "This machine's own address is 127.0.0.1; 0.0.0.0 is all of its addresses."


def serve(store: Store, settings: ServeSettings, told: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGINT or SIGTERM, then answer what was asked before. `told` hears the address once it is bound.

    Raises UserError when an address cannot be bound, or is open to others without keys.
    """
    backend.compute_at_once()
    service = Service(store, settings)
    settings.check(keys=bool(service.gate.keys))
    with _bound(settings.host, settings.port) as listening:
        log_to(sys.stderr)
        front = build(service)
        with _stopping_quietly():
            _Server(configured(front, settings), front, lambda: told(_url(listening, settings.host))).run([listening])
    logging.getLogger("mutant.serving").info("stopped")


def configured(front: Front, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn runs the app."""
    return uvicorn.Config(
        front,
        log_config=None,
        access_log=False,
        server_header=False,
        http=BoundedProtocol,
        ws="none",
        proxy_headers=settings.proxies is not None,
        forwarded_allow_ips=settings.proxies or "",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
    )


class _Server(uvicorn.Server):
    """Tells its address when gRPC, where it is asked for, is bound as well; hears what was sent before it stops."""

    def __init__(self, config: uvicorn.Config, front: Front, told: Callable[[], None]) -> None:
        super().__init__(config)
        self._front, self._told = front, told

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        if self._front.grpc is not None:
            await self._front.grpc.start()
        self._told()
        await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(HEARD_SECONDS)
        await super().shutdown(sockets)


@contextmanager
def _stopping_quietly() -> Generator[None]:
    """uvicorn drains, and then raises the signal that stopped it once more: that one is not heard."""

    def heard(number: int, frame: FrameType | None) -> None:
        """It has done its work by now."""

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"Cannot listen on '{host}': {error.strerror or error}.", hint=_HOST) from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} of '{host}' is in use.", hint="Take another: --port 0 finds one.") from error
        raise UserError(f"Cannot listen on '{host}', port {port}: {error.strerror or error}.", hint=_HOST) from error
    return listening


def _url(listening: socket.socket, host: str) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
