"""Serving: `mutant serve`, and the keys to it: `mutant keys`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mutant.cli.display import emit, fixed, right, say, table, tell
from mutant.cli.options import Db, Json
from mutant.cli.words import parse_size
from mutant.tasks.errors import UserError, missing_extra

if TYPE_CHECKING:
    from mutant.serving.settings import ServeSettings
    from mutant.storage.store import Store

PANEL = "Using"
_LIMITS = "Limits"
keys_app = typer.Typer(help="Keys to the server: add, list, rm.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(serve)
    app.add_typer(keys_app, name="keys", rich_help_panel=PANEL)


def serve(  # noqa: PLR0913  # each is an option
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 finds a free one.")] = 8000,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Images of one batch.")] = 16,
    max_delay: Annotated[
        float, typer.Option(min=0, max=1000, metavar="MS", help="How long a batch waits for company.")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=_LIMITS, help="Images that may wait; more get 429.")
    ] = 256,
    deadline: Annotated[
        float, typer.Option(min=0.001, metavar="S", rich_help_panel=_LIMITS, help="Seconds to answer in, else 504.")
    ] = 10.0,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", rich_help_panel=_LIMITS, help="Bytes of a request, else 413.")
    ] = "16MiB",
    max_pixels: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=_LIMITS, help="Pixels of an image, else 413.")
    ] = 64_000_000,
    max_images: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=_LIMITS, help="Images of a request, else 413.")
    ] = 64,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", rich_help_panel=_LIMITS, help="Requests a second of each key or address."),
    ] = None,
    refresh: Annotated[
        float, typer.Option(min=0.05, metavar="S", help="Seconds between looks at the database for new tasks.")
    ] = 1.0,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve beyond this machine though there are no keys.")
    ] = False,
    forwarded_allow_ips: Annotated[
        str | None,
        typer.Option(metavar="IPS", help="Reverse proxies that are believed when they name a client's address."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Serve by N processes of a Ray cluster (extra replicas), not by one."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --replicas: the cluster to join (else one is started).")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Serve the protocol over gRPC on this port too (extra grpc)."),
    ] = None,
    db: Db = None,
) -> None:
    """Serve every task from one process: Open Inference Protocol v2, images by upload, and a page."""
    try:
        import fastapi  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import prometheus_client  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import python_multipart  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import uvicorn  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise missing_extra(error.name or "fastapi", "serve") from error
    from mutant.serving.batching import Queueing
    from mutant.serving.server import serve as run
    from mutant.serving.settings import ServeSettings
    from mutant.storage.store import Store

    settings = ServeSettings(
        host=host,
        port=port,
        queueing=Queueing(max_batch, max_delay / 1000, max_queue),
        deadline=deadline,
        most_bytes=parse_size(max_body, option="--max-body"),
        most_pixels=max_pixels,
        most_images=max_images,
        rate=rate,
        refresh=refresh,
        open_to_all=allow_anonymous,
        grpc_port=grpc_port,
        proxies=forwarded_allow_ips,
    )
    if ray_address is not None and replicas is None:
        raise UserError("--ray-address goes with --replicas.", hint="Say how many: --replicas 2")
    with Store.open(db, read_only=True) as store:
        if replicas is not None:
            _serve_replicas(store, settings, replicas, ray_address)
            return
        run(store, settings, lambda url: tell(f"Serving {url} until Ctrl-C. Log: one JSON object per line."))


def _serve_replicas(store: "Store", settings: "ServeSettings", replicas: int, address: str | None) -> None:
    """Check what one process would check, then let Ray Serve do it."""
    from mutant.storage import keys

    settings.check(keys=bool(keys.load(store)))
    for option, given, hint in (
        ("--port 0", settings.port == 0, "Name a port: --port 8000"),
        ("--grpc-port", settings.grpc_port is not None, "Serve gRPC by one process."),
        ("--forwarded-allow-ips", settings.proxies is not None, "Ray Serve's own proxy is before the replicas."),
    ):
        if given:
            raise UserError(f"{option} does not go with --replicas.", hint=hint)
    try:
        from mutant.cli.replicas import serve_replicas
    except ImportError as error:
        raise missing_extra(error.name or "ray[serve]", "replicas") from error
    tell(f"Starting {replicas} replicas on Ray; this takes half a minute.")
    serve_replicas(store, settings, replicas, address, tell)


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for.")],
    scope: Annotated[
        Literal["read", "admin"], typer.Option(help="read: ask; admin: remove tasks and bring them back too.")
    ] = "read",
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Requests a second (else the server's --rate).")
    ] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once: the database keeps only a hash of it."""
    from mutant.storage import keys
    from mutant.storage.store import Store

    with Store.open(db) as store:
        made = keys.make(store, name, scope, rate)
    if as_json:
        emit({"name": name, "scope": scope, "rate": rate, "key": made})
        return
    say(made)
    tell(f"This is the key '{name}', shown this once. Send it as: Authorization: Bearer {made[:12]}...")


@keys_app.command("list")
def list_keys(db: Db = None, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    from mutant.cli.opening import reading
    from mutant.storage import keys

    with reading(db) as store:
        found = keys.load(store)
    if as_json:
        emit(
            [{"name": k.name, "id": k.id, "scope": k.scope, "rate": k.rate, "created_at": k.created_at} for k in found]
        )
        return
    if not found:
        say("There are no keys: whoever reaches the server may ask it. Next: mutant keys add NAME")
        return
    table(
        ["name", fixed("id"), "scope", right("requests/s"), "made"],
        (
            [k.name, k.id, k.scope, "" if k.rate is None else f"{k.rate:g}", f"{k.created_at:%Y-%m-%d %H:%M}"]
            for k in found
        ),
    )


@keys_app.command("rm")
def remove_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See: mutant keys list")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Take a key back: running servers refuse it within a second or two."""
    from mutant.storage import keys
    from mutant.storage.store import Store

    with Store.open(db) as store:
        keys.take_back(store, name)
        last = not keys.load(store)
    if as_json:
        emit({"name": name, "taken_back": True, "last": last})
        return
    say(f"Key '{name}' is taken back.")
    if last:
        say("It was the last one: a server that listens to this machine alone answers without a key now.")
