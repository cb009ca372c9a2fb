"""Groups of a child as a pipeline of Ray actors: activations and slopes go from actor to actor, never through here."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from math import ceil
from typing import Any

from mutant.activations.limits import CacheLimits
from mutant.assignment import Assignment
from mutant.dataset import Dataset
from mutant.outcome import Failed, Outcome
from mutant.pipeline import Hand, StageLost
from mutant.recorder import Recorder
from mutant.search.deaths import Death, verdict
from mutant.search.evaluator import InProcessEvaluator
from mutant.search.heartbeat import patience, period
from mutant.search.ray_places import free, reserving, unit
from mutant.search.ray_start import ended, machines, ray, start
from mutant.search.ray_team import CROWDED_SECONDS, FAILED_STARTS, cannot_start, death_of, pinned_cores
from mutant.search.workers import OWN_RAY, Terms
from mutant.stage import Setup
from mutant.tasks.errors import UserError


class StageWorker:
    """Lives in a Ray actor: holds one or more neighbouring stages of the child that is being trained."""

    def __init__(self, cores: Collection[int]) -> None:
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        self._stages: dict[int, Any] = {}

    def about(self) -> tuple[int, str]:
        """Its process id, and its machine as Ray names it."""
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def begin(self, setups: Sequence[Setup]) -> None:
        from mutant.stage import Stage

        self._stages = {setup.group: Stage(setup) for setup in setups}

    def call(self, group: int, method: str, *arguments: Any) -> Any:
        return getattr(self._stages[group], method)(*arguments)


class _ActorHand:
    def __init__(self, actor: Any, group: int) -> None:
        self._actor, self._group = actor, group

    def call(self, method: str, *arguments: Any, returns: int) -> Sequence[Any]:
        found = self._actor.call.options(num_returns=returns).remote(self._group, method, *arguments)
        return found if returns > 1 else [found]


class RayCrew:
    """Holds the stages of one child after another on `workers` actors, each in a place of its own (a core for each of
    their threads, or an accelerator); neighbours share one if need be. With None there is one to each free place.

    An actor runs its calls in the order in which they were made, so that the numbers do not depend on how many
    there are. When one dies, or none makes progress for the patience of `terms`, `StageLost` is raised and `death` says
    why; the next child begins with new ones.
    """

    def __init__(
        self, workers: int | None, *, terms: Terms = OWN_RAY, told: Callable[[str], None] = lambda text: None
    ) -> None:
        self._terms, self._local, self._told = terms, terms.address is None, told
        self._owns_ray = not ray.is_initialized()
        self._watchdog = start((workers or 1) * terms.threads, terms.address) if self._owns_ray else None
        self._unit, self._asked = unit(local=self._local), workers
        size = workers if workers is not None else max(1, free(self._unit, terms.threads))
        self._cores = pinned_cores(size, terms.threads) if self._local else [()] * size
        self._actors = [self._actor(cores) for cores in self._cores]
        self._nodes: dict[int, str] = {}
        self._longest = 0.0
        self.death: Death | None = None
        """Why the child that was begun last was lost, if it was."""
        self.refusal: UserError | None = None
        """Why no actor could start for it."""

    @property
    def pids(self) -> list[int]:
        """Process ids of the actors, for those who want to watch (or kill) one."""
        return [pid for pid, _ in ray.get([actor.about.remote() for actor in self._actors])]

    def begin(self, setups: Sequence[Setup]) -> Sequence[Hand]:
        self.death = self.refusal = None
        self._nodes.clear()
        count = min(len(self._actors), len(setups))
        slots = [setup.group * count // len(setups) for setup in setups]
        for slot in range(count):
            self._arrive(slot)
        calls = list[Any]()
        for slot in range(count):
            mine = [setup for setup, its in zip(setups, slots, strict=True) if its == slot]
            calls.append(self._actors[slot].begin.remote(mine))
        self.values(calls)
        return [_ActorHand(self._actors[slot], setup.group) for setup, slot in zip(setups, slots, strict=True)]

    def values(self, futures: Sequence[Any]) -> list[Any]:
        asked, began = self._terms.patience, time.monotonic()
        allowed, look = patience(asked, self._longest, 0.0), period(asked)
        for _ in range(ceil(allowed / look)):  # looks are counted: this process may itself be stopped for a while
            try:
                found = ray.get([*futures], timeout=look)
            except ray.exceptions.GetTimeoutError:
                continue
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, ray.exceptions.ObjectLostError | ray.exceptions.RayActorError):
                    raise
                raise self._lost(death_of(error.cause, gone=self._gone())) from error
            except ray.exceptions.RayError as error:
                raise self._lost(death_of(error, gone=self._gone())) from error
            self._longest = max(self._longest, time.monotonic() - began)
            return found
        for actor in self._actors:
            ray.kill(actor)
        raise self._lost(Death("hung", f"no progress of its groups for {allowed:.0f} s"))

    def close(self) -> None:
        for actor in self._actors:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)
        self._actors = []
        if self._owns_ray:
            ray.shutdown()
        if self._watchdog is not None:
            self._watchdog.end()

    def _actor(self, cores: Collection[int]) -> Any:
        options = reserving(self._unit, self._asked, self._terms.threads)
        return ray.remote(StageWorker).options(**options).remote(cores)

    def _arrive(self, slot: int) -> None:
        """Wait for an actor's place; one that has died since the last child is replaced first.

        Raises `StageLost` when none can start, and `refusal` says why.
        """
        for tries in range(FAILED_STARTS):
            call = self._actors[slot].about.remote()
            if not ended([call], timeout=CROWDED_SECONDS):
                self._told("The Ray cluster has no place free for a group of the child: waiting for one.")
                ended([call], timeout=None)
            try:
                _, self._nodes[slot] = ray.get(call)
            except ray.exceptions.RayError as error:
                if tries + 1 == FAILED_STARTS:
                    self.refusal = cannot_start(error)
                    raise StageLost(self.refusal.message) from error
                with suppress(ray.exceptions.RayError):
                    ray.kill(self._actors[slot])
                self._actors[slot] = self._actor(self._cores[slot])
            else:
                return

    def _lost(self, death: Death) -> StageLost:
        self.death = death
        return StageLost(f"the worker of one of its groups died: {death.text}")

    def _gone(self) -> bool:
        """Whether Ray knows that the machine of a stage has gone."""
        return not self._local and not {*self._nodes.values()} <= {*machines()}


class PipelineEvaluator(InProcessEvaluator):
    """Trains one candidate after the other: its groups on Ray, prefix, validation and end-to-end children here.

    A child that loses a stage is trained again with the same identity, as often as `deaths` says. Where no actor can
    start, training raises `UserError`: no other child would fare better.
    """

    def __init__(
        self,
        workers: int | None,
        *,
        terms: Terms = OWN_RAY,
        cache: CacheLimits = CacheLimits(),
        home: str | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.stages = RayCrew(workers, terms=terms, told=told)
        super().__init__(cache, home, told, self.stages)

    def _trained(self, assignment: Assignment, dataset: Dataset, recorder: Recorder) -> Outcome:
        deaths: list[Death] = []
        while True:
            outcome = super()._trained(assignment, dataset, recorder)
            if self.stages.refusal is not None:
                raise self.stages.refusal
            death = self.stages.death
            if not isinstance(outcome, Failed) or outcome.kind != "worker lost" or death is None:
                return outcome
            deaths.append(death)
            failed = verdict(assignment.candidate.id, deaths)
            if failed is not None:
                return failed

    def close(self) -> None:
        super().close()
        self.stages.close()
