"""Baselines through the same code as the search: what a task reaches without it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

from mutant.assignment import Training
from mutant.blueprint import blueprint
from mutant.mutation import Clone, Mutation, NewHead, SetHyperparameter
from mutant.outcome import Cost, Outcome, Trained
from mutant.path import Candidate, Path
from mutant.position import derive
from mutant.search.evaluate import evaluate
from mutant.search.evaluator import Evaluator, Supply, Work
from mutant.search.metrics import FULL
from mutant.storage.records import Baseline
from mutant.tasks.load import LoadedTask

HEAD_ONLY = "head-only"
Heard = Callable[[int, Outcome], None]


@dataclass(frozen=True)
class Kind:
    """A way to train on a task without the search: from the root, whole or its head alone.

    Candidate k takes the k-th of `learning_rates`, then the first again with another seed, and so on.
    """

    name: str
    learning_rates: tuple[float, ...]
    whole: bool


KINDS: Mapping[str, Kind] = {
    "full": Kind(FULL, (0.01, 0.005, 0.02, 0.002, 0.05, 0.001), whole=True),
    "head": Kind(HEAD_ONLY, (0.01, 0.05, 0.2), whole=False),
}


@dataclass(frozen=True)
class Plan:
    """A kind of baseline and its budget: `candidates` children of the root (None: one per learning rate)."""

    kind: Kind
    training: Training
    candidates: int | None = None
    seed: int = 0


def train_baseline(
    plan: Plan,
    root: Path,
    loaded: LoadedTask,
    evaluator: Evaluator,
    supply: Supply,
    heard: Heard = lambda index, outcome: None,
) -> Baseline | None:
    """The best of the plan's candidates by validation accuracy, then tested; its cost is that of all.

    None when not one of them could be trained.
    """
    work = [
        Work(candidate, blueprint([root], candidate.mutations), plan.training)
        for candidate in _candidates(plan, root, loaded)
    ]
    outcomes: dict[int, Outcome] = {}
    for index, outcome in evaluator.train(work, supply):
        outcomes[index] = outcome
        heard(index, outcome)
    trained = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Trained)]
    if not trained:
        return None
    best = max(trained, key=lambda outcome: outcome.path.quality)
    shared = supply.components([part.digest for part in root.parts])
    tested = evaluate(best.path, {**shared, **best.components}, loaded, evaluator)
    return Baseline(
        plan.kind.name,
        loaded.task.name,
        validation_accuracy=best.path.quality,
        test_accuracy=tested.accuracy,
        n_parameters=best.path.n_parameters,
        hyperparameters=best.path.hyperparameters.to_dict(),
        cost=sum((outcome.cost for _, outcome in sorted(outcomes.items())), Cost()),
    )


def _candidates(plan: Plan, root: Path, loaded: LoadedTask) -> list[Candidate]:
    kind, task, found = plan.kind, loaded.task, list[Candidate]()
    clones = [Clone(part.slot) for part in root.parts] if kind.whole else []
    wanted = plan.candidates or len(kind.learning_rates)
    for place, rate in enumerate(islice(cycle(kind.learning_rates), wanted)):
        edits: tuple[Mutation, ...] = (
            SetHyperparameter("learning_rate", rate),
            *clones,
            NewHead(len(task.class_names)),
        )
        again = place // len(kind.learning_rates)
        position = (plan.seed, task.name, kind.name, again) if again else (plan.seed, task.name, kind.name)
        found.append(Candidate(task.name, root.id, edits, derive(*position)))
    return found
