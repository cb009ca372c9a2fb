"""Children that cost nothing to train: real plans, real sizes, made-up numbers. The worst case for what keeps them."""

from collections.abc import Iterator, Mapping, Sequence

import ml_dtypes
import numpy as np

from mutant.answers import Answers, Images, answer
from mutant.assignment import Assignment
from mutant.component import Arrays, Component, content_digest, is_buffer
from mutant.cost import component_flops
from mutant.outcome import Cost, Outcome, Trained
from mutant.path import Part, Path
from mutant.search.evaluator import HERE, Begun, Chain, Flops, Listed, Source, Supply, Work, unheard
from mutant.state import starting_arrays
from mutant.storage.weights import TRACE


class FreeEvaluator:
    """Gives every child the arrays it starts from, moved a little, and a random quality."""

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        return self.train_from(Listed(work), supply, begun)

    def train_from(self, source: Source, supply: Supply, begun: Begun = unheard) -> Iterator[tuple[int, Outcome]]:
        while (taken := source.take(HERE)) is not None:
            index, item = taken
            begun(index, HERE)
            yield index, made_up(item, supply)

    def answer(self, path: Path, components: Mapping[str, Component], images: Images) -> Answers:
        return answer(path, components, images)

    def flops(self, chains: Sequence[Chain]) -> tuple[Flops, ...]:
        return tuple(component_flops(*chain) for chain in chains)

    def close(self) -> None:
        pass


def made_up(item: Work, supply: Supply) -> Trained:
    candidate, plan = item.candidate, item.blueprint
    rng = np.random.default_rng(candidate.seed)
    sources = supply.components(item.digests)
    assignment = Assignment(candidate, plan, sources, {}, item.training)
    components: dict[str, Component] = {}
    traces: dict[str, Arrays] = {}
    parts: list[Part] = []
    for part in plan.parts:
        if not part.trainable and part.source is not None:
            parts.append(part.source)
            continue
        moved = {
            name: np.asarray(array if is_buffer(name) else array + np.float32(rng.normal(scale=1e-3)))
            for name, array in starting_arrays(assignment, part).items()
        }
        made = Component(part.spec, moved)
        trace = {name: array.astype(ml_dtypes.bfloat16) for name, array in moved.items() if not is_buffer(name)}
        momentum = content_digest(TRACE, trace)
        components[made.digest], traces[momentum] = made, trace
        parts.append(
            Part(
                part.slot, part.spec, made.digest, made.n_parameters, part.depth, candidate.id, candidate.task, momentum
            )
        )
    quality = float(rng.random())
    path = Path(
        candidate.id, candidate.task, candidate.parent, tuple(parts), plan.hyperparameters, candidate.mutations,
        dict(plan.probabilities), quality, 1e9,
    )  # fmt: skip
    return Trained(path, components, traces, (quality,), Cost(1e-3, 1, 1.0))
