"""A new system with its root and one task, on which single children are trained and tested."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import mutant
from mutant.assignment import Training
from mutant.blueprint import blueprint
from mutant.mutation import Mutation, NewHead
from mutant.outcome import Trained
from mutant.path import Candidate
from mutant.search.evaluate import evaluate
from mutant.search.evaluator import InProcessEvaluator, Work
from mutant.search.supply import SearchData, StoreSupply


class OneTask:
    """Context manager: the system is in a directory of its own, which goes at the end."""

    def __init__(self, uri: str, *, root: str, image_size: int) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.task = mutant.load_task(uri)
        self.name = self.task.task.name
        self._system = mutant.create(Path(self._directory.name) / "m.db", root=root, image_size=image_size)
        self.root = self._system.store.root()
        self.data = SearchData.of(self.task)
        self.supply = StoreSupply(self._system.store, {self.name: self.data})
        self.evaluator = InProcessEvaluator()

    def __enter__(self) -> "OneTask":
        return self

    def __exit__(self, *_: object) -> None:
        self.evaluator.close()
        self._system.close()
        self._directory.cleanup()

    def work(self, edits: Sequence[Mutation], training: Training, seed: int) -> Work:
        """A child of the root with a new head."""
        mutations = (*edits, NewHead(self.data.classes))
        return Work(Candidate(self.name, self.root.id, mutations, seed), blueprint([self.root], mutations), training)

    def trained(self, work: Work) -> Trained:
        ((_, outcome),) = self.evaluator.train([work], self.supply)
        assert isinstance(outcome, Trained), outcome
        return outcome

    def tested(self, outcome: Trained) -> float:
        """Accuracy on the test split."""
        shared = self.supply.components([part.digest for part in self.root.parts])
        return evaluate(outcome.path, {**shared, **outcome.components}, self.task, self.evaluator).accuracy
