"""What loading a task may cost, so that a hostile file cannot exhaust the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read; the defaults suit photographs.

    max_pixels: width x height of one image, looked at before it is decoded.
    max_bytes: encoded bytes of one image, an archive's entry counted uncompressed.
    max_array_bytes: uncompressed bytes of one array of an .npz or IDX file.
    max_examples: examples in one task.
    max_skipped: share of unreadable images of a task above which loading fails; one is always allowed.
    decoded_budget: bytes of decoded images that stay in memory; beyond it images are decoded again when needed.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 64 * 2**20
    max_array_bytes: int = 4 * 2**30
    max_examples: int = 5_000_000
    max_skipped: float = 0.01
    decoded_budget: int = 512 * 2**20


DEFAULT_LIMITS = Limits()
