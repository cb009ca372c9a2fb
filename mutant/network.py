"""A path as a function: a chain of layers from uint8 images to logits."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mutant import backend, families
from mutant.component import Arrays, Component, Spec
from mutant.path import Path
from mutant.typed import jnp, xla

BATCH = 16
"""Rows of every inference program. One fixed shape, so that a row's bits depend on nothing but the row."""

Tree = Sequence[Mapping[str, jax.Array]]
Images = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


def forward(chain: Sequence[Spec], arrays: Tree, x: jax.Array) -> jax.Array:
    """Apply the layers of `chain` in order. x: [B, S, S, 3] uint8 for a whole path, else what the layer below emits.

    A barrier between components keeps XLA from fusing across them: a component's numbers do not depend on its
    neighbours, so one program equals one for each component, and an untrained adapter changes nothing.
    """
    for spec, values in zip(chain, arrays, strict=True):
        x = xla.lax.optimization_barrier(families.apply(spec, values, x))
    return x


@lru_cache(maxsize=4096)
def program(spec: Spec) -> Callable[[Mapping[str, jax.Array], Any], jax.Array]:
    """The compiled forward of one kind of component: every path that has one runs the same program."""
    backend.keep_compiled_programs()

    def run(arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        return families.apply(spec, arrays, x)

    return xla.jit(run, compiler_options=dict(backend.inference_options()))


def on_device(arrays: Sequence[Arrays]) -> Tree:
    return [{name: jnp.asarray(value) for name, value in values.items()} for values in arrays]


def run_in_batches(chain: Sequence[Spec], arrays: Tree, inputs: np.ndarray[Any, Any], batch: int = BATCH) -> Floats:
    """Outputs of a chain for all rows of `inputs`, computed `batch` rows at a time; the last batch is padded.

    Component by component, so that a new path compiles only what no path had before.
    """
    programs = [program(spec) for spec in chain]
    outputs: list[Any] = []
    for start in range(0, len(inputs), batch):
        rows = inputs[start : start + batch]
        x: Any = np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows), axis=0)]) if len(rows) < batch else rows
        for run, values in zip(programs, arrays, strict=True):
            x = run(values, x)
        outputs.append(np.asarray(x)[: len(rows)])
    if not outputs:
        raise ValueError("no rows to run")
    return np.concatenate(outputs)


def predict_logits(path: Path, components: Mapping[str, Component], images: Images) -> Floats:
    """Logits [n, classes] of a path for images [n, S, S, 3], uint8, S being the path's image size."""
    chain = tuple(part.spec for part in path.parts)
    arrays = on_device([components[part.digest].arrays for part in path.parts])
    return run_in_batches(chain, arrays, images)


def probabilities(logits: Floats) -> Floats:
    """Softmax over the last axis, in float32."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
