"""A worker that trains nothing: it answers for paths and counts FLOPs, so that the controller needs no JAX of its own.

It computes on a CPU. A controller that started JAX would take a share of an accelerator's memory, or the accelerator.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mutant import backend
from mutant.activations.limits import CacheLimits
from mutant.answers import Answers, Images
from mutant.component import Component
from mutant.path import Path
from mutant.search.deaths import ATTEMPTS
from mutant.search.evaluator import Chain, Flops
from mutant.search.ray_start import ray
from mutant.search.ray_team import CLOSE_SECONDS
from mutant.search.ray_worker import Worker


class Clerk:
    """Takes no place. With `cache` and `home` it lets go of a host's activations when it is closed, as workers do."""

    def __init__(self, cache: CacheLimits, home: str) -> None:
        self._arguments = (), cache, home
        self._actor = self._started()

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return self._asked(lambda actor: actor.answer.remote(path, components, images))

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return self._asked(lambda actor: actor.flops.remote(chains))

    def close(self) -> None:
        with suppress(ray.exceptions.RayError):
            ray.get(self._actor.close.remote(), timeout=CLOSE_SECONDS)
        ray.kill(self._actor)

    def _asked(self, call: Callable[[Any], Any]) -> Any:
        """What it answers; another one is started when it dies, as often as a child's worker may."""
        for _ in range(ATTEMPTS - 1):
            try:
                return ray.get(call(self._actor))
            except ray.exceptions.RayActorError:
                self._actor = self._started()
        return ray.get(call(self._actor))

    def _started(self) -> Any:
        variables = backend.worker_environment() | {"JAX_PLATFORMS": "cpu"}
        return ray.remote(Worker).options(num_cpus=0, runtime_env={"env_vars": variables}).remote(*self._arguments)
