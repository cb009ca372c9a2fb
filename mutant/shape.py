"""Shapes of activations along a chain, without computing them."""

from functools import lru_cache, partial

import numpy as np

from mutant.component import Spec
from mutant.families import apply, shapes
from mutant.typed import xla

Signature = tuple[tuple[int, ...], str]
"""Shape and type name of one row: `((64, 64, 3), "uint8")`."""


def image_signature(image_size: int) -> Signature:
    return (image_size, image_size, 3), "uint8"


@lru_cache(maxsize=4096)
def output_signature(spec: Spec, inputs: Signature) -> Signature:
    """What a component emits for one row of `inputs`."""
    shape, dtype = inputs
    arrays = {name: xla.ShapeDtypeStruct(s, d) for name, (s, d) in shapes(spec).items()}
    out = xla.eval_shape(partial(apply, spec), arrays, xla.ShapeDtypeStruct((1, *shape), np.dtype(dtype)))
    return tuple(out.shape[1:]), np.dtype(out.dtype).name
