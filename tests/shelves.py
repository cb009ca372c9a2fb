"""Work for evaluators, and a supply that needs no store."""

import threading
from collections.abc import Callable, Mapping

from tiny import CLASSES, stripes, world

from mutant.assignment import Training
from mutant.mutation import NewHead
from mutant.outcome import Trained
from mutant.search.evaluator import Work


class Shelf:
    """A supply from plain dictionaries."""

    def __init__(self, here, data):
        self.here, self.data = here, data

    def components(self, digests):
        return {digest: self.here.components[digest] for digest in digests}

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


def trained_at_once(controllers: Mapping[str, Callable[[], object]]) -> dict[str, int]:
    """How many of two children each of these evaluators trains, all at the same time."""
    found: dict[str, int] = {}

    def control(name, make):
        evaluator = make()
        try:
            here = world(2)
            outcomes = [outcome for _, outcome in evaluator.train(works(here, [(), ()]), Shelf(here, stripes()))]
            found[name] = sum(isinstance(outcome, Trained) for outcome in outcomes)
        finally:
            evaluator.close()

    threads = [threading.Thread(target=control, args=each) for each in controllers.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
