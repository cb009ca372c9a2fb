"""Templates: the few shapes of suffix that training programs are compiled for, whatever a child changes in them.

A child's suffix runs from its first trainable part to its head. Compiled as it is, nearly every child would need a
program of its own: which parts are trained, where adapters sit and where the suffix begins all differ. A template is
the union of what children of one root look like: blocks that keep the shape of their input may be passed over, every
block may have an adapter, and each part is passed over, frozen or trained by a number that the program reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np

from mutant.blueprint import Blueprint, PlannedPart, adapter_spec, head_spec
from mutant.component import Arrays, Spec
from mutant.families import shapes
from mutant.path import HEAD, NORM, adapter_slot, is_adapter, is_block, slot_index
from mutant.shape import Signature, image_signature, output_signature

ADAPTER_WIDTHS = (32, 128)
"""Adapters are padded with zeros to the next of these widths; a wider one is trained as it is."""
FEWEST_CLASSES = 16
"""Heads are padded to the next power of two of classes, and at least to this."""
CLASSIFIERS = ("head", "auxiliary_head")
NEVER = -1e9
"""The bias of a class that is padding: its probability, and so its gradient, is exactly 0."""


class Mode(IntEnum):
    """What a program does with a place of its template. What is LOWEST is trained, and nothing below it is."""

    SKIP = 0
    FROZEN = 1
    TRAINED = 2
    LOWEST = 3


@dataclass(frozen=True)
class Place:
    """One place of a template: what stands there, and the modes that it can be in."""

    spec: Spec
    modes: tuple[Mode, ...]


Template = tuple[Place, ...]


@dataclass(frozen=True)
class Fitted:
    """A child's suffix in its template: for each place its mode and the planned part (None where it is passed over).

    `inputs` is the shape and type of one row of what the suffix reads.
    """

    template: Template
    modes: tuple[Mode, ...]
    parts: tuple[PlannedPart | None, ...]
    inputs: Signature

    @property
    def numbers(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """What the program reads: for each place the index of its mode among those that the place can be in."""
        return np.asarray([p.modes.index(m) for p, m in zip(self.template, self.modes, strict=True)], np.int32)

    @property
    def trained(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each place whether it is trained."""
        return np.asarray([mode >= Mode.TRAINED for mode in self.modes])


@dataclass(frozen=True)
class _Slot:
    """A slot of the root, an adapter's place or the head, with the child's part in it, if any."""

    name: str
    spec: Spec
    part: PlannedPart | None
    inputs: Signature
    keeps: bool


def fitted(plan: Blueprint) -> Fitted:
    """The template that `plan` is trained in, and the plan's place in it.

    Children of one root share a template when their suffixes begin among the same few blocks of one shape and end in
    heads of about as many classes.
    """
    slots = _unrolled(plan)
    cut = next(i for i, slot in enumerate(slots) if slot.part is not None and slot.part.trainable)
    first = _entry(slots, cut, sum(is_block(part.slot) for part in plan.trunk))
    width = max((part.spec["width"] for part in plan.parts[plan.frozen_prefix :] if is_adapter(part.slot)), default=0)
    template = tuple(Place(_padded(slot.spec, width), _modes(slot, i)) for i, slot in enumerate(slots[first:]))
    placed = enumerate(zip(slots[first:], template, strict=True), start=first)
    modes = tuple(_mode(slot, place, index - cut) for index, (slot, place) in placed)
    parts = tuple(None if mode is Mode.SKIP else slot.part for mode, slot in zip(modes, slots[first:], strict=True))
    return Fitted(template, modes, parts, slots[cut].inputs)


def _unrolled(plan: Blueprint) -> list[_Slot]:
    """Every slot that a child of this depth can have, bottom first, with what the plan has there.

    A dropped block is among them where it can be passed over, since it keeps the shape of its input.
    """
    own = {part.slot: part for part in plan.parts}
    slots: list[_Slot] = []
    signature = image_signature(plan.hyperparameters.image_size)
    for trunk in plan.trunk:
        after = output_signature(trunk.spec, signature)
        keeps = is_block(trunk.slot) and after == signature
        if trunk.slot not in own and not keeps:
            break
        slots.append(_Slot(trunk.slot, trunk.spec, own.get(trunk.slot), signature, keeps))
        signature = after
        block = slot_index(trunk.slot)
        if block is not None:
            name = adapter_slot(block)
            slots.append(_Slot(name, adapter_spec(trunk.spec, 0), own.get(name), signature, keeps=True))
    return [*slots, _Slot(HEAD, own[HEAD].spec, own[HEAD], signature, keeps=False)]


def _entry(slots: Sequence[_Slot], cut: int, blocks: int) -> int:
    """Where the template begins: 1, 2, 4, 8, ... blocks below the root's top, as far as blocks can be passed over.

    Fewer beginnings would mean fewer programs; but what is passed over is not free, since room for what its gradient
    would need is cleared at every step. Beside a top block that changes its width, and so costs more than the block
    below, that block is cheap to pass over. A top convolution shares the program of the topmost adapter; a norm and a
    head, whose steps take next to nothing, pass over nothing.
    """
    name, index = slots[cut].name, slot_index(slots[cut].name)
    if index is None:
        return cut - 1 if name not in (NORM, HEAD) and cut and slots[cut - 1].keeps else cut
    lowest = blocks - max(1 if slots[cut].keeps else 2, 1 << (blocks - index - 1).bit_length())
    first = cut
    while first and slots[first - 1].keeps and (slot_index(slots[first - 1].name) or 0) >= lowest:
        first -= 1
    return first


def _mode(slot: _Slot, place: Place, above_cut: int) -> Mode:
    if slot.part is None or above_cut < 0:
        return Mode.SKIP
    if above_cut == 0 and Mode.LOWEST in place.modes:
        return Mode.LOWEST
    return Mode.TRAINED if slot.part.trainable else Mode.FROZEN


def _modes(slot: _Slot, above_entry: int) -> tuple[Mode, ...]:
    """The modes that any child of the template can have a slot in.

    LOWEST spares a gradient, but is one more to compile: above the entry, blocks alone have it, and what is next to it.
    """
    skipped = (Mode.SKIP,) if slot.keeps else ()
    if above_entry == 0:
        return (*skipped, Mode.LOWEST)
    if slot.name == HEAD:
        return (Mode.TRAINED,)
    lowest = (Mode.LOWEST,) if is_block(slot.name) or above_entry == 1 else ()
    return (*skipped, Mode.FROZEN, Mode.TRAINED, *lowest)


def _padded(spec: Spec, width: int) -> Spec:
    """The spec of a place: an adapter's and a head's are those of the next of a few sizes."""
    match spec.kind:
        case "adapter":
            wide = next((w for w in ADAPTER_WIDTHS if w >= width), width)
            return Spec.of("adapter", features=spec["features"], width=wide)
        case "head":
            return head_spec(spec["features_in"], max(FEWEST_CLASSES, 1 << (spec["classes"] - 1).bit_length()))
        case _:
            return spec


def padded(spec: Spec, arrays: Arrays, place: Spec, never: float = NEVER) -> Arrays:
    """A part's arrays as its place wants them: what is added takes part in nothing and gets no gradient.

    `never` is the bias of an added class (0 for a momentum).
    """
    if spec == place:
        return arrays
    wanted = {name: shape for name, (shape, _) in shapes(place).items()}
    wide: dict[str, np.ndarray[Any, Any]] = {}
    for name, array in arrays.items():
        edges = [(0, length - had) for length, had in zip(wanted[name], array.shape, strict=True)]
        fill = never if name == "bias" and spec.kind in CLASSIFIERS else 0.0
        wide[name] = np.pad(array, edges, constant_values=fill)
    return wide


def trimmed(spec: Spec, arrays: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """A part's arrays out of its place's, without the padding."""
    wanted = {name: shape for name, (shape, _) in shapes(spec).items()}
    return {n: np.asarray(a)[tuple(slice(length) for length in wanted[n])] for n, a in arrays.items()}


def nothing(spec: Spec) -> Arrays:
    """Zeros in the shapes of `spec`: what a place that is passed over holds."""
    return MappingProxyType({name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes(spec).items()})
