"""Options that several commands share, and groups of them as frozen values."""

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutant.cli.words import parse_size
from mutant.tasks.errors import UserError

if TYPE_CHECKING:
    from mutant.activations.limits import CacheLimits
    from mutant.search.budget import Budget
    from mutant.search.config import Settings

_SETTINGS = "Settings of the run"
_ENGINE = "How it is worked off (no influence on the result, but for a budget that runs out)"
_ROOT = "The root"
_WEIGHTS = "Where weights lie (in the database, unless they are large)"
MOST_SEED = 2**63 - 1
MOST_PIXELS = 4096
"""The greatest width and height of images that a system can be started with."""


def _option(panel: str, metavar: str, text: str) -> Any:
    """An option named like its field, in a panel of the help."""
    return typer.Option(metavar=metavar, rich_help_panel=panel, help=text)


_setting, _engine, _root = (partial(_option, panel) for panel in (_SETTINGS, _ENGINE, _ROOT))


def _or_global(context: typer.Context, value: str | None) -> str | None:
    """The command's own `--db`, else the one before the command."""
    return value if value is not None else context.find_root().obj


Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        callback=_or_global,
        help="The system's database: a file or URL (default: MUTANT_DB, else mutant.db).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
NewSeed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, max=MOST_SEED, metavar="N", rich_help_panel=_SETTINGS, help="Seed of all randomness (0)."
    ),
]


@dataclass(frozen=True)
class RootOptions:
    """Which pretrained root a system starts from."""

    root: Annotated[str, _root("NAME", "See: mutant roots")]
    blocks: Annotated[
        int | None,
        typer.Option(min=0, metavar="K", rich_help_panel=_ROOT, help="Start with the first K encoder blocks (all)."),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_PIXELS, metavar="S", rich_help_panel=_ROOT, help="Pixels; small by default: 56 or 64."
        ),
    ] = None
    file: Annotated[Path | None, _root("FILE", "Read the weights from this file, fetch nothing.")] = None
    sha256: Annotated[str | None, _root("HEX", "Require the file to have this SHA-256.")] = None
    trust_first_use: Annotated[
        bool,
        typer.Option(
            "--trust-first-use", rich_help_panel=_ROOT, help="Accept a fetched file of unknown SHA-256 and record it."
        ),
    ] = False


@dataclass(frozen=True)
class WeightsOptions:
    """Where a new system's weights lie."""

    blobs: Annotated[
        str | None,
        typer.Option(
            "--blobs",
            metavar="PLACE",
            rich_help_panel=_WEIGHTS,
            help="Keep large ones there: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.",
        ),
    ] = None
    inline_limit: Annotated[
        str | None,
        typer.Option(
            "--inline-limit",
            metavar="SIZE",
            rich_help_panel=_WEIGHTS,
            help="Those of more bytes are large (64MiB; 1MiB with --blobs). 0: all.",
        ),
    ] = None


@dataclass(frozen=True)
class SettingOptions:
    """What decides the result of a run; what is not given comes from the file, the system, the preset."""

    config: Annotated[Path | None, _setting("FILE", "A TOML file of these settings.")] = None
    preset: Annotated[str | None, _setting("NAME", "See: mutant presets")] = None
    children: Annotated[int | None, _setting("N", "Children per segment.")] = None
    generation_size: Annotated[int | None, _setting("N", "Children drawn at a time.")] = None
    visits: Annotated[int | None, _setting("N", "Segments per task.")] = None
    validations: Annotated[int | None, _setting("N", "Validations per child.")] = None
    examples_per_validation: Annotated[
        int | None, _setting("N", "Training examples before each validation, at most.")
    ] = None
    batch: Annotated[int | None, _setting("N", "Examples per step.")] = None
    augmented_views: Annotated[int | None, _setting("N", "Fixed views of an augmented example; 0: always another.")] = (
        None
    )
    scale_factor: Annotated[float | None, _setting("S", "Score per root's worth of parameters; 1: no penalty.")] = None
    compute_factor: Annotated[float | None, _setting("S", "Score per root's worth of FLOPs; 1: no penalty.")] = None
    mutation_probability: Annotated[float | None, _setting("P", "Probability of a mutation to begin with.")] = None
    reach: Annotated[int | None, _setting("K", "Mutate only the top K blocks.")] = None

    halving: Annotated[
        int | None,
        _setting(
            "ETA", "Stop children below the top 1/ETA of earlier ones after 1, ETA, ETA^2, ... validations; 0: off."
        ),
    ] = None

    backprop: Annotated[
        str | None, _setting("HOW", "How far gradients travel: end-to-end, local, pairwise or N-wise (end-to-end).")
    ] = None
    groups: Annotated[int | None, _setting("K", "Groups of blocks among which they do (4, or as many as blocks).")] = (
        None
    )

    asynchronous: Annotated[
        bool | None,
        typer.Option(
            "--async/--no-async",
            show_default=False,
            rich_help_panel=_SETTINGS,
            help="Draw a child whenever a worker is free, and wait for no generation (--no-async).",
        ),
    ] = None

    gang: Annotated[int | None, _setting("N", "So many workers train each child together, data parallel (1).")] = None
    sharded: Annotated[
        bool | None,
        typer.Option("--sharded", rich_help_panel=_SETTINGS, help="A gang divides a child's parameters, too."),
    ] = None

    threads: Annotated[int | None, _setting("N", "XLA threads of each process that trains, a core each (1).")] = None

    def settings(self) -> "Settings":
        """These options over the file's settings, every value checked."""
        from mutant.search.config import Settings, check, read_settings

        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"}
        options = check(Settings(**given), where="the options")
        return options if self.config is None else options.over(read_settings(self.config))


@dataclass(frozen=True)
class EngineOptions:
    """Who does the work, and for how long."""

    workers: Annotated[str, _engine("auto|N", "1 trains in this process, more on Ray.")] = "auto"
    ray_address: Annotated[str | None, _engine("ADDRESS", "Join this Ray cluster.")] = None
    budget: Annotated[
        str | None,
        _engine(
            "AMOUNT",
            "Begin no more children after 10m or 2h30m of this call, or after 40children, 500TF (FLOPs) or 300ds "
            "(on the device) of the run; a segment gets one. Fewer children are another result.",
        ),
    ] = None

    cache_memory: Annotated[str | None, _engine("SIZE", "Memory of each host for activations: 512MiB, 2GiB, 0.")] = None
    cache_disk: Annotated[str | None, _engine("SIZE", "Disk of each host for what memory has no room.")] = None
    no_cache: Annotated[
        bool, typer.Option("--no-cache", rich_help_panel=_ENGINE, help="Keep no activations; compute them again.")
    ] = False

    pipeline: Annotated[
        bool,
        typer.Option(
            "--pipeline",
            rich_help_panel=_ENGINE,
            help="Workers share the groups of one child, where --backprop has a window of fewer than all.",
        ),
    ] = False

    patience: Annotated[
        str | None,
        _engine("TIME", "End a worker on Ray that makes no progress for so long (10m, more for big children)."),
    ] = None

    share: Annotated[
        float | None,
        _engine("W", "This run's weight among the runs that share the cluster and give one: 1 and 3 get 1:3 of it."),
    ] = None

    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="N",
            rich_help_panel=_ENGINE,
            help="Serve Prometheus metrics on this port meanwhile (extra serve).",
        ),
    ] = None
    metrics_address: Annotated[str, _engine("HOST", "Address for --metrics-port.")] = "127.0.0.1"

    @property
    def patient(self) -> float | None:
        """Seconds that a worker may make no progress; None chooses. Raises `UserError` for what is no time."""
        from mutant.search.budget import parse_time

        return None if self.patience is None else parse_time(self.patience, option="--patience")

    @property
    def seconds(self) -> float | None:
        """The budget of this call, in seconds; None without one."""
        budget = self._budget()
        return budget.amount if budget is not None and budget.of_the_call else None

    def over(self, settings: "Settings") -> "Settings":
        """The settings with the budget of the run, where it was given as an option."""
        budget = self._budget()
        return settings if budget is None or budget.of_the_call else replace(settings, budget=budget.text)

    def _budget(self) -> "Budget | None":
        from mutant.search.budget import parse_budget

        return None if self.budget is None else parse_budget(self.budget)

    @property
    def cache(self) -> "CacheLimits":
        """How much of activations each host keeps."""
        from mutant.activations.limits import OFF, CacheLimits

        if not self.no_cache:
            memory, disk = self.cache_memory, self.cache_disk
            return CacheLimits(
                None if memory is None else parse_size(memory, option="--cache-memory"),
                None if disk is None else parse_size(disk, option="--cache-disk"),
            )
        if self.cache_memory is not None or self.cache_disk is not None:
            raise UserError("--no-cache keeps nothing, so it has no size.", hint="Give --no-cache, or sizes.")
        return OFF

    def check(self) -> None:
        """Raise UserError for what would stop a run that has begun."""
        from mutant.search.workers import choose_workers

        choose_workers(self.workers, 0.0)
        _ = self._budget(), self.cache, self.patient
