"""`mutant serve --replicas N`: the same app in N processes of a Ray cluster, behind Ray Serve's proxies.

Beside the search's two files the only one that imports Ray: serving itself never does. A Ray that was started here ends
with this process, however that ends.
"""

# Ray's functions take keyword arguments without types.
# pyright: reportUnknownMemberType=false

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from mutant import backend
from mutant.search.ray_start import start
from mutant.search.watchdog import Watchdog
from mutant.serving.settings import ServeSettings
from mutant.tasks.errors import UserError

NAME = "mutant"
_ray_serve: Any = serve


def serve_replicas(
    url: str, settings: ServeSettings, replicas: int, address: str | None, told: Callable[[str], None]
) -> None:
    """Serve the database `url` by `replicas` processes until SIGINT or SIGTERM, then drain them.

    `address` names a cluster to join, None starts Ray on this machine. `told` hears the address once they answer.
    Raises UserError when the cluster cannot be joined or a replica does not come up.
    """
    stopped = threading.Event()
    before: dict[int, Any] = {}
    watchdog: Watchdog | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    try:
        watchdog = start(replicas + 1, address, runtime_env={"env_vars": backend.worker_environment()})
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="EveryNode", http_options=HTTPOptions(host=settings.host, port=settings.port))
        deployed: Any = _ray_serve.deployment(_ray_serve.ingress(_builder(url, settings))())
        options = {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 1}, "max_ongoing_requests": 1000}
        serve.run(deployed.options(name=NAME, **options).bind(), name=NAME, blocking=False)
        # Now, because Ray sets handlers of its own when it starts.
        before |= {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        told(f"http://{settings.host}:{settings.port}")
        stopped.wait()
    except RuntimeError as error:
        raise UserError(
            f"The replicas did not come up: {error}", hint="Serve without --replicas to see why."
        ) from error
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
        if watchdog is not None:
            watchdog.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _builder(url: str, settings: ServeSettings) -> Callable[[], Any]:
    """What a replica calls to make its app: it opens the database itself, and is warm before it takes requests."""

    def build() -> Any:
        from mutant.serving.app import build as build_app
        from mutant.serving.service import Service
        from mutant.storage.store import Store

        backend.compute_at_once()
        service = Service(Store.open(url, read_only=True), settings)
        service.look()
        return build_app(service)

    return build
