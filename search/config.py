"""A run's settings: one frozen value, from a preset, a TOML file and the command line; unknown keys are errors."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path as FilePath
from typing import Any, cast, get_args

from mutant.assignment import Averaging, HeadStart, Training
from mutant.backprop import END_TO_END, MOST_GROUPS, parse_backprop
from mutant.hyperparameters import LISTS
from mutant.rules import CloneRule, MutationRules, ProbabilityRule
from mutant.search.budget import Budget, budget_of, run_budget
from mutant.search.presets import DEFAULT, PRESETS, FirstChildren, Preset
from mutant.search.scoring import Scale
from mutant.search.strategies import EVOLUTION, parse_strategy
from mutant.tasks.errors import UserError, nearest


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run but a budget of wall time that runs out; nothing that does not.

    `tasks` are visited in order, `visits` times over; `baseline`: also train and test a head on the frozen root;
    `start` holds the hyperparameters that the root's children start from instead of the defaults; `later_scales` the
    penalties that a resumed run was given, each with the first segment that has them; `budget` what all children of
    the run may take; `halving` the eta of the early stopping of hopeless children (None: off); in each `deep_every`-th
    generation from the second on the first child trains the best path's top `deep_blocks` blocks (0: in none);
    `asynchronous`: children are drawn one by one when a worker is free (`mutant.search.asynchronous`), not by
    generations; `strategy` what the
    children are drawn by, evolution unless a baseline is wanted (`mutant.search.strategies`). A child is trained by
    `gang` processes together, which decides its last bits, and so does whether they divide its parameters (`sharded`),
    and how many threads XLA has in each process (`threads`).
    """

    tasks: tuple[str, ...]
    preset: str
    seed: int
    visits: int
    children: int
    generation_size: int
    training: Training
    rules: MutationRules
    scale: Scale
    first_children: FirstChildren = "sampled"
    cross_task: bool = True
    baseline: bool = False
    start: Mapping[str, float] = field(default_factory=dict[str, float])
    later_scales: tuple[tuple[int, Scale], ...] = ()
    budget: Budget | None = None
    halving: int | None = None
    strategy: str = EVOLUTION
    deep_every: int = 0
    deep_blocks: int = 8
    asynchronous: bool = False
    gang: int = 1
    sharded: bool = False
    threads: int = 1

    def of_segment(self, index: int) -> "RunConfig":
        """These settings as segment `index` has them: with the penalties that were changed before it began."""
        scales = [scale for first, scale in self.later_scales if first <= index]
        return replace(self, scale=scales[-1]) if scales else self

    @property
    def segments(self) -> tuple[str, ...]:
        return self.tasks * self.visits

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` gives the value back. One thread and no averaging are not told, as before there
        was anything else."""
        data = {name: value for name, value in asdict(self).items() if (name, value) != ("threads", 1)}
        if self.training.averaging == "none":
            del data["training"]["averaging"]
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "RunConfig":
        values = dict(data)
        values["tasks"] = tuple(values["tasks"])
        values["training"] = Training(**values["training"])
        values["rules"] = MutationRules(**_tuples(values["rules"]))
        values["scale"] = Scale(**values["scale"])
        values["later_scales"] = tuple((first, Scale(**scale)) for first, scale in values.get("later_scales", ()))
        values["budget"] = budget_of(values)
        return RunConfig(**values)


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in data.items()}


def _tuple(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Settings:
    """What a user may set, on the command line or in a TOML file; None leaves the preset's value.

    The names are the options' own with underscores, so `--generation-size 4` is `generation_size = 4`.
    """

    preset: str | None = None
    seed: int | None = None
    visits: int | None = None
    children: int | None = None
    generation_size: int | None = None
    validations: int | None = None
    examples_per_validation: int | None = None
    batch: int | None = None
    augmented_views: int | None = None
    scale_factor: float | None = None
    compute_factor: float | None = None
    mutation_probability: float | None = None
    reach: int | None = None
    first_children: FirstChildren | None = None
    cross_task: bool | None = None
    mutable: tuple[str, ...] | None = None
    halving: int | None = None
    budget: str | None = None
    strategy: str | None = None
    probability: ProbabilityRule | None = None
    clones: CloneRule | None = None
    head_start: HeadStart | None = None
    averaging: Averaging | None = None
    backprop: str | None = None
    groups: int | None = None
    deep_every: int | None = None
    deep_blocks: int | None = None
    asynchronous: bool | None = None
    gang: int | None = None
    sharded: bool | None = None
    threads: int | None = None

    def over(self, other: "Settings") -> "Settings":
        """These settings where given, else `other`'s."""
        return replace(other, **self.given())

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


NAMES = tuple(f.name for f in fields(Settings))
MOST_GANG = 1_024
MOST_THREADS = 1_024
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "visits": (1, 1_000),
    "children": (1, 1_000_000),
    "generation_size": (1, 100_000),
    "validations": (1, 10_000),
    "examples_per_validation": (1, 10**9),
    "batch": (1, 65_536),
    "augmented_views": (0, 1_000),
    "scale_factor": (1e-9, 1.0),
    "compute_factor": (1e-9, 1.0),
    "mutation_probability": (0.0, 1.0),
    "reach": (0, 1_000),
    "halving": (0, 1_000),
    "deep_every": (0, 1_000),
    "deep_blocks": (1, 1_000),
    "gang": (1, MOST_GANG),
    "threads": (1, MOST_THREADS),
    "groups": (1, MOST_GROUPS),
    "seed": (0, 2**63 - 1),
}
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "preset": tuple(PRESETS),
    "first_children": get_args(FirstChildren),
    "clones": get_args(CloneRule),
    "head_start": get_args(HeadStart),
    "averaging": get_args(Averaging),
    "probability": get_args(ProbabilityRule),
}
_TEXTS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "budget": ("40children", lambda text: run_budget(text).text),
    "strategy": ("freeze-12", lambda text: parse_strategy(text).text),
    "backprop": ("pairwise", lambda text: parse_backprop(text).text),
}


def read_settings(file: FilePath) -> Settings:
    """Settings from a TOML file.

    Raises `UserError` for a file that cannot be read, an unknown key (naming the nearest) or a value of the wrong type.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read settings file {str(file)!r}: {error.strerror}.") from error
    except RecursionError as error:
        raise UserError(f"{str(file)!r} is nested too deeply for settings.") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UserError(f"{str(file)!r} is not valid TOML: {error}.") from error
    return settings_from(data, where=str(file))


def settings_from(data: Mapping[str, Any], *, where: str) -> Settings:
    for key in data:
        if key not in NAMES:
            close = nearest(key, NAMES)
            hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(NAMES)}."
            raise UserError(f"Unknown setting {key!r} in {where}.", hint=hint)
    return Settings(**{key: _value(key, value, where) for key, value in data.items()})


def _value(key: str, value: Any, where: str) -> Any:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            close = nearest(str(value), _CHOICES[key])
            raise UserError(
                f"{key} = {value!r} in {where} is not one of {', '.join(map(repr, _CHOICES[key]))}.",
                hint=f"Nearest: {close!r}." if close else None,
            )
        return value
    if key in ("cross_task", "asynchronous", "sharded"):
        if not isinstance(value, bool):
            raise UserError(f"{key} in {where} must be true or false, not {value!r}.")
        return value
    if key == "mutable":
        return _mutable(value, where)
    if key in _TEXTS:
        example, parsed = _TEXTS[key]
        if not isinstance(value, str):
            raise UserError(f"{key} in {where} must be a text such as {example!r}, not {value!r}.")
        return parsed(value)
    low, high = _BOUNDS[key]
    wanted, words = ((int, float), "a number") if isinstance(low, float) else (int, "a whole number")
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise UserError(f"{key} in {where} must be {words}, not {value!r}.")
    if not low <= value <= high:
        raise UserError(f"{key} = {value} in {where} is out of range: {low:g} to {high:g}.")
    if key == "halving" and value == 1:
        raise UserError(f"halving = 1 in {where} would keep every child.", hint="Nearest: 2. 0 switches it off.")
    return value


def _mutable(value: Any, where: str) -> tuple[str, ...]:
    known = (*LISTS, "image_size")
    names: tuple[Any, ...] = tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else (value,)
    for name in names:
        if name not in known:
            close = nearest(str(name), known)
            hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(known)}."
            raise UserError(f"mutable in {where} names no hyperparameter {name!r}.", hint=hint)
    return names


def check(settings: Settings, *, where: str = "the settings") -> Settings:
    """The same settings, every value validated as if it stood in a file."""
    return settings_from(settings.given(), where=where)


def run_config(
    settings: Settings,
    tasks: tuple[str, ...],
    *,
    reference_parameters: float,
    reference_flops: float,
    image_step: int = 16,
    baseline: bool = False,
) -> RunConfig:
    """The settings over their preset, with the root's own size as the scale's references."""
    checked = check(settings)
    preset = PRESETS[checked.preset or DEFAULT]
    return RunConfig(
        tasks=tasks,
        preset=preset.name,
        seed=checked.seed or 0,
        visits=checked.visits or preset.visits,
        children=checked.children or preset.children,
        generation_size=checked.generation_size or preset.generation_size,
        training=_training(checked, preset),
        rules=_rules(checked, preset, image_step),
        scale=Scale(
            checked.scale_factor or preset.scale_factor,
            reference_parameters,
            checked.compute_factor or preset.compute_factor,
            reference_flops,
        ),
        first_children=checked.first_children or preset.first_children,
        cross_task=True if checked.cross_task is None else checked.cross_task,
        baseline=baseline,
        start=dict(preset.start),
        budget=None if checked.budget is None else run_budget(checked.budget),
        halving=(preset.halving if checked.halving is None else checked.halving) or None,
        strategy=checked.strategy or EVOLUTION,
        deep_every=preset.deep_every if checked.deep_every is None else checked.deep_every,
        deep_blocks=checked.deep_blocks or preset.deep_blocks,
        asynchronous=bool(checked.asynchronous),
        gang=_gang(checked, preset),
        sharded=bool(checked.sharded),
        threads=checked.threads or 1,
    )


def settings_of(config: RunConfig) -> Settings:
    """What a user would set to get `config`."""
    training, rules = config.training, config.rules
    return Settings(
        preset=config.preset,
        seed=config.seed,
        visits=config.visits,
        children=config.children,
        generation_size=config.generation_size,
        validations=training.validations,
        examples_per_validation=training.examples_per_validation,
        batch=training.batch,
        augmented_views=training.augmented_views,
        backprop=training.backprop,
        groups=training.groups,
        scale_factor=config.scale.factor,
        compute_factor=config.scale.compute_factor,
        mutation_probability=rules.start,
        reach=rules.reach,
        first_children=config.first_children,
        cross_task=config.cross_task,
        mutable=rules.mutable,
        halving=config.halving or 0,
        deep_every=config.deep_every,
        deep_blocks=config.deep_blocks,
        asynchronous=config.asynchronous,
        gang=config.gang,
        sharded=config.sharded,
        threads=config.threads,
        budget=None if config.budget is None else config.budget.text,
        strategy=config.strategy,
        probability=rules.probability,
        clones=rules.clones,
        head_start=training.head_start,
        averaging=training.averaging,
    )


def _training(settings: Settings, preset: Preset) -> Training:
    return Training(
        settings.examples_per_validation or preset.training.examples_per_validation,
        settings.validations or preset.training.validations,
        settings.batch or preset.training.batch,
        preset.rules.inherit_trace,
        preset.training.augmented_views if settings.augmented_views is None else settings.augmented_views,
        settings.head_start or preset.training.head_start,
        settings.backprop or preset.training.backprop,
        settings.groups or preset.training.groups,
        settings.averaging or preset.training.averaging,
    )


def _gang(settings: Settings, preset: Preset) -> int:
    """Raises `UserError` for gangs that cannot train what is asked for, and for shares of what one process has."""
    gang, backprop = settings.gang or 1, settings.backprop or preset.training.backprop
    if gang > 1 and backprop != END_TO_END:
        raise UserError(
            f"A gang of {gang} trains end to end, not with backprop {backprop!r}.",
            hint="Leave one of them out. Groups of a child work side by side with --pipeline.",
        )
    if settings.sharded and gang == 1:
        raise UserError("A gang of 1 has nobody to divide parameters with.", hint="Add gang = 2, or leave sharded out.")
    return gang


def _start(probability: float, rules: MutationRules, preset: str) -> float:
    """A starting probability that the preset's rule can keep: one that evolves must lie within its ordered list."""
    low, high = rules.probabilities[0], rules.probabilities[-1]
    if rules.probability != "constant" and not low <= probability <= high:
        raise UserError(
            f"mutation_probability = {probability:g} is out of range: {low:g} to {high:g} with preset {preset!r}.",
            hint="Only preset 'munet' keeps one constant value, or the setting probability = 'constant'.",
        )
    return probability


def _rules(settings: Settings, preset: Preset, image_step: int) -> MutationRules:
    rules = replace(preset.rules, image_step=image_step)
    if settings.probability is not None:
        rules = replace(rules, probability=settings.probability)
    if settings.clones is not None:
        rules = replace(rules, clones=settings.clones)
    if settings.mutation_probability is not None:
        rules = replace(rules, start=_start(settings.mutation_probability, rules, preset.name))
    if settings.reach is not None:
        rules = replace(rules, reach=settings.reach)
    if settings.mutable is not None:
        rules = replace(rules, mutable=settings.mutable)
    return rules
