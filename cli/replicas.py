"""`mutant serve --replicas N`: the same app in N processes of a Ray cluster, behind Ray Serve's proxies.

Beside the search's two files the only one that imports Ray: serving itself never does. A Ray that was started here ends
with this process, however that ends; of a cluster that was joined only what was put there is taken away.
"""

# Ray's functions take keyword arguments without types.
# pyright: reportUnknownMemberType=false

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import context
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException

from mutant import backend
from mutant.cli.replica_logs import FILES, handler, heard
from mutant.search.ray_places import reserving, unit
from mutant.search.ray_start import last_line, start
from mutant.serving.app import build
from mutant.serving.logs import log_by
from mutant.serving.server import DRAIN_SECONDS
from mutant.serving.service import Service
from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

NAME = "mutant"
_ray: Any = ray
_ray_serve: Any = serve
_context: Any = context


def serve_replicas(
    store: Store, settings: ServeSettings, replicas: int, address: str | None, told: Callable[[str], None]
) -> None:
    """Serve a database by `replicas` processes until SIGINT or SIGTERM, then answer what was asked before.

    `address` names a cluster to join, None starts Ray on this machine. `told` hears what people should know: the
    address, once they answer, and where the log is. Raises UserError when the cluster cannot be joined, is open to
    others without keys, or a replica does not come up.
    """
    stopped = threading.Event()
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    with ExitStack() as ending:
        ending.callback(_heard_as, before)
        watchdog = start(replicas + 1, address, runtime_env={"env_vars": backend.worker_environment()})
        pipe: Path | None = None
        if watchdog is not None:
            pipe = ending.enter_context(heard(watchdog.place))
            ending.callback(watchdog.end)
        ending.callback(_ray.shutdown)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        try:
            settings = _listening(settings, told)
            if watchdog is not None:
                ending.callback(_ray_serve.shutdown)
            settings.check(keys=bool(keys.load(store)))
            ending.callback(_take_away, told)
            url = store.url.render_as_string(hide_password=False)
            deployed: Any = _ray_serve.deployment(_ray_serve.ingress(_builder(url, settings, replicas, pipe))())
            options = _options(replicas, unit(local=address is None))
            serve.run(deployed.options(name=NAME, **options).bind(), name=NAME, blocking=False)
        except RayServeException as error:
            raise UserError(
                f"Ray Serve does not take the replicas: {last_line(error)}",
                hint="Delete the application that is there, or join another cluster.",
            ) from error
        except (RuntimeError, RayError, TimeoutError) as error:  # on a busy machine Serve gives up its own waiting
            raise UserError(
                f"The replicas did not come up: {last_line(error)}",
                hint="Try again when the machine has less to do, or without --replicas to see why.",
            ) from error
        # Now, because Ray sets handlers of its own when it starts.
        before |= {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        log = "one JSON object per line" if pipe else f"{_logs() / FILES.format('*')} on the replicas' machines"
        told(f"Serving http://{settings.host}:{settings.port} by {replicas} replicas until Ctrl-C. Log: {log}.")
        stopped.wait()


def service_of_replica(url: str, settings: ServeSettings, replicas: int) -> Service:
    """What is behind one of so many replicas: it opens the database itself, and is warm before it takes requests."""
    backend.compute_at_once()
    service = Service(Store.open(url, read_only=True), replace(settings, processes=replicas))
    service.look()
    return service


def _listening(settings: ServeSettings, told: Callable[[str], None]) -> ServeSettings:
    """Start Serve; the settings with the address where its proxies are, which is another's where it ran already."""
    serve.start(proxy_location="EveryNode", http_options=HTTPOptions(host=settings.host, port=settings.port))
    there: Any = _context._get_global_client().http_config
    if not there.host:
        raise UserError("Serve already runs on this cluster, without HTTP.", hint="End it there: serve shutdown")
    if (there.host, there.port) != (settings.host, settings.port):
        told(
            f"Serve already runs on this cluster and listens on {there.host}, port {there.port}: "
            f"that holds, not {settings.host}, port {settings.port}."
        )
    if NAME in serve.status().applications:
        told(f"This cluster serves an application '{NAME}' already: these replicas take its place.")
    return replace(settings, host=there.host, port=there.port)


def _options(replicas: int, place: str) -> dict[str, Any]:
    """Of the deployment: each replica reserves what a worker of the search does."""
    return {
        "num_replicas": replicas,
        "ray_actor_options": reserving(place, replicas),
        "max_ongoing_requests": 1000,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS,
    }


def _take_away(told: Callable[[str], None]) -> None:
    """Delete our application, and wait until its replicas have answered what they were asked.

    The proxies must run until then: the answers go through them.
    """
    try:
        serve.delete(NAME)
    except (RayError, RayServeException, TimeoutError) as error:
        told(f"The replicas may not have ended well: {last_line(error)}")


def _heard_as(handlers: Mapping[int, Any]) -> None:
    for number, handler_ in handlers.items():
        signal.signal(number, handler_)


def _logs() -> Path:
    """Where Ray puts the logs of this machine."""
    here: Any = ray.get_runtime_context()
    return Path(here.get_temp_dir()) / here.get_session_name() / "logs"


def _builder(url: str, settings: ServeSettings, replicas: int, pipe: Path | None) -> Callable[[], Any]:
    """What a replica calls to make its app."""

    def build_replica() -> Any:
        log_by(handler(pipe, _logs()))
        return build(service_of_replica(url, settings, replicas))

    return build_replica
