"""What may change when a run is resumed: who works it off, its budget, and the penalties of segments to come.

Everything else decided the children that are committed, so a change of it would leave a run that no settings explain.
"""

from dataclasses import replace
from typing import Any, cast

from mutant.search.budget import run_budget
from mutant.search.config import Settings, settings_of
from mutant.search.recorded import recorded_config
from mutant.storage.records import Run
from mutant.storage.store import Store
from mutant.tasks.errors import UserError

PENALTIES = ("scale_factor", "compute_factor")
_ALLOWED = (
    "On resume may change: --workers, --ray-address, --share, --patience, --pipeline, --budget, --cache-memory, "
    "--cache-disk, --no-cache, and for segments that have not begun --scale-factor and --compute-factor."
)
BUDGET = "budget"


def changed(store: Store, run: Run, settings: Settings) -> Run:
    """The run with another budget, and other penalties for its later segments, where `settings` ask for them.

    What changes is written with an event.

    Raises `UserError` for a setting that differs from the run's own and may not change.
    """
    config = recorded_config(run)
    begun = len({segment.key for segment in run.segments} & store.tallies().keys())
    own = settings_of(config.of_segment(begun)).given()
    different = {name: value for name, value in settings.given().items() if value != own.get(name)}
    for name, value in different.items():
        if name not in (*PENALTIES, BUDGET):
            raise UserError(
                f"--{_option(name, value)}: run {run.id} began with {_option(name, own.get(name))}, and the children "
                "that are committed were drawn with it.",
                hint=f"{_ALLOWED} Or give the run up: mutant abandon",
            )
    if not different:
        return run
    told = {name: {"from": own.get(name), "to": value} for name, value in different.items()}
    config = replace(config, budget=run_budget(settings.budget) if settings.budget else config.budget)
    if not different.keys() & set(PENALTIES):
        return store.change_run(run.id, config.to_dict(), told)
    if begun == len(run.segments):
        raise UserError(
            f"Every segment of run {run.id} has begun, and a segment keeps its penalties to its end.",
            hint="Resume without them, then: mutant evolve TASK --scale-factor S",
        )
    scale = config.of_segment(begun).scale
    after = replace(
        scale,
        factor=different.get("scale_factor", scale.factor),
        compute_factor=different.get("compute_factor", scale.compute_factor),
    )
    later = (*((first, old) for first, old in config.later_scales if first != begun), (begun, after))
    return store.change_run(run.id, replace(config, later_scales=later).to_dict(), {"segment": begun, **told})


def _option(name: str, value: Any) -> str:
    """A setting as an option without its dashes."""
    if name == "asynchronous":
        return "async" if value else "no-async"
    return f"{name.replace('_', '-')} {_text(value)}"


def _text(value: Any) -> str:
    return ", ".join(str(item) for item in cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else str(value)
