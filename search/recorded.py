"""A run's settings as they stand in a database, which a person or an accident may have edited."""

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

from mutant.hyperparameters import HYPERPARAMETERS
from mutant.search.config import RunConfig, check, settings_of
from mutant.search.scoring import Scale
from mutant.storage.checks import checked
from mutant.storage.faults import DECODING
from mutant.storage.records import Run
from mutant.storage.refusals import Damaged
from mutant.tasks.errors import UserError


def recorded_config(run: Run) -> RunConfig:
    """The settings that `run` began with. Raises UserError, naming the run, when no run can have begun with them."""
    where = f"the settings of run {run.id}"
    try:
        config = _typed(RunConfig.from_dict(run.config))
        # A preset may have gone since, and an imported run had no children of its own.
        check(replace(settings_of(config), preset=None, children=config.children or None), where=where)
        _check_names_and_sizes(config)
    except UserError as error:
        told = (
            error.message.rstrip(".")
            if where in error.message
            else f"{where.capitalize()}: {error.message}".rstrip(".")
        )
        raise Damaged(f"{told}, so they are damaged.", hint=_HINT) from error
    except DECODING as error:
        told = f"{type(error).__name__}: {error}"
        raise Damaged(f"The database is damaged in {where} ({told[:200]}).", hint=_HINT) from error
    return config


_HINT = "Restore the database from a copy, or give an unfinished run up: mutant abandon"


def _typed(config: RunConfig) -> RunConfig:
    """The settings themselves, every value of the type that is declared for it."""
    for part in (config, config.training, config.rules, *_scales(config)):
        checked(part)
    return config


def _scales(config: RunConfig) -> Iterable[Scale]:
    return (config.scale, *(scale for _, scale in config.later_scales))


def _check_names_and_sizes(config: RunConfig) -> None:
    """What no option sets. Raises ValueError."""
    rules = config.rules
    unknown = set(config.start) - set(HYPERPARAMETERS)
    if unknown:
        raise ValueError(f"no hyperparameter is called {sorted(unknown)[0]!r}")
    if not rules.probabilities or not all(0 <= p <= 1 for p in rules.probabilities):
        raise ValueError(f"the probabilities {list(rules.probabilities)} are not between 0 and 1")
    if not 1 <= rules.image_step <= rules.largest_image:
        raise ValueError(f"image sizes from {rules.image_step} to {rules.largest_image} are none")
    for scale in _scales(config):
        for value in (scale.factor, scale.compute_factor, scale.reference_parameters, scale.reference_flops):
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{value} is no part of a scale")
