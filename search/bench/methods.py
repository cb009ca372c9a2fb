"""What a benchmark compares: the search under a preset, its ablations, tuned baselines, witnesses from outside."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mutant.rules import MutationRules
from mutant.search.config import Settings, check
from mutant.search.presets import DEFAULT, PRESETS
from mutant.search.strategies import parse_strategy
from mutant.tasks.errors import UserError, nearest, printable

Group = Literal["search", "ablation", "scale", "baseline", "witness"]
EVOLUTION, LOGISTIC = "evolution", "logistic"


@dataclass(frozen=True)
class Method:
    """`settings` over the suite's own; `shuffled`: the tasks come in an order drawn for each repeat."""

    name: str
    group: Group
    settings: Settings = Settings()
    shuffled: bool = False


ABLATIONS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("no-cross-task", "ablation", Settings(cross_task=False)),
        Method("constant-probability", "ablation", Settings(probability="constant")),
        Method("no-scale", "ablation", Settings(scale_factor=1.0, compute_factor=1.0)),
        Method("one-visit", "ablation", Settings(visits=1)),
        Method("two-visits", "ablation", Settings(visits=2)),
        Method("shuffled", "ablation", shuffled=True),
        Method("random", "ablation", Settings(strategy="random")),
        Method("no-deep", "ablation", Settings(deep_every=0)),
        Method("zero-heads", "ablation", Settings(head_start="zero")),
        Method("sampled", "ablation", Settings(first_children="sampled")),
        Method("each-slot", "ablation", Settings(clones="each slot")),
        Method("averaging", "ablation", Settings(averaging="greedy")),
        Method("optimizers", "ablation"),
    )
}
_OTHERS = (EVOLUTION, *PRESETS, *ABLATIONS, "full", "freeze-12", "adapters-32", "head", "scale-0.95", LOGISTIC)


def method(name: str, preset: str | None = None) -> Method:
    """A method by its name, its search under `preset` unless it names one itself.

    `evolution` or a preset; an ablation; `scale-S`; a strategy of independent children (`full`, `freeze-12`,
    `adapters-32`, `head`); `logistic`. Raises `UserError` for another, naming the nearest.
    """
    base = Settings(preset=preset)
    if name == EVOLUTION:
        return Method(name, "search", base)
    if name in PRESETS:
        return Method(name, "search", Settings(preset=name))
    if name in ABLATIONS:
        found = ABLATIONS[name]
        more = Settings(mutable=(*_rules(preset).mutable, "optimizer")) if name == "optimizers" else found.settings
        return Method(name, found.group, more.over(base), found.shuffled)
    if name == LOGISTIC:
        return Method(name, "witness")
    if scale := re.fullmatch(r"scale-(0?\.[0-9]{1,6}|1|1\.0)", name):
        return Method(name, "scale", check(Settings(scale_factor=float(scale[1]))).over(base))
    try:
        strategy = parse_strategy(name)
    except UserError:
        close = nearest(name, _OTHERS)
        hint = f"Nearest: {close!r}." if close else f"Known: {', '.join(_OTHERS)}."
        raise UserError(f"There is no method '{printable(name)}' to compare.", hint=hint) from None
    return Method(name, "baseline", Settings(strategy=strategy.text, averaging="none").over(base))


def _rules(preset: str | None) -> MutationRules:
    """Those of the preset, or of the default one; that a preset is unknown is told where it is read."""
    return PRESETS.get(preset or DEFAULT, PRESETS[DEFAULT]).rules
