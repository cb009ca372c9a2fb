"""Training a child: SGD with momentum on what it changed, the best validation kept (arXiv 2205.10937, section 4).

Or, where it is wanted, momentum's sign, and the average of the best validations.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import ml_dtypes
import numpy as np

from mutant.activations.cache import ActivationCache
from mutant.activations.source import Source
from mutant.assignment import Assignment
from mutant.averaging import greedy
from mutant.blueprint import PlannedPart
from mutant.compilation import counting
from mutant.component import Arrays, Component, Spec, content_digest
from mutant.cost import forward_flops, training_flops
from mutant.dataset import Dataset, Split
from mutant.feed import Feed
from mutant.gang import Gang, gang_program
from mutant.groups import grouped
from mutant.interlocking import interlocked, interlocking_program
from mutant.network import BATCH, Tree, on_device, run_in_batches
from mutant.outcome import Cost, Failed, FailureKind, Outcome, Trained
from mutant.path import Part, Path
from mutant.pipeline import Crew, Pipeline, StageLost, pipelined, setups
from mutant.prefix import Prefix
from mutant.probe import probe_rows, probed_head
from mutant.pulse import Pulse
from mutant.recorder import Recorder, seat
from mutant.sgd import Child, Chunk, State, training_program
from mutant.spans import Account
from mutant.state import Numbers, initial_state, parts_of
from mutant.template import Fitted, fitted

TRACE = "trace"
ROWS = 16 * BATCH
"""Validation examples that are taken from the prefix at a time."""


def train(
    assignment: Assignment,
    dataset: Dataset,
    cache: ActivationCache,
    crew: Crew | None = None,
    pulse: Pulse | None = None,
    recorder: Recorder | None = None,
    gang: Gang | None = None,
) -> Outcome:
    """Train one candidate. Equal arguments give equal bytes, with or without what `cache` holds, or a `crew`.

    A crew holds the groups of a child whose gradients do not travel end to end; without one this process does all.
    `pulse` tells another thread how far it is. All members of a `gang` must call this alike, and each gets the whole
    outcome.
    A loss that is not finite, memory that runs out or any other error gives `Failed`, no exception. The outcome's
    account is what the `recorder` heard, from when it was made.
    """
    recorder = recorder or Recorder()
    reused, computed = cache.reused_rows, cache.computed_rows
    with cache.hearing(recorder.computed):
        outcome = _outcome(assignment, dataset, cache, crew, pulse or Pulse(), gang, recorder)
    spans = recorder.spans()
    rows = cache.reused_rows - reused, cache.computed_rows - computed
    return replace(outcome, account=Account(seat(), spans, *rows, cache.held_bytes))


def _outcome(
    assignment: Assignment,
    dataset: Dataset,
    cache: ActivationCache,
    crew: Crew | None,
    pulse: Pulse,
    gang: Gang | None,
    recorder: Recorder,
) -> Outcome:
    recorder.phase("prepare")
    started = time.monotonic()
    try:
        return _train(assignment, dataset, cache, crew, pulse, gang, recorder)
    except MemoryError as error:
        return _failed(assignment, "out of memory", str(error), started)
    except FloatingPointError as error:
        return _failed(assignment, "not finite", str(error), started)
    except StageLost as error:
        return _failed(assignment, "worker lost", str(error), started)
    except Exception as error:  # the generation goes on without this child, whatever it was
        kind = "out of memory" if "RESOURCE_EXHAUSTED" in str(error) else "error"
        return _failed(assignment, kind, f"{type(error).__name__}: {error}", started)


def _failed(assignment: Assignment, kind: FailureKind, reason: str, started: float) -> Failed:
    return Failed(assignment.candidate.id, kind, reason, Cost(seconds=time.monotonic() - started))


@dataclass
class _Best:
    """The accuracy of every validation so far, and the parts' arrays and momentum at the best of them; of all of them
    in `snapshots`, where they are to be averaged."""

    averaging: bool = False
    validations: list[float] = field(default_factory=list[float])
    quality: float = -1.0
    arrays: Sequence[Numbers] = ()
    momentum: Sequence[Numbers] = ()
    snapshots: list[Sequence[Numbers]] = field(default_factory=list[Sequence[Numbers]])
    averages: int = 0

    def heard(self, accuracy: float, arrays: Sequence[Numbers], momentum: Sequence[Numbers]) -> None:
        better = accuracy > self.quality
        copied = _copied(arrays) if better or self.averaging else ()
        if better:
            self.quality, self.arrays, self.momentum = accuracy, copied, _copied(momentum)
        if self.averaging:
            self.snapshots.append(copied)
        self.validations.append(accuracy)

    def average(self, accuracy: Callable[[Sequence[Numbers]], float]) -> None:
        """Keep the average of the best validations; the momentum stays that of the best one."""
        self.quality, self.arrays = greedy(self.validations, self.snapshots, accuracy)
        self.averages = len(self.snapshots) - 1


def _copied(parts: Sequence[Numbers]) -> list[Numbers]:
    return [{name: np.array(array) for name, array in arrays.items()} for arrays in parts]


def _train(
    assignment: Assignment,
    dataset: Dataset,
    cache: ActivationCache,
    crew: Crew | None,
    pulse: Pulse,
    gang: Gang | None,
    recorder: Recorder,
) -> Trained:
    started = time.monotonic()
    suffix = fitted(assignment.blueprint)
    feed = Feed(assignment, dataset, cache, suffix.inputs, recorder, gang)
    with counting(recorder.compiled) as before:
        head, probing = _probed(assignment, dataset, cache)
        put = on_device if gang is None else list[Any]  # a gang takes from the host what each device is to have
        state, buffers = initial_state(assignment, suffix, head, put=put)
    best = _Best(averaging=assignment.training.averaging == "greedy")

    def validate(parts: Sequence[Numbers]) -> float:
        return _accuracy(assignment, parts, feed.validation, dataset.validation, pulse, gang)

    looped, computed = time.monotonic(), cache.computed_seconds
    with counting(recorder.compiled) as compiled, feed.chunks() as chunks:
        for reached, losses in _visits(assignment, suffix, (state, buffers), chunks, crew, pulse, gang):
            recorder.phase("validate")
            _check_finite(losses, len(best.validations) * feed.steps)
            arrays = parts_of(suffix, [{**v, **b} for v, b in zip(reached.values, buffers, strict=True)])
            best.heard(validate(arrays), arrays, parts_of(suffix, reached.momentum))
            if assignment.hopeless(len(best.validations), best.quality):
                break
            recorder.phase("train")
        if best.averaging and len(best.validations) == feed.visits:
            recorder.phase("validate")
            best.average(validate)
    recorder.phase("pack")
    waited = max(0.0, feed.waited - (cache.computed_seconds - computed))
    device = max(0.0, probing - before.seconds) + max(0.0, time.monotonic() - looped - waited - compiled.seconds)
    result = _result(assignment, best)
    examples = feed.per_visit * len(best.validations)
    validated = len(dataset.validation) * (len(best.validations) + best.averages)
    size = assignment.blueprint.hyperparameters.image_size
    flops = training_flops(assignment.blueprint, size, examples=examples, validation_examples=validated)
    seconds = time.monotonic() - started
    compiling, programs = before.seconds + compiled.seconds, before.programs + compiled.programs
    cost = Cost(seconds, examples, flops, device, waited, compiling, programs)
    return Trained(*result, tuple(best.validations), cost)


def _probed(assignment: Assignment, dataset: Dataset, cache: ActivationCache) -> tuple[dict[str, Any] | None, float]:
    """A new head's first arrays where it starts from a probe, of what the child's body gives before it is trained; and
    the seconds of computing that this took.

    A fresh adapter changes nothing yet, so that this is a prefix of frozen components like any other, and cached.
    """
    *body, head = assignment.blueprint.parts
    if assignment.training.head_start != "probe" or head.source is not None:
        return None, 0.0
    sources = [(part.spec, part.source.digest) for part in body if part.source is not None]
    prefix = Prefix(tuple(spec for spec, _ in sources), tuple(digest for _, digest in sources))
    rows = probe_rows(len(dataset.train))
    before = cache.computed_seconds
    features = cache.source(prefix, assignment.components, dataset.train, wanted=assignment.wanted).take(rows)
    taken = time.monotonic()
    arrays = probed_head(features, dataset.train.labels[rows], head.spec["classes"])
    return dict(arrays), cache.computed_seconds - before + time.monotonic() - taken


def _visits(
    assignment: Assignment,
    suffix: Fitted,
    start: tuple[State, Tree],
    chunks: Iterator[tuple[int, Chunk]],
    crew: Crew | None,
    pulse: Pulse,
    gang: Gang | None,
) -> Iterator[tuple[State, Sequence[Any]]]:
    """The state after each validation period and the losses of its steps; the next period uses the state up.

    `start` is the state to begin with, and the buffers.
    """
    main, buffers = start
    groups = grouped(suffix, assignment.training)
    settings = assignment.blueprint.hyperparameters
    chunks = _beating(chunks, pulse)
    momentum, nesterov = np.float32(settings.momentum or 0.0), np.bool_(settings.nesterov)
    child = Child(suffix.numbers, suffix.trained, momentum, nesterov, np.bool_(settings.optimizer == "signum"))
    if gang is not None:
        yield from _in_a_gang(gang, suffix, main, buffers, child, chunks, pulse)
    elif groups.end_to_end:
        yield from _on_one_device(training_program(suffix.template), main, buffers, child, chunks, pulse)
    elif crew is not None:
        yield from pipelined(Pipeline(crew, setups(suffix, groups, main, buffers, child)), chunks)
    else:
        program = interlocking_program(suffix.template, groups)
        start_state = interlocked(suffix, groups, main)
        for state, losses in _on_one_device(program, start_state, buffers, child, chunks, pulse):
            yield state.main, losses


def _in_a_gang(
    gang: Gang,
    suffix: Fitted,
    state: State,
    buffers: Tree,
    child: Child,
    chunks: Iterator[tuple[int, Chunk]],
    pulse: Pulse,
) -> Iterator[tuple[State, Sequence[Any]]]:
    program, placed = gang_program(suffix.template, gang), gang.placed(state, buffers, child)
    brought = ((visit, gang.chunk(chunk)) for visit, chunk in chunks)
    for reached, losses in _on_one_device(program, *placed, brought, pulse):
        yield gang.gathered(reached), losses


def _on_one_device(
    program: Callable[..., tuple[Any, Any]],
    state: Any,
    buffers: Tree,
    child: Child,
    chunks: Iterator[tuple[int, Chunk]],
    pulse: Pulse,
) -> Iterator[tuple[Any, Sequence[Any]]]:
    for _, visit in groupby(chunks, key=itemgetter(0)):
        losses: list[tuple[Any, int]] = []
        for _, chunk in visit:
            state, some = program(state, buffers, child, chunk)
            pulse.follow(some)
            losses.append((some, int(chunk.steps)))
        yield state, [np.asarray(some)[:steps] for some, steps in losses]


def _beating(chunks: Iterator[tuple[int, Chunk]], pulse: Pulse) -> Iterator[tuple[int, Chunk]]:
    for chunk in chunks:
        pulse.beat()
        yield chunk


def _check_finite(losses: Sequence[Any], before: int) -> None:
    finite = np.isfinite(np.concatenate(losses))
    if not finite.all():
        raise FloatingPointError(f"the loss was not finite at step {before + int(np.argmin(finite))}")


def _accuracy(
    assignment: Assignment,
    parts: Sequence[Numbers],
    source: Source,
    split: Split,
    pulse: Pulse,
    gang: Gang | None,
) -> float:
    """Accuracy by the same programs that answer later; each member of a gang looks at its share of the examples."""
    plan = assignment.blueprint
    chain, arrays = plan.chain[plan.frozen_prefix :], on_device(parts)
    right = 0
    starts = range(0, len(split), ROWS)
    for start in starts if gang is None else starts[gang.rank :: gang.size]:
        rows = np.arange(start, min(start + ROWS, len(split)))
        logits = run_in_batches(chain, arrays, source.take(rows))
        right += int((np.argmax(logits, axis=-1) == split.labels[rows]).sum())
        pulse.beat()
    return (right if gang is None else gang.total(right)) / len(split)


def _result(assignment: Assignment, best: _Best) -> tuple[Path, dict[str, Component], dict[str, Arrays]]:
    """The child's path, with a new component and its momentum, each by digest, for each part that was trained."""
    candidate, plan = assignment.candidate, assignment.blueprint
    cut = plan.frozen_prefix
    components: dict[str, Component] = {}
    traces: dict[str, Arrays] = {}
    parts = [part.source for part in plan.parts[:cut] if part.source is not None]
    for part, arrays, momentum in zip(plan.parts[cut:], best.arrays, best.momentum, strict=True):
        if not part.trainable and part.source is not None:
            parts.append(part.source)
            continue
        component = Component(part.spec, arrays)
        trace = {name: array.astype(ml_dtypes.bfloat16) for name, array in momentum.items()}
        digest = content_digest(Spec.of(TRACE), trace)
        components[component.digest], traces[digest] = component, trace
        parts.append(_made(assignment, part, component, digest))
    path = Path(
        id=candidate.id,
        task=candidate.task,
        parent=candidate.parent,
        parts=tuple(parts),
        hyperparameters=plan.hyperparameters,
        mutations=candidate.mutations,
        probabilities=dict(plan.probabilities),
        quality=best.quality,
        flops=forward_flops(plan.chain, plan.hyperparameters.image_size),
    )
    return path, components, traces


def _made(assignment: Assignment, part: PlannedPart, component: Component, trace: str) -> Part:
    return Part(
        part.slot,
        part.spec,
        component.digest,
        component.n_parameters,
        part.depth,
        trained_by=assignment.candidate.id,
        task=assignment.candidate.task,
        trace=trace,
    )
