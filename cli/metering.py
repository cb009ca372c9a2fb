"""Metrics of a run that goes on: `--metrics-port`."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mutant.cli.display import tell
from mutant.cli.options import EngineOptions
from mutant.tasks.errors import missing_extra

if TYPE_CHECKING:
    from mutant.search.meters import Meters


@contextmanager
def metered(options: EngineOptions) -> "Generator[Meters | None]":
    """The meters that the options ask for, served while the block lasts; None without `--metrics-port`."""
    if options.metrics_port is None:
        yield None
        return
    try:
        from mutant.search.meters import Meters, served
    except ImportError as error:
        raise missing_extra(error.name or "prometheus_client", "serve") from error
    meters = Meters()
    with served(meters, options.metrics_port, options.metrics_address) as url:
        tell(f"Metrics at {url} while the run goes on.")
        yield meters
