"""From a task URI to a task and its examples. The same URI over the same content gives the same result anywhere."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from mutant.tasks.content import ChainContent
from mutant.tasks.decoding import Budget, Decoded, Failure, decode_all, skipped_notes
from mutant.tasks.errors import UserError, printable, unknown
from mutant.tasks.examples import Examples
from mutant.tasks.limits import DEFAULT_LIMITS, Limits
from mutant.tasks.raw import RawTask
from mutant.tasks.slicing import Selection, select
from mutant.tasks.splits import Example, Resolved, fingerprint, resolve
from mutant.tasks.task import SPLIT_NAMES, Split, Task
from mutant.tasks.uri import OPTIONS, UNTRAINED, TaskURI, check_name, default_name, parse


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """A task with the content of its splits."""

    task: Task
    train: Examples
    validation: Examples
    test: Examples

    def split(self, name: str) -> Examples:
        """The examples of split `name`; raises UserError for an unknown one."""
        self.task.split(name)
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


class Source(Protocol):
    """A module of `mutant.tasks.sources`."""

    def read(self, uri: TaskURI, limits: Limits) -> RawTask:
        """Everything the URI's target holds, nothing decoded; raises UserError."""
        ...


def load(uri: str, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS) -> LoadedTask:
    """The task at `uri`, called `name` (by default after its file, data set or sample).

    Raises UserError for whatever is wrong with the URI or its content.
    """
    parsed = parse(uri).resolved()
    task_name = check_name(default_name(parsed) if name is None else name)
    keep_untrained = keeps_untrained(parsed)
    raw = source(parsed.scheme).read(parsed, limits)
    total = sum(len(split.labels) for split in raw.splits)
    if total > limits.max_examples:
        raise UserError(f"{total:,} examples are more than the limit of {limits.max_examples:,}.")
    chosen = choose(parsed, split_sizes(raw))
    chain, labels = _chain(raw, chosen)
    decoded = decode_all(chain, range(len(chain)), limits, Budget(limits.decoded_budget))
    failures = [item for item in decoded if isinstance(item, Failure)]
    notes = (*raw.notes, *skipped_notes(failures, len(chain), limits))
    origins = {split: text for split, (text, _) in chosen.items()}
    resolved = resolve(_given(chosen, labels, decoded), origins, keep_untrained=keep_untrained)
    task = _task(task_name, parsed, raw, resolved, notes)
    classes = {label: index for index, label in enumerate(task.class_names)}
    train, validation, test = (_examples(resolved.splits[s], chain, decoded, classes, limits) for s in SPLIT_NAMES)
    return LoadedTask(task, train, validation, test)


def source(scheme: str) -> Source:
    """The module that reads URIs of a known scheme."""
    assert scheme in OPTIONS
    return cast(Source, importlib.import_module(f"mutant.tasks.sources.{scheme}"))


def split_sizes(raw: RawTask) -> dict[str, int]:
    """Examples of each of the source's own splits."""
    return {split.name: len(split.labels) for split in raw.splits}


Chosen = Mapping[str, tuple[str, tuple[Selection, ...]]]


def choose(uri: TaskURI, sizes: Mapping[str, int]) -> Chosen:
    """For each split that is given: how it is written, and the parts of the source's splits that it takes.

    Raises UserError for what selects nothing, or for two splits with common examples.
    """
    written = {split: uri.option(split) or (split if sizes.get(split) else None) for split in SPLIT_NAMES}
    chosen = {split: (text, select(text, sizes)) for split, text in written.items() if text is not None}
    for split, (text, _) in chosen.items():
        if uri.option(split) is not None and not any(s.stop > s.start for s in chosen[split][1]):
            raise UserError(f"{split}={text} selects no example.", hint=f"Splits there: {_written(sizes)}.")
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if first in chosen and second in chosen:
            common = _overlap(chosen[first][1], chosen[second][1])
            if common:
                raise UserError(
                    f"{first}={chosen[first][0]} and {second}={chosen[second][0]} share {common:,} examples.",
                    hint=f"Choose disjoint parts with ?{first}=...&{second}=...; splits there: {_written(sizes)}.",
                )
    return chosen


def keeps_untrained(uri: TaskURI) -> bool:
    """Whether classes without a training example are wanted. Raises UserError for another value of the option."""
    wanted = uri.option(UNTRAINED) or "refuse"
    if wanted not in ("keep", "refuse"):
        raise unknown("value of untrained", wanted, ("keep", "refuse"))
    return wanted == "keep"


def _written(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{printable(name)} ({size:,})" for name, size in sizes.items())


def _overlap(first: Sequence[Selection], second: Sequence[Selection]) -> int:
    return sum(max(0, min(a.stop, b.stop) - max(a.start, b.start)) for a in first for b in second if a.split == b.split)


def _chain(raw: RawTask, chosen: Chosen) -> tuple[ChainContent, list[str]]:
    """All chosen images after one another, split by split, and their class names."""
    place = {split.name: position for position, split in enumerate(raw.splits)}
    selections = [selection for _, parts in chosen.values() for selection in parts]
    ranges = [np.arange(s.start, s.stop, dtype=np.int64) for s in selections] or [np.empty(0, np.int64)]
    parts = [np.full(s.stop - s.start, place[s.split], dtype=np.int64) for s in selections] or [np.empty(0, np.int64)]
    chain = ChainContent(tuple(s.content for s in raw.splits), np.concatenate(parts), np.concatenate(ranges))
    labels: list[str] = []
    for s in selections:
        labels += [raw.class_names[i] for i in raw.splits[place[s.split]].labels[s.start : s.stop].tolist()]
    return chain, labels


def _given(
    chosen: Chosen,
    labels: Sequence[str],
    decoded: Sequence[Decoded | Failure],
) -> dict[str, list[Example]]:
    given: dict[str, list[Example]] = {}
    start = 0
    for split, (_, parts) in chosen.items():
        stop = start + sum(part.stop - part.start for part in parts)
        places = ((place, decoded[place]) for place in range(start, stop))
        given[split] = [Example(place, d.hash, labels[place]) for place, d in places if isinstance(d, Decoded)]
        start = stop
    return given


def _task(name: str, uri: TaskURI, raw: RawTask, resolved: Resolved, notes: tuple[str, ...]) -> Task:
    used = {example.label for examples in resolved.splits.values() for example in examples}
    class_names = tuple(label for label in raw.class_names if label in used)
    unused = [label for label in raw.class_names if label not in used]
    if unused:
        shown = ", ".join(f"'{label}'" for label in unused[:5]) + (", ..." if len(unused) > 5 else "")
        notes += (f"{len(unused):,} classes of the source have no example and were left out: {shown}",)
    splits = tuple(
        Split(
            split,
            len(resolved.splits[split]),
            fingerprint(part for example in resolved.splits[split] for part in (example.hash, example.label)),
            resolved.origins[split],
        )
        for split in SPLIT_NAMES
    )
    return Task(
        name=name,
        uri=str(uri),
        class_names=class_names,
        splits=splits,
        fingerprint=fingerprint((*(part for s in splits for part in (s.name, s.fingerprint)), *class_names)),
        source_version=raw.source_version,
        licence=raw.licence,
        notes=notes + resolved.notes,
    )


def _examples(
    chosen: Sequence[Example],
    chain: ChainContent,
    decoded: Sequence[Decoded | Failure],
    classes: Mapping[str, int],
    limits: Limits,
) -> Examples:
    places = np.array([example.place for example in chosen], dtype=np.int64)
    items = [decoded[example.place] for example in chosen]
    readable = [item for item in items if isinstance(item, Decoded)]
    return Examples(
        labels=np.array([classes[example.label] for example in chosen], dtype=np.int32),
        hashes=tuple(example.hash for example in chosen),
        content=chain.take(places).compact(),
        limits=limits,
        decoded=tuple(item.pixels for item in readable),
        looks=tuple(item.looks for item in readable),
    )
