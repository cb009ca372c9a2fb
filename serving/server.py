"""Running the app: one plain uvicorn process on one socket, which drains when it is told to stop."""

import errno
import logging
import socket
import sys
from collections.abc import Callable

import uvicorn

from mutant.serving.app import build
from mutant.serving.logs import log_to
from mutant.serving.service import Service
from mutant.serving.settings import ServeSettings
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

DRAIN_SECONDS = 30


def serve(store: Store, settings: ServeSettings, told: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGINT or SIGTERM, then answer what was asked before. `told` hears the address once it is bound.

    Raises UserError when the address cannot be bound, or is open to others without keys.
    """
    service = Service(store, settings)
    settings.check(keys=bool(service.gate.keys))
    with _bound(settings.host, settings.port) as listening:
        log_to(sys.stderr)
        told(_url(listening, settings.host))
        config = uvicorn.Config(
            build(service),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        )
        uvicorn.Server(config).run(sockets=[listening])
    logging.getLogger("mutant.serving").info("stopped")


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} of '{host}' is in use.", hint="Take another: --port 0 finds one.") from error
        raise UserError(f"Cannot listen on '{host}' port {port}: {error.strerror or error}.") from error
    return listening


def _url(listening: socket.socket, host: str) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
