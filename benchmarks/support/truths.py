"""What each task of a system may answer while it changes below a server: the bits it must have, or a status."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.load import Answer
from support.many_tasks import answers_of

from mutant.network import probabilities
from mutant.predict import top
from mutant.storage.store import Store


@dataclass(frozen=True, eq=False)
class Truth:
    """What one version of a task answers: its digest, and for each image the logits' bytes, and its best class with
    the probability, as JSON has them."""

    version: str
    logits: tuple[bytes, ...]
    best: tuple[Mapping[str, object], ...]


def truth_of(database: Path, name: str, images: np.ndarray) -> Truth:
    """What the best version of a task answers to each of `images` [n, 1, S, S, 3]; computed without a server."""
    found = answers_of(database, [name], images)
    with Store.open(str(database), read_only=True) as store:
        task, path = store.task(name), store.best(name)
    assert path is not None
    logits = tuple(found[name, number] for number in range(len(images)))
    rows = [probabilities(np.frombuffer(one, np.float32)[None])[0] for one in logits]
    labels = [top(task, row, 1)[0] for row in rows]
    best = tuple({"label": one.name, "probability": one.probability} for one in labels)
    return Truth(path.version, logits, best)


ABSENT, UNLEARNT = 404, 503
"""Statuses of a task that is not there, and of one that was added and has no finished path yet."""
Allowed = frozenset[Truth | int]
"""Versions of which one must answer, and statuses that are right as well."""


class Truths:
    """What tasks may answer, from when on. One thread says it, any may judge answers by it.

    An answer is right when it was allowed at any time since it was asked, or up to `grace` seconds before: replicas
    that have just come up are behind the database for as long as they took.
    """

    def __init__(self, grace: float = 0.0) -> None:
        self._grace = grace
        self._said: dict[str, list[tuple[float, Allowed]]] = {}

    def begin(self, name: str, allowed: Truth | int) -> None:
        """What a task answers before anything changes."""
        self._said[name] = [(-math.inf, frozenset([allowed]))]

    def say(self, name: str, *allowed: Truth | int) -> None:
        """From now on the task may answer this, and nothing else."""
        self._said[name].append((time.perf_counter(), frozenset(allowed)))

    def allowed(self, name: str, asked: float) -> Allowed:
        """What may answer a request that was sent at `asked` and is answered now."""
        found: Allowed = frozenset()
        for since, allowed in reversed(self._said[name]):
            found |= allowed
            if since <= asked - self._grace:
                break
        return found

    def inferred(self, name: str, number: int) -> Callable[[Answer], bool]:
        """Whether an answer with binary logits of a task to image `number` is right."""
        return lambda answer: any(agrees(answer, truth, number) for truth in self.allowed(name, answer.asked))

    def predicted(self, number: int) -> Callable[[Answer], bool]:
        """Whether the answer of all tasks to image `number` is right."""

        def right(answer: Answer) -> bool:
            if answer.status != 200:
                return False
            given = {one["task"]: one for one in json.loads(answer.body)["answers"]}
            return given.keys() <= self._said.keys() and all(
                any(_told(given.get(name), truth, number) for truth in self.allowed(name, answer.asked))
                for name in list(self._said)
            )

        return right


def agrees(answer: Answer, truth: Truth | int, number: int) -> bool:
    """Whether an answer with binary logits is this version's to image `number`, or has this status."""
    if isinstance(truth, int):
        return answer.status == truth
    return answer.status == 200 and answer.body.endswith(truth.logits[number])


def refused(answer: Answer) -> bool:
    """Whether a malformed request was answered with a reason, and as the client's fault."""
    return 400 <= answer.status < 500 and b"error" in answer.body


def _told(given: Mapping[str, object] | None, truth: Truth | int, number: int) -> bool:
    if given is None or isinstance(truth, int):
        return given is None and isinstance(truth, int)
    return given["version"] == truth.version and given["labels"] == [truth.best[number]]
