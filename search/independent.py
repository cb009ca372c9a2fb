"""Children of the root that know nothing of each other: tuned baselines, and the ablation of the evolution."""

from collections.abc import Sequence

import numpy as np

from mutant.hyperparameters import HyperparameterValue
from mutant.mutation import Clone, InsertAdapter, Mutation, NewHead, SetHyperparameter
from mutant.path import HEAD, Path
from mutant.position import Position
from mutant.reproduction import DataDraw, mutate
from mutant.rules import MutationRules
from mutant.search.strategies import SPACE, Strategy


def independent_child(
    root: Path, strategy: Strategy, rules: MutationRules, position: Position, *, nth: int, classes: int
) -> tuple[Mutation, ...]:
    """The edits of the `nth` child (from 0) of a segment: what the strategy trains, by hyperparameters at random.

    The first child of a segment has the defaults and the strategy's first learning rate. The others take each of the
    learning rates once, in an order drawn for the segment, before one comes again.
    """
    rng = position.generator("mutations")
    settings = _hyperparameters(root, strategy, position, nth, rng)
    if strategy.kind == "random":
        data = DataDraw({name: getattr(root.hyperparameters, name) for name in rules.data_hyperparameters})
        drawn = mutate([root], task=position.task, classes=classes, rules=rules, rng=rng, data=data)
        structure = [edit for edit in drawn if not isinstance(edit, SetHyperparameter) or edit.name not in settings]
    else:
        structure = [*_structure(root, strategy), NewHead(classes)]
    return (*(_changed(root, settings)), *structure)


def _structure(root: Path, strategy: Strategy) -> list[Mutation]:
    if strategy.kind == "adapters":
        inserted: list[Mutation] = [InsertAdapter(block, strategy.number) for block in range(root.depth)]
        return [*inserted, *_clones(root, strategy)]
    return _clones(root, strategy)


def _clones(root: Path, strategy: Strategy) -> list[Mutation]:
    return [Clone(part.slot) for part in root.parts if part.slot != HEAD and strategy.trains(part.slot)]


def _hyperparameters(
    root: Path, strategy: Strategy, position: Position, nth: int, rng: np.random.Generator
) -> dict[str, HyperparameterValue]:
    rates = strategy.learning_rates
    if nth == 0:
        return {"learning_rate": rates[0]}
    segment = Position(position.seed, position.task, position.segment)
    order: Sequence[int] = segment.generator("learning rates").permutation(range(1, len(rates))).tolist()
    turn = [rates[i] for i in order]
    rate = turn[nth - 1] if nth <= len(turn) else rates[int(rng.integers(len(rates)))]
    drawn = {name: values[int(rng.integers(len(values)))] for name, values in SPACE.items()}
    return {"learning_rate": rate, **drawn}


def _changed(root: Path, settings: dict[str, HyperparameterValue]) -> list[Mutation]:
    before = root.hyperparameters.to_dict()
    return [SetHyperparameter(name, value) for name, value in settings.items() if value != before[name]]
