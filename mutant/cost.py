"""What a path costs: forward FLOPs per image by XLA's own count, and the FLOPs that training a child takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from mutant.blueprint import Blueprint
from mutant.component import Spec
from mutant.counting import trained_flops
from mutant.families import apply, shapes
from mutant.typed import xla

Shape = tuple[int, ...]


@lru_cache(maxsize=4096)
def _component_cost(spec: Spec, shape: Shape, dtype: str) -> tuple[float, Shape, str]:
    """(FLOPs, output shape, output dtype) of one component on one row."""
    arrays = {name: xla.ShapeDtypeStruct(s, d) for name, (s, d) in shapes(spec).items()}
    x = xla.ShapeDtypeStruct((1, *shape), np.dtype(dtype))
    lowered = xla.jit(partial(apply, spec)).lower(arrays, x)
    analysis: dict[str, float] = lowered.cost_analysis() or {}
    out = lowered.out_info
    return float(analysis.get("flops", 0.0)), tuple(out.shape[1:]), np.dtype(out.dtype).name


@dataclass(frozen=True)
class Stage:
    """What one component of a chain costs for an image (forward FLOPs), and what it gives."""

    flops: float
    shape: Shape
    dtype: str


def stages(chain: Sequence[Spec], image_size: int) -> tuple[Stage, ...]:
    """Each component of a chain on one image of `image_size` pixels square."""
    return _stages(chain, (image_size, image_size, 3), "uint8")


def _stages(chain: Sequence[Spec], shape: Shape, dtype: str) -> tuple[Stage, ...]:
    found: list[Stage] = []
    for spec in chain:
        flops, shape, dtype = _component_cost(spec, shape, dtype)
        found.append(Stage(flops, shape, dtype))
    return tuple(found)


def chain_flops(chain: Sequence[Spec], shape: Shape, dtype: str) -> tuple[float, ...]:
    """Forward FLOPs of each component of a chain, or of a part of one, for one row of `shape` and `dtype`."""
    return tuple(stage.flops for stage in _stages(chain, shape, dtype))


def component_flops(chain: Sequence[Spec], image_size: int) -> tuple[float, ...]:
    """Forward FLOPs of each component of a chain for one image of `image_size` pixels square."""
    return tuple(stage.flops for stage in stages(chain, image_size))


def forward_flops(chain: Sequence[Spec], image_size: int) -> float:
    """Forward FLOPs of a whole path for one image: the compute cost of the score."""
    return sum(component_flops(chain, image_size))


def training_flops(plan: Blueprint, image_size: int, *, examples: int, validation_examples: int) -> float:
    """Counted FLOPs of training a child: a forward and a backward (twice a forward) above the frozen prefix."""
    flops = component_flops(plan.chain, image_size)
    return trained_flops(flops, plan.frozen_prefix, examples=examples, validation_examples=validation_examples)
