"""Work for evaluators, and a supply that needs no store."""

from tiny import CLASSES

from mutant.assignment import Training
from mutant.mutation import NewHead
from mutant.search.evaluator import Work


class Shelf:
    """A supply from plain dictionaries."""

    def __init__(self, here, data):
        self.here, self.data = here, data

    def component(self, digest):
        return self.here.components[digest]

    def trace(self, digest):
        return self.here.traces[digest]

    def dataset(self, task, image_size):
        return self.data


def works(here, edits, task="stripes"):
    return [
        Work(a.candidate, a.blueprint, a.training)
        for a in (
            here.assignment(here.root, [*edit, NewHead(CLASSES)], task=task, seed=i, training=Training(32, 1, 16))
            for i, edit in enumerate(edits)
        )
    ]
