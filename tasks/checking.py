"""Whether a task's URI leads to a task, found out without decoding an image, and without preparing a TFDS data set."""

from __future__ import annotations

from dataclasses import dataclass

from mutant.tasks.limits import DEFAULT_LIMITS, Limits
from mutant.tasks.load import choose, keeps_untrained, source, split_sizes
from mutant.tasks.slicing import named_splits
from mutant.tasks.task import SPLIT_NAMES
from mutant.tasks.uri import parse


@dataclass(frozen=True)
class Checked:
    """A URI that leads to a task: `what` it is, its number of classes, and examples of each split that is given.

    `examples` is None for a TFDS data set that is not prepared here: whether it has the splits is known only then.
    """

    uri: str
    what: str
    classes: int
    examples: tuple[tuple[str, int], ...] | None


def check(uri: str, *, limits: Limits = DEFAULT_LIMITS) -> Checked:
    """What the URI leads to. Raises UserError for what stands in the way.

    Of a TFDS data set it looks at its code or its files: name, configuration, image and label. Other sources are read
    as for loading, but for the images: files are there, have labels, and the splits can be chosen.
    """
    parsed = parse(uri).resolved()
    keeps_untrained(parsed)
    written = [text for split in SPLIT_NAMES if (text := parsed.option(split)) is not None]
    for text in written:
        named_splits(text)
    if parsed.scheme == "tfds":
        from mutant.tasks.sources.tfds import describe

        found = describe(parsed)
        what, classes, there = found.full_name, len(found.label.names), found.sizes
    else:
        raw = source(parsed.scheme).read(parsed, limits)
        what, classes, there = raw.source_version or parsed.scheme, len(raw.class_names), split_sizes(raw)
    if there is None:
        return Checked(uri, what, classes, None)
    chosen = choose(parsed, there)
    counts = tuple((name, sum(part.stop - part.start for part in parts)) for name, (_, parts) in chosen.items())
    return Checked(uri, what, classes, counts)
