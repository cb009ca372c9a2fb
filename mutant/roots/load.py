"""Loading a root: the pretrained components that everything starts from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mutant.blueprint import head_spec
from mutant.checkpoints import read_checkpoint
from mutant.component import Component, Spec
from mutant.families import check_arrays, family_module, initial
from mutant.families.chain import Converted, Raw, Slot
from mutant.path import HEAD
from mutant.roots.cache import cache_directory
from mutant.roots.info import RootInfo
from mutant.roots.obtain import Trust, Weights, from_file, obtain
from mutant.roots.rows import RANDOM, find
from mutant.tasks.errors import UserError


@dataclass(frozen=True)
class RootPart:
    """A component in its slot. `depth`: the number of blocks that a path must have for this slot to be in it."""

    slot: str
    depth: int
    component: Component


@dataclass(frozen=True)
class Root:
    """A loaded root. `sha256` is the weights file's ("" for random weights), `native_image_size` in pixels.

    `head` is the source's own classifier, if it has one and all blocks were kept.
    """

    name: str
    family: str
    licence: str
    source: str
    sha256: str
    native_image_size: int
    parts: tuple[RootPart, ...]
    head: Component | None = None

    @property
    def n_parameters(self) -> int:
        return sum(part.component.n_parameters for part in self.parts)


def layout(name: str, *, blocks: int | None = None, image_size: int | None = None) -> tuple[Slot, ...]:
    """A root's slots and Specs, without fetching anything.

    `blocks` keeps a prefix of the blocks (None: all), `image_size` is what the position embeddings are stored for.
    Raises `UserError` for an unknown root, too many blocks, or a size that does not fit the patches.
    """
    info = find(name)
    if blocks is not None and not 0 <= blocks <= info.blocks:
        raise UserError(f"Root '{info.name}' has {info.blocks} blocks, not {blocks}.", hint=f"Give 0 to {info.blocks}.")
    kept = info.blocks if blocks is None else blocks
    slots = family_module(info.family).chain(info.architecture, image_size or info.image_size)
    return tuple(slot for slot in slots if slot.depth <= kept)


def load_root(
    name: str,
    *,
    blocks: int | None = None,
    image_size: int | None = None,
    file: Path | None = None,
    sha256: str | None = None,
    trust_first_use: bool = False,
    cache_dir: Path | None = None,
    seed: int = 0,
) -> Root:
    """Load root `name`, or draw `random:NAME` with `seed`; random weights are never a substitute for pretrained ones.

    `blocks` and `image_size` as in `layout`. The weights come from `file` if one is given, else from the cache, else
    from the registry's sources in order. A source without a known SHA-256 needs `sha256`, or `trust_first_use` to
    believe what is downloaded. Raises `UserError` when nothing can be had, or what was had is damaged or of another
    model.
    """
    info = find(name)
    slots = layout(name, blocks=blocks, image_size=image_size)
    if name.startswith(RANDOM):
        if file is not None:
            raise UserError(f"'{name}' takes no weights file.", hint=f"Did you mean '{info.name}'?")
        return _root(info, name, f"random, seed {seed}", "", image_size, _random_parts(slots, seed), None)
    trust = Trust(sha256, trust_first_use)
    if file is not None:
        weights = from_file(info, file, trust)
    else:
        weights = obtain(info, cache_dir or cache_directory(), trust)
    converted = _convert(info, weights)
    parts = tuple(RootPart(s.name, s.depth, _component(info, s, converted)) for s in slots)
    head = _head(converted[HEAD]) if HEAD in converted and blocks in (None, info.blocks) else None
    return _root(info, name, weights.source, weights.sha256, image_size, parts, head)


def _root(
    info: RootInfo,
    name: str,
    source: str,
    sha256: str,
    image_size: int | None,
    parts: tuple[RootPart, ...],
    head: Component | None,
) -> Root:
    return Root(name, info.family, info.licence, source, sha256, image_size or info.image_size, parts, head)


def _random_parts(slots: tuple[Slot, ...], seed: int) -> tuple[RootPart, ...]:
    """Randomness by position: a slot's draw depends on the seed and its place alone."""

    def draw(index: int, spec: Spec) -> Component:
        return Component(spec, initial(spec, np.random.default_rng([seed, index])))

    return tuple(RootPart(s.name, s.depth, draw(i, s.spec)) for i, s in enumerate(slots))


def _convert(info: RootInfo, weights: Weights) -> Converted:
    """The file's arrays by slot; a file of the caller's may be in any form that the family can read."""
    converters = family_module(info.family).CONVERTERS
    raw = read_checkpoint(weights.path)
    failures: list[str] = []
    for name in (weights.converter,) if weights.converter else converters:
        try:
            return converters[name](info.architecture, raw)
        except (UserError, ValueError, IndexError) as error:  # arrays of unexpected shapes fail in NumPy
            failures.append(f"as {name}: {error}")
    raise UserError(f"{weights.path.name} holds no weights of root '{info.name}' ({'; '.join(failures)}).")


def _component(info: RootInfo, slot: Slot, converted: Converted) -> Component:
    arrays = family_module(info.family).fit(slot.spec, converted[slot.name])
    try:
        check_arrays(slot.spec, arrays)
    except UserError as error:
        raise UserError(f"The weights are not those of root '{info.name}': in {slot.name}, {error.message}") from error
    return Component(slot.spec, arrays)


def _head(arrays: Raw) -> Component:
    features_in, classes = arrays["kernel"].shape
    spec = head_spec(features_in, classes)
    check_arrays(spec, arrays)
    return Component(spec, arrays)
