"""Which example goes to which split: disjoint by content, what is missing held out of train, never out of test.

Pure functions over hashes and labels. No random numbers: a hold-out orders examples by a hash of their content, so it
depends neither on file names nor on order.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mutant.tasks.errors import UserError
from mutant.tasks.task import SPLIT_NAMES

HOLD_OUT_PERCENT = 10


@dataclass(frozen=True)
class Example:
    """One example: where it is in the source, the hash of its content and its class."""

    place: int
    hash: str
    label: str


@dataclass(frozen=True)
class Resolved:
    """Examples of each split in their final order, where each split came from, and what was done about duplicates."""

    splits: Mapping[str, tuple[Example, ...]]
    origins: Mapping[str, str]
    notes: tuple[str, ...]


def resolve(
    given: Mapping[str, Sequence[Example]], origins: Mapping[str, str], *, keep_untrained: bool = False
) -> Resolved:
    """Three disjoint splits from the one to three that a source gives.

    Duplicates across splits leave train (or validation, when test has them too). A missing test or validation split is
    held out of train: `HOLD_OUT_PERCENT` of each class, at least one. Examples are ordered by content.
    Classes of validation and test without a training example are an error, or noted where `keep_untrained`.
    Raises UserError, too, when there is no train split, when it has fewer than two classes, or when a class is too
    small.
    """
    if not given.get("train"):
        found = ", ".join(name for name in SPLIT_NAMES if given.get(name)) or "none"
        raise UserError(
            f"There are no training examples (splits with examples: {found}).",
            hint="Choose them, for example with ?train=test[:80%]&test=test[80%:]",
        )
    splits = {name: tuple(examples) for name, examples in given.items() if examples}
    splits, notes = _disjoint(splits)
    notes += _check_classes(splits, keep_untrained=keep_untrained)
    missing = [name for name in ("test", "validation") if name not in splits]
    counts = Counter(example.label for example in splits["train"])
    resolved_origins = {name: origins[name] for name in splits}
    for position, name in enumerate(missing):
        still_needed = len(missing) - position
        kept, held, copies = _hold_out(splits["train"], name, counts, still_needed)
        splits = {**splits, "train": kept, name: held}
        resolved_origins[name] = f"held out of {origins['train']}, {HOLD_OUT_PERCENT}%, stratified"
        notes += _count_note(copies, f"removed from train: copies of images held out for {name}")
    return Resolved(
        {name: tuple(sorted(splits[name], key=lambda e: (e.hash, e.label))) for name in SPLIT_NAMES},
        {name: resolved_origins[name] for name in SPLIT_NAMES},
        notes,
    )


def fingerprint(parts: Iterable[str]) -> str:
    """SHA-256 over a sequence of strings; no two different sequences are written alike."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()


def _disjoint(
    splits: Mapping[str, tuple[Example, ...]],
) -> tuple[dict[str, tuple[Example, ...]], tuple[str, ...]]:
    hashes = {name: {example.hash for example in examples} for name, examples in splits.items()}
    kept = dict(splits)
    notes: tuple[str, ...] = ()
    for name, others in (("validation", ("test",)), ("train", ("test", "validation"))):
        for other in others:
            if name in kept and other in kept:
                before = len(kept[name])
                kept[name] = tuple(e for e in kept[name] if e.hash not in hashes[other])
                notes += _count_note(before - len(kept[name]), f"removed from {name}: also in {other}")
    for name in SPLIT_NAMES:
        notes += _inside_notes(name, kept.get(name, ()))
        if name in kept and not kept[name]:
            raise UserError(f"Every image of {name} is also in another split.", hint="Choose other splits in the URI.")
    return kept, notes


def _inside_notes(name: str, examples: Sequence[Example]) -> tuple[str, ...]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for example in examples:
        labels[example.hash].add(example.label)
    conflicting = sum(len(found) > 1 for found in labels.values())
    return _count_note(len(examples) - len(labels), f"repeated within {name}, kept") + _count_note(
        conflicting, f"of {name} with more than one label, kept"
    )


def _count_note(count: int, what: str) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count:,} image{'s' if count > 1 else ''} {what}",)


def _check_classes(splits: Mapping[str, Sequence[Example]], *, keep_untrained: bool) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    trained = {example.label for example in splits["train"]}
    for name in ("validation", "test"):
        strange = Counter(e.label for e in splits.get(name, ()) if e.label not in trained)
        if strange and keep_untrained:
            notes += _count_note(strange.total(), f"of {name} with a class that has no training example, kept")
        elif strange:
            label, count = min(strange.items())
            raise UserError(
                f"Class '{label}' has {count:,} {name} examples but no training example"
                + (f" (and {len(strange) - 1} more classes)." if len(strange) > 1 else "."),
                hint="Every class needs training examples that are in no other split; or keep such: untrained=keep",
            )
    if len(trained) < 2:
        raise UserError(f"There is only one class, '{next(iter(trained))}'.", hint="A task needs at least two classes.")
    return notes


def _hold_out(
    train: Sequence[Example], name: str, counts: Mapping[str, int], still_needed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...], int]:
    """What stays in train, what is held out, and how many further copies of the latter were dropped."""
    groups: defaultdict[str, list[Example]] = defaultdict(list)
    for example in train:
        groups[example.hash].append(example)
    candidates: defaultdict[str, list[str]] = defaultdict(list)
    for digest, group in groups.items():
        if len({example.label for example in group}) == 1:
            candidates[group[0].label].append(digest)
    chosen: set[str] = set()
    for label in sorted(counts):
        count = max(1, (counts[label] * HOLD_OUT_PERCENT + 50) // 100)
        order = sorted(candidates[label], key=lambda digest: (len(groups[digest]) > 1, fingerprint((name, digest))))
        room = len(order) - still_needed
        if room < 1:
            raise UserError(
                f"Class '{label}' has too few distinct training examples ({len(order)}) to hold out {name}: "
                f"{still_needed + 1} are needed.",
                hint="Add images of the class, or give the source a split of that name.",
            )
        chosen.update(order[: min(count, room)])
    kept = tuple(example for example in train if example.hash not in chosen)
    held = tuple(groups[digest][0] for digest in sorted(chosen))
    return kept, held, len(train) - len(kept) - len(held)
