"""A child's arrays as its training program holds them: padded into the places of its template, and out again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mutant.assignment import Assignment
from mutant.blueprint import PlannedPart
from mutant.component import Arrays, is_buffer
from mutant.families import initial
from mutant.network import Tree, on_device
from mutant.path import HEAD
from mutant.position import derive
from mutant.sgd import State
from mutant.template import Fitted, nothing, padded, trimmed

Numbers = Mapping[str, np.ndarray[Any, Any]]


def starting_arrays(assignment: Assignment, part: PlannedPart) -> Arrays:
    """The values a part starts from: its source's, or fresh ones drawn by the candidate's seed and the slot."""
    if part.source is not None:
        return assignment.components[part.source.digest].arrays
    return initial(part.spec, np.random.default_rng(derive(assignment.candidate.seed, "initial", part.slot)))


def initial_state(
    assignment: Assignment,
    suffix: Fitted,
    head: Arrays | None = None,
    *,
    put: Callable[[Sequence[Arrays]], Tree] = on_device,
) -> tuple[State, Tree]:
    """Values and momentum of every place of the template, and its buffers.

    Training uses the state up, but not the arrays it is made of: JAX donates no memory that is NumPy's.

    `head` is what a new head starts from, where it does not start from zeros. `put` brings arrays to where they are
    needed: on this process's device, unless a gang places them.
    """
    values: list[dict[str, Any]] = []
    momentum: list[dict[str, Any]] = []
    buffers: list[dict[str, Any]] = []
    no_trace: Arrays = {}
    for place, part in zip(suffix.template, suffix.parts, strict=True):
        arrays, trace = nothing(place.spec), no_trace
        if part is not None:
            given = head if part.slot == HEAD and part.source is None else None
            arrays = padded(part.spec, given or starting_arrays(assignment, part), place.spec)
            trace = padded(part.spec, _starting_trace(assignment, part), place.spec, never=0.0)
        own = {name: array for name, array in arrays.items() if not is_buffer(name)}
        values.append(own)
        momentum.append({n: np.asarray(trace.get(n, np.zeros_like(a)), np.float32) for n, a in own.items()})
        buffers.append({name: array for name, array in arrays.items() if name not in own})
    return State(put(values), put(momentum)), put(buffers)


def _starting_trace(assignment: Assignment, part: PlannedPart) -> Arrays:
    if part.source is None or not part.trainable:
        return {}
    return assignment.traces.get(part.source.trace or "", {})


def parts_of(suffix: Fitted, tree: Tree) -> list[Numbers]:
    """The arrays of the child's own parts, bottom first, without what their places were padded with.

    They may be views of the device's memory: copy what must outlive the next step.
    """
    return [trimmed(part.spec, arrays) for part, arrays in zip(suffix.parts, tree, strict=True) if part is not None]
