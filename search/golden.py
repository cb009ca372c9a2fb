"""Golden outputs: a task's answers to a fixed probe batch when its segment ends, the proof that they never change."""

from mutant.path import Path
from mutant.search.evaluator import Evaluator, Supply
from mutant.storage.records import Golden

PROBE_EXAMPLES = 16


def golden_outputs(path: Path, evaluator: Evaluator, supply: Supply) -> Golden:
    """The answers of `path` to its task's first validation images, with the back end they were computed on."""
    assert path.task is not None
    probe = supply.dataset(path.task, path.hyperparameters.image_size).validation.images[:PROBE_EXAMPLES]
    components = supply.components([part.digest for part in path.parts])
    answers = evaluator.answer(path, components, probe)
    return Golden(probe, answers.logits, answers.backend, dict(answers.versions), answers.batch_shape)
