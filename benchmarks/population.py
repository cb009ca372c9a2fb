"""Heads of one prefix trained together (vmap over the population) against one after the other.

    taskset -c 0 .venv/bin/python benchmarks/population.py [--children 4]

Half a minute. 0.73 on one core, and the last bits differ: so children are trained one by one (docs/speed.md).
The program is the product's own for a template of a head alone, on 1,280 features, 26 classes, batch 32.
"""

import argparse
import json
from typing import Any

from support.timing import best_of

from mutant import backend

REPEATS, STEPS, BATCH, FEATURES, CLASSES = 5, 64, 32, 1_280, 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=4)
    children = parser.parse_args().children
    backend.prepare()
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mutant.blueprint import head_spec
    from mutant.sgd import Child, Chunk, State, training_program
    from mutant.template import Mode, Place

    rng = np.random.default_rng(0)
    program = training_program((Place(head_spec(FEATURES, 32), (Mode.LOWEST,)),))
    x = rng.standard_normal((children, STEPS, BATCH, FEATURES)).astype(np.float32)
    y = rng.integers(0, CLASSES, (children, STEPS, BATCH)).astype(np.int32)
    weights, rates = np.ones(y.shape, np.float32), np.full((children, STEPS), 0.02, np.float32)
    steps, momentum = np.full(children, STEPS, np.int32), np.full(children, 0.9, np.float32)
    modes, trained, nesterov = np.zeros(1, np.int32), np.ones(1, bool), np.zeros(children, bool)
    together = jax.jit(jax.vmap(program, in_axes=(0, None, Child(None, None, 0, 0), Chunk(0, 0, 0, 0, 0))))

    def state(*many: int) -> Any:
        values = [{"kernel": jnp.zeros((*many, FEATURES, 32)), "bias": jnp.zeros((*many, 32))}]
        return State(values, [{name: jnp.zeros_like(array) for name, array in values[0].items()}])

    def one_by_one() -> list[Any]:
        child = Child(modes, trained, momentum[0], nesterov[0])
        chunks = (Chunk(x[k], y[k], weights[k], rates[k], steps[k]) for k in range(children))
        return jax.block_until_ready([program(state(), [{}], child, chunk) for chunk in chunks])

    def at_once() -> Any:
        child, chunk = Child(modes, trained, momentum, nesterov), Chunk(x, y, weights, rates, steps)
        return jax.block_until_ready(together(state(children), [{}], child, chunk))

    alone, shared = one_by_one(), at_once()
    same = all(
        np.asarray(a).tobytes() == np.asarray(b[k]).tobytes()
        for k in range(children)
        for a, b in zip(jax.tree.leaves(alone[k]), jax.tree.leaves(shared), strict=True)
    )
    result = {
        "name": "population",
        "ratio": round(best_of(REPEATS, one_by_one).cpu / best_of(REPEATS, at_once).cpu, 2),
        "goal": 1.0,
    }
    print(json.dumps({**result, "baseline": "the same heads, one after the other", "same_bits": same}))


if __name__ == "__main__":
    main()
