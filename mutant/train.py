"""Training a child: SGD with momentum on what it changed, the best validation kept (arXiv 2205.10937, section 4)."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mutant.assignment import Assignment
from mutant.blueprint import PlannedPart
from mutant.component import Arrays, Component, Spec, content_digest, is_buffer
from mutant.cost import forward_flops, training_flops
from mutant.dataset import Dataset, Split
from mutant.families import initial
from mutant.feed import Feed
from mutant.network import Tree, on_device, run_in_batches
from mutant.outcome import Cost, Failed, FailureKind, Outcome, Trained
from mutant.path import Part, Path
from mutant.position import derive
from mutant.prefix import Activations, Prefix, PrefixCache
from mutant.sgd import State, Steps, epoch_program, merged
from mutant.typed import jnp

TRACE = "trace"


def train(assignment: Assignment, dataset: Dataset, cache: PrefixCache) -> Outcome:
    """Train one candidate. Equal arguments give equal bytes, with or without what `cache` holds.

    A loss that is not finite, memory that runs out or any other error gives `Failed`, no exception.
    """
    started = time.monotonic()
    try:
        return _train(assignment, dataset, cache, started)
    except MemoryError as error:
        return _failed(assignment, "out of memory", str(error), started)
    except FloatingPointError as error:
        return _failed(assignment, "not finite", str(error), started)
    except Exception as error:  # the generation goes on without this child, whatever it was
        kind = "out of memory" if "RESOURCE_EXHAUSTED" in str(error) else "error"
        return _failed(assignment, kind, f"{type(error).__name__}: {error}", started)


def _failed(assignment: Assignment, kind: FailureKind, reason: str, started: float) -> Failed:
    return Failed(assignment.candidate.id, kind, reason, Cost(seconds=time.monotonic() - started))


def _train(assignment: Assignment, dataset: Dataset, cache: PrefixCache, started: float) -> Trained:
    plan = assignment.blueprint
    cut = plan.frozen_prefix
    prefix = _prefix(assignment, cut)
    suffix = plan.parts[cut:]
    epoch = epoch_program(plan.chain[cut:])
    feed = Feed(assignment, dataset, cache, prefix)
    state, rest = _initial_state(assignment, suffix)
    momentum = jnp.float32(plan.hyperparameters.momentum or 0.0)
    nesterov = jnp.asarray(plan.hyperparameters.nesterov)
    best, best_state, validations = -1.0, state, list[float]()
    for visit, rates in enumerate(feed.rates):
        x, y, rows, weights = feed.visit(visit)
        state, losses = epoch(state, rest, x, y, Steps(rows, weights, rates), momentum, nesterov)
        if not np.isfinite(np.asarray(losses)).all():
            step = int(np.argmin(np.isfinite(np.asarray(losses))))
            raise FloatingPointError(f"the loss was not finite at step {visit * len(rates) + step}")
        accuracy = _accuracy(plan.chain[cut:], merged(state.values, rest), feed.validation, dataset.validation)
        validations.append(accuracy)
        if accuracy > best:
            best, best_state = accuracy, state
        if assignment.hopeless(len(validations), best):
            break
    examples = feed.examples // assignment.training.validations * len(validations)
    return _trained(assignment, dataset, best_state, rest, best, validations, time.monotonic() - started, examples)


def _prefix(assignment: Assignment, cut: int) -> Prefix:
    below = assignment.blueprint.parts[:cut]
    sources = [part.source for part in below]
    return Prefix(tuple(part.spec for part in below), tuple(s.digest for s in sources if s is not None))


def _initial_state(assignment: Assignment, suffix: Sequence[PlannedPart]) -> tuple[State, Tree]:
    values: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    momentum: list[dict[str, Any]] = []
    for part in suffix:
        arrays = starting_arrays(assignment, part)
        trained = {n: a for n, a in arrays.items() if part.trainable and not is_buffer(n)}
        values.append(trained)
        rest.append({n: a for n, a in arrays.items() if n not in trained})
        trace: Arrays = assignment.traces.get(part.source.trace or "", {}) if part.source is not None else {}
        momentum.append({n: np.asarray(trace.get(n, np.zeros_like(a)), np.float32) for n, a in trained.items()})
    return State(on_device(values), on_device(momentum)), on_device(rest)


def starting_arrays(assignment: Assignment, part: PlannedPart) -> Arrays:
    """The values a part starts from: its source's, or fresh ones drawn by the candidate's seed and the slot."""
    if part.source is not None:
        return assignment.components[part.source.digest].arrays
    return initial(part.spec, np.random.default_rng(derive(assignment.candidate.seed, "initial", part.slot)))


def _accuracy(chain: Sequence[Spec], arrays: Tree, activations: Activations, split: Split) -> float:
    logits = run_in_batches(chain, arrays, activations)
    return int((np.argmax(logits, axis=-1) == split.labels).sum()) / len(split)


def _trained(
    assignment: Assignment, dataset: Dataset, state: State, rest: Tree, quality: float,
    validations: Sequence[float], seconds: float, examples: int,
) -> Trained:  # fmt: skip
    candidate, plan = assignment.candidate, assignment.blueprint
    cut = plan.frozen_prefix
    components: dict[str, Component] = {}
    traces: dict[str, Arrays] = {}
    parts = [part.source for part in plan.parts[:cut] if part.source is not None]
    for part, values, fixed, momentum in zip(plan.parts[cut:], state.values, rest, state.momentum, strict=True):
        if not part.trainable and part.source is not None:
            parts.append(part.source)
            continue
        component = Component(part.spec, {n: np.asarray(a) for n, a in {**values, **fixed}.items()})
        trace = {n: np.asarray(a.astype(jnp.bfloat16)) for n, a in momentum.items()}
        trace_digest = content_digest(Spec.of(TRACE), trace)
        components[component.digest], traces[trace_digest] = component, trace
        parts.append(
            Part(
                part.slot,
                part.spec,
                component.digest,
                component.n_parameters,
                part.depth,
                trained_by=candidate.id,
                task=candidate.task,
                trace=trace_digest,
            )
        )
    size = plan.hyperparameters.image_size
    path = Path(
        id=candidate.id,
        task=candidate.task,
        parent=candidate.parent,
        parts=tuple(parts),
        hyperparameters=plan.hyperparameters,
        mutations=candidate.mutations,
        probabilities=dict(plan.probabilities),
        quality=quality,
        flops=forward_flops(plan.chain, size),
    )
    flops = training_flops(
        plan, size, examples=examples, validation_examples=len(dataset.validation) * len(validations)
    )
    return Trained(path, components, traces, tuple(validations), Cost(seconds, examples, flops))
