"""Children of one prefix together (vmap over the population) against one after the other: training, and validation.

    taskset -c 0 .venv/bin/python benchmarks/population.py [--children 4]

The programs are the product's own: 16 training steps in a call at batch 32, and the inference programs at their one
batch of 16 rows. A head alone on 1,280 features, and suffixes of EfficientNet-Lite0 at 64 pixels, trained whole, 26
classes. Above 1 together is faster; `same_bits` says whether each child's numbers are those it has alone.
Time is CPU time of the process, of the best of the repeats. About two minutes. Training together 0.87 to 0.95, with
other last bits; validating together 1.6 without a block in the suffix, 0.86 to 0.90 with one, same bits.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

from support.timing import best_of
from support.training_program import with_worker_environment

REPEATS, STEPS, ROWS = 5, 16, 256
FIRSTS = ("norm", "block_15", "block_13")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=4)
    children = parser.parse_args().children
    with_worker_environment()
    from support.suffixes import suffix

    found: dict[str, dict[str, Any]] = {}
    shapes = {"head": head_alone(suffix("efficientnet-lite0", 64, "norm", "head", tokens=False))}
    shapes |= {f"{first}+": suffix("efficientnet-lite0", 64, first, tokens=False) for first in FIRSTS}
    for name, one in shapes.items():
        found[name] = {"training": training(one, children), "validation": validation(one, children)}
        print(name, json.dumps(found[name]), flush=True)
    every = [way["ratio"] for shape in found.values() for way in shape.values()]
    result = {"name": "population", "ratio": max(every), "goal": 1.0, "baseline": "the same children, one by one"}
    print(json.dumps({**result, "children": children, "shapes": found}))


def head_alone(one: Any) -> Any:
    """The suffix without its frozen norm: its head on features [1280]."""
    return replace(one, slots=one.slots[-1:], specs=one.specs[-1:], arrays=one.arrays[-1:], x=one.x.mean(axis=(1, 2)))


def training(one: Any, children: int) -> dict[str, Any]:
    import jax
    import numpy as np
    from support.suffixes import BATCH

    from mutant.sgd import Child, Chunk, State, training_program
    from mutant.state import initial_state
    from mutant.template import fitted

    suffix = fitted(one.assignment.blueprint)
    program = training_program(suffix.template)
    _, buffers = initial_state(one.assignment, suffix)
    rows = np.stack([np.random.default_rng(k).permutation(STEPS * BATCH) % len(one.y) for k in range(children)])
    x = one.x[rows].reshape(children, STEPS, BATCH, *one.x.shape[1:])
    y = one.y[rows].reshape(children, STEPS, BATCH)
    weights, rates = np.ones(y.shape, np.float32), np.full((children, STEPS), 0.02, np.float32)
    steps, momentum, nesterov = np.full(children, STEPS, np.int32), np.float32(0.9), np.bool_(False)
    child = Child(suffix.numbers, suffix.trained, momentum, nesterov)
    together = jax.jit(jax.vmap(program, in_axes=(0, None, None, Chunk(0, 0, 0, 0, None))), donate_argnums=0)

    def state() -> Any:
        values, trace = initial_state(one.assignment, suffix)[0]
        return State(jax.tree.map(jax.numpy.array, values), jax.tree.map(jax.numpy.array, trace))

    def one_by_one() -> list[Any]:
        chunks = (Chunk(x[k], y[k], weights[k], rates[k], steps[k]) for k in range(children))
        return jax.block_until_ready([program(state(), buffers, child, chunk)[0] for chunk in chunks])

    def at_once() -> Any:
        stacked = jax.tree.map(lambda *arrays: jax.numpy.stack(arrays), *(state() for _ in range(children)))
        return jax.block_until_ready(together(stacked, buffers, child, Chunk(x, y, weights, rates, steps[0]))[0])

    return compared(one_by_one, at_once)


def validation(one: Any, children: int) -> dict[str, Any]:
    import jax
    import numpy as np

    from mutant.families import apply
    from mutant.network import BATCH, on_device, run_in_batches

    rows = one.x[np.arange(ROWS) % len(one.x)]
    many = [
        on_device([{n: a * np.float32(1 + 0.01 * k) for n, a in own.items()} for own in one.arrays])
        for k in range(children)
    ]
    stacked = jax.tree.map(lambda *arrays: jax.numpy.stack(arrays), *many)
    programs = [jax.jit(jax.vmap(lambda arrays, x, spec=spec: apply(spec, arrays, x))) for spec in one.specs]

    def one_by_one() -> list[Any]:
        return [run_in_batches(one.specs, arrays, rows) for arrays in many]

    def at_once() -> Any:
        outputs: list[Any] = []
        for start in range(0, ROWS, BATCH):
            x: Any = np.broadcast_to(rows[start : start + BATCH], (children, BATCH, *rows.shape[1:]))
            for run, arrays in zip(programs, stacked, strict=True):
                x = run(arrays, x)
            outputs.append(np.asarray(x))
        return np.concatenate(outputs, axis=1)

    return compared(one_by_one, at_once)


def compared(one_by_one: Any, at_once: Any) -> dict[str, Any]:
    """The times' ratio, and whether the results are the same to the bit."""
    import jax
    import numpy as np

    alone, shared = one_by_one(), at_once()
    same = all(
        np.asarray(a).tobytes() == np.asarray(b[k]).tobytes()
        for k, own in enumerate(alone)
        for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(shared), strict=True)
    )
    ratio = best_of(REPEATS, one_by_one).cpu / best_of(REPEATS, at_once).cpu
    return {"ratio": round(ratio, 2), "same_bits": same}


if __name__ == "__main__":
    main()
