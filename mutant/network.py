"""A path as a function: a chain of layers from uint8 images to logits."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from mutant import backend, families
from mutant.component import Arrays, Component, Spec
from mutant.path import Path
from mutant.shape import Signature, output_signature
from mutant.typed import xla

BATCH = 16
"""Rows of every inference program. One fixed shape, and of it only the rows that are computed alike (`steady`), so that
a row's bits depend on nothing but the row."""

TRIALS = 8
"""Rows by which it is tried which places of a batch compute alike: two orders of a sum often give the same bits."""

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


def forget_programs(spec: Spec) -> None:
    """Let go of the compiled programs of one kind of component; it is compiled again when it is called again."""
    compiled: Any = program(spec)
    compiled.clear_cache()


@lru_cache(maxsize=4096)
def steady(spec: Spec, inputs: Signature, batch: int) -> int:
    """How many rows of a batch, from the first, are computed alike: the same row gives the same bits in each of them.

    XLA's CPU back end has products whose last rows, where they do not fill a register, are summed in another order: in
    a ViT with 2 or 26 tokens, for instance, the last of 16 images comes out otherwise. It is tried, with the same
    random row everywhere; which rows it is depends on shapes alone.
    """
    shape, dtype = inputs
    rng = np.random.default_rng(0)
    shapes = families.shapes(spec).items()
    (arrays,) = on_device([{name: rng.uniform(0.05, 0.15, size).astype(kind) for name, (size, kind) in shapes}])
    whole, alike = np.dtype(dtype).kind in "iu", batch
    for _ in range(TRIALS):
        row = rng.integers(0, 256, shape).astype(dtype) if whole else rng.normal(size=shape).astype(dtype)
        outputs = np.asarray(program(spec)(arrays, np.repeat(row[None], batch, axis=0)))
        alike = next((i for i in range(1, alike) if outputs[i].tobytes() != outputs[0].tobytes()), alike)
    return alike


@lru_cache(maxsize=4096)
def steady_chain(chain: tuple[Spec, ...], inputs: Signature, batch: int) -> int:
    """The same for a chain of components."""
    least = batch
    for spec in chain:
        least, inputs = min(least, steady(spec, inputs, batch)), output_signature(spec, inputs)
    return least


def on_device(arrays: Sequence[Arrays]) -> Tree:
    return xla.device_put([dict(values) for values in arrays])


def run_in_batches(chain: Sequence[Spec], arrays: Tree, inputs: np.ndarray[Any, Any], batch: int = BATCH) -> Floats:
    """Outputs of a chain for all rows of `inputs`, computed `batch` rows at a time, as far as those are `steady`; what
    a batch has no row for is padded.

    Component by component, so that a new path compiles only what no path had before.
    """
    programs = [program(spec) for spec in chain]
    outputs: list[Any] = []
    alike = steady_chain(tuple(chain), (inputs.shape[1:], inputs.dtype.name), batch)
    for start in range(0, len(inputs), alike):
        rows = inputs[start : start + alike]
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
