"""The evaluator of a crew: in this process, on Ray, or on Ray with several workers to a child."""

from collections.abc import Callable

from mutant.activations.limits import CacheLimits
from mutant.search.evaluator import Evaluator, InProcessEvaluator
from mutant.search.workers import ALONE, OWN_RAY, Crew, Gangs, Terms, ray_is_installed
from mutant.tasks.errors import missing_extra


def in_this_process(crew: Crew, address: str | None, gang: int) -> bool:
    """Whether the controller trains the children itself, without Ray."""
    return crew.workers == 1 and address is None and gang == 1


def start_evaluator(
    crew: Crew,
    *,
    terms: Terms = OWN_RAY,
    cache: CacheLimits = CacheLimits(),
    home: str | None = None,
    told: Callable[[str], None] = lambda text: None,
    pipeline: bool = False,
    gangs: Gangs = ALONE,
) -> Evaluator:
    """The evaluator for a crew; Ray is imported only for more than one worker or a cluster.

    `pipeline`: the workers share the groups of one child, instead of having a child each.
    `cache` and `home`: how much of activations each host keeps, and the name of its directory for them. `gangs`: how
    many workers train a child together.
    """
    if in_this_process(crew, terms.address, gangs.size):
        return InProcessEvaluator(cache, home, told)
    if not ray_is_installed():
        raise missing_extra("ray", "ray")
    if gangs.size > 1:
        from mutant.search.ray_gangs import GangEvaluator

        return GangEvaluator(crew.workers, gangs, terms=terms, cache=cache, home=home, told=told)
    if pipeline:
        from mutant.search.ray_stages import PipelineEvaluator

        return PipelineEvaluator(crew.workers, terms=terms, cache=cache, home=home, told=told)
    from mutant.search.ray_evaluator import RayEvaluator

    return RayEvaluator(crew.workers, terms=terms, cache=cache, home=home, told=told)
