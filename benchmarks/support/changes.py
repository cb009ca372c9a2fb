"""Changes of a system below a running server: a task is removed and brought back, others come, go and get better.

Everything is done in a second database first, from the same seeds, so that what the server must answer is known before
it can. A change counts as seen when the server's own answers say so; until then the old and the new are both right.
"""

import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
from support.load import ask_once, infer
from support.many_tasks import add_task, evolve_again
from support.truths import ABSENT, UNLEARNT, Truth, Truths, agrees, truth_of

from mutant.storage.removal import remove, undo
from mutant.storage.store import Store

PAUSE, SEEN_WITHIN = 1.0, 60.0
"""Seconds between changes, and within which a change must be seen."""
EVERY = 10
"""Turns of the task that goes and comes, between those at which another is added and one evolves again."""


@dataclass
class Changes:
    """`victim` goes and comes back, `evolving` gets better. `rehearsed` is a database of the same tasks. `agreeing`
    answers in a row show that a change was seen, more than one where replicas look by themselves; `rest`: seconds
    without a change at every tenth turn. `added` are the names of added tasks, `count` the changes made, `unseen` those
    that the server did not show in time.
    """

    database: Path
    rehearsed: Path
    images: np.ndarray
    truths: Truths
    victim: str
    evolving: str
    port: int
    agreeing: int = 1
    rest: float = 0.0
    added: list[str] = field(default_factory=list[str])
    count: int = 0
    unseen: list[str] = field(default_factory=list[str])

    def until(self, stop: Event) -> None:
        """Change the system until `stop` is set."""
        with ExitStack() as stack:
            store, rehearsal = (stack.enter_context(Store.open(str(file))) for file in (self.database, self.rehearsed))
            victim = self._truth(self.victim)
            for turn in itertools.count():
                if turn % EVERY == 0:
                    self._add(store, rehearsal, f"new{turn:04d}", 1000 + turn)
                    self._evolve(store, rehearsal, 5000 + turn)
                    if stop.wait(self.rest):
                        return
                self._remove(store, self.victim, victim)
                if stop.wait(PAUSE):
                    return
                self.truths.say(self.victim, ABSENT, victim)
                undo(store, self.victim)
                self._see(self.victim, victim)
                if stop.wait(PAUSE):
                    return

    def _add(self, store: Store, rehearsal: Store, name: str, seed: int) -> None:
        """Add a task, and remove the one that was added before."""
        add_task(rehearsal, name, seed)
        truth = self._truth(name)
        self.truths.begin(name, ABSENT)
        self.truths.say(name, ABSENT, UNLEARNT, truth)
        self.added.append(name)
        add_task(store, name, seed)
        self._see(name, truth)
        if len(self.added) > 1:
            self._remove(store, self.added[-2], self._truth(self.added[-2]))

    def _evolve(self, store: Store, rehearsal: Store, seed: int) -> None:
        before = self._truth(self.evolving)
        evolve_again(rehearsal, self.evolving, seed)
        after = self._truth(self.evolving)
        self.truths.say(self.evolving, before, after)
        evolve_again(store, self.evolving, seed)
        self._see(self.evolving, after)

    def _remove(self, store: Store, name: str, truth: Truth) -> None:
        self.truths.say(name, truth, ABSENT)
        remove(store, name, force=True)
        self._see(name, ABSENT)

    def _truth(self, name: str) -> Truth:
        return truth_of(self.rehearsed, name, self.images)

    def _see(self, name: str, now: Truth | int) -> None:
        """Wait until the server answers so, and from then on nothing else is right."""
        self.count += 1
        asking = infer(name, self.images[0])
        ends, agreed = time.monotonic() + SEEN_WITHIN, 0
        while agreed < self.agreeing:
            answer = ask_once(self.port, asking)
            agreed = agreed + 1 if answer is not None and agrees(answer, now, 0) else 0
            if time.monotonic() > ends:
                self.unseen.append(name)
                return
            if not agreed:
                time.sleep(0.02)
        self.truths.say(name, now)
