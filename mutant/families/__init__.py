"""Families: what the components of each kind compute, in Flax NNX, behind one seam.

A kind is `family/layer` (`vit/block`) or a layer that every family shares (`head`, `adapter`). A family is one file
with a table `LAYERS` of its layers, and one row of `FAMILIES`; search and storage see Specs and arrays alone.
"""

import importlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mutant.component import Spec
from mutant.families.chain import Family
from mutant.tasks.errors import UserError, unknown

if TYPE_CHECKING:
    import jax

    from mutant.families.common import Layer

    Array = jax.Array | np.ndarray[Any, Any]

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "": "mutant.families.common",
        "vit": "mutant.families.vit",
        "efficientnet": "mutant.families.efficientnet",
    }
)
"""Family to the file of its layers; the empty name holds what all families share."""

Shape = tuple[tuple[int, ...], np.dtype[Any]]


@lru_cache
def layer_class(kind: str) -> "type[Layer]":
    """The layer of a kind; its family's file is imported at the first use.

    Raises `UserError` for a kind that this version does not know (a system of a newer one).
    """
    family = kind.rpartition("/")[0]
    layers: Mapping[str, type[Layer]] = importlib.import_module(FAMILIES[family]).LAYERS if family in FAMILIES else {}
    if kind not in layers:
        raise UserError(f"No component kind {kind!r}.", hint=f"Known in its family: {', '.join(layers) or 'none'}.")
    return layers[kind]


def family_module(family: str) -> "Family":
    """A family's `chain`, `CONVERTERS` and `fit` (see `mutant.families.chain`)."""
    if not family or family not in FAMILIES:
        raise unknown("family", family, filter(None, FAMILIES))
    return cast("Family", importlib.import_module(FAMILIES[family]))


def build(spec: Spec) -> "Layer":
    """The layer of `spec`: parameters of the right shapes without meaning (see `initial`); can be built abstractly."""
    from flax import nnx

    return layer_class(spec.kind)(spec, rngs=nnx.Rngs(0))


@lru_cache(maxsize=4096)
def _abstract(spec: Spec) -> "tuple[Any, tuple[tuple[str, Any], ...]]":
    """Graph definition and (array name, abstract variable) of a spec; nothing is allocated."""
    from mutant.typed import graph

    definition, state = graph.split(graph.eval_shape(lambda: build(spec)))
    return definition, tuple(("/".join(map(str, path)), variable) for path, variable in graph.to_flat_state(state))


@lru_cache(maxsize=4096)
def shapes(spec: Spec) -> Mapping[str, Shape]:
    """Array name to (shape, dtype); batch statistics (`.../mean`, `.../var`) are among them.

    >>> shapes(Spec.of("adapter", features=768, width=32))["up/kernel"]
    ((32, 768), dtype('float32'))
    """
    return MappingProxyType({name: (tuple(v.shape), np.dtype(v.dtype)) for name, v in _abstract(spec)[1]})


def apply(spec: Spec, arrays: "Mapping[str, Array]", x: "Array") -> "jax.Array":
    """What the component computes on a batch: a pure function of `arrays` and `x`, to be jitted and differentiated."""
    from mutant.typed import graph

    definition, variables = _abstract(spec)
    flat = [(tuple(name.split("/")), variable.replace(arrays[name])) for name, variable in variables]
    return graph.merge(definition, graph.from_flat_state(flat))(x)


def initial(spec: Spec, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Starting values, drawn in NumPy in the order of the array names (jitting an `init` costs as much as a step).

    Kernels are LeCun truncated normal, biases 0, scales 1, means 0 and variances 1, save where the layer says
    otherwise: the head's kernel and an adapter's last kernel are 0.
    """
    special = layer_class(spec.kind).initials
    from mutant.families.common import default_initial

    return {
        name: special.get(name, default_initial(name))(rng, shape).astype(dtype)
        for name, (shape, dtype) in shapes(spec).items()
    }


def check_arrays(spec: Spec, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raise `UserError` naming the first array that is missing, superfluous or of the wrong shape for `spec`."""
    expected = shapes(spec)
    for name in sorted(expected.keys() | arrays.keys()):
        if name not in arrays:
            raise UserError(f"{spec.kind}: array {name!r} is missing.")
        if name not in expected:
            raise UserError(
                f"{spec.kind}: array {name!r} is not part of it.", hint=f"Its arrays: {', '.join(expected)}."
            )
        if tuple(arrays[name].shape) != expected[name][0]:
            raise UserError(
                f"{spec.kind}: array {name!r} has shape {arrays[name].shape}, expected {expected[name][0]}."
            )
