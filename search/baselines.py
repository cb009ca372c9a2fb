"""Baselines through the same code as the search: what a task reaches without it."""

from collections.abc import Sequence

from mutant.assignment import Training
from mutant.blueprint import blueprint
from mutant.mutation import Mutation, NewHead, SetHyperparameter
from mutant.outcome import Trained
from mutant.path import Candidate, Path
from mutant.position import derive
from mutant.search.evaluate import evaluate
from mutant.search.evaluator import Evaluator, Supply, Work
from mutant.storage.records import Baseline
from mutant.tasks.load import LoadedTask

HEAD_ONLY = "head-only"
LEARNING_RATES = (0.01, 0.05, 0.2)


def head_only(
    root: Path, loaded: LoadedTask, training: Training, evaluator: Evaluator, supply: Supply, *, seed: int = 0
) -> Baseline | None:
    """A new head on the frozen root, the best of several learning rates by validation accuracy, then tested.

    None when not one of them could be trained.
    """
    mutations: Sequence[tuple[Mutation, ...]] = [
        (SetHyperparameter("learning_rate", rate), NewHead(len(loaded.task.class_names))) for rate in LEARNING_RATES
    ]
    task = loaded.task.name
    candidates = [Candidate(task, root.id, edits, derive(seed, task, HEAD_ONLY)) for edits in mutations]
    work = [Work(candidate, blueprint([root], candidate.mutations), training) for candidate in candidates]
    outcomes = dict(evaluator.train(work, supply))
    trained = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Trained)]
    if not trained:
        return None
    best = max(trained, key=lambda outcome: outcome.path.quality)
    shared = {part.digest: supply.component(part.digest) for part in root.parts}
    tested = evaluate(best.path, {**shared, **best.components}, loaded, evaluator)
    return Baseline(
        HEAD_ONLY,
        task,
        validation_accuracy=best.path.quality,
        test_accuracy=tested.accuracy,
        n_parameters=best.path.n_parameters,
        hyperparameters=best.path.hyperparameters.to_dict(),
        cost=best.cost,
    )
