"""`sample:textures`: which of scikit-image's pictures does a 64x64 patch come from?

Each picture is cut along its longer side into a train, a validation and a test region with a gap between them, so that
no pixel is in two splits. Within a region patches lie on a grid (`stride`). Patches that are nearly one colour (black
corners, blank paper) are left out.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mutant.tasks.content import ArrayContent, Pixels
from mutant.tasks.images import decode
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.samples.info import SampleInfo
from mutant.tasks.samples.packages import package_file, version
from mutant.tasks.task import SPLIT_NAMES

PATCH = 64
GAP = 16
FLAT = 3.0
"""Standard deviation of gray below which a patch is left out."""

LONGEST = 720
"""Larger pictures are first reduced to this many pixels on their longer side."""

PICTURES = {
    "brick": "brick.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "fur": "chelsea.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "machine": "motorcycle_left.png",
    "moon": "moon.png",
    "print": "page.png",
    "retina": "retina.jpg",
    "stars": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
}
INFO = SampleInfo(
    name="textures",
    title="patches of photographs and micrographs (scikit-image)",
    classes=len(PICTURES),
    examples=(1718, 224, 361),
    image=f"{PATCH}x{PATCH}, gray and colour",
    licence="CC0 and public domain (see scikit-image's data licences)",
    packages=(("skimage", "scikit-image"),),
)


def read_textures() -> RawTask:
    """All patches of all pictures, by split."""
    patches: dict[str, list[Pixels]] = {split: [] for split in SPLIT_NAMES}
    labels: dict[str, list[int]] = {split: [] for split in SPLIT_NAMES}
    for label, file in enumerate(PICTURES.values()):
        picture = _picture(file)
        for split, (start, stop) in regions(picture.shape[1]).items():
            found = _patches(picture[:, start:stop], stride(picture.shape[1]))
            patches[split] += found
            labels[split] += [label] * len(found)
    splits = tuple(
        RawSplit(split, ArrayContent(np.stack(patches[split])), np.array(labels[split], dtype=np.int32))
        for split in SPLIT_NAMES
    )
    return RawTask(splits, tuple(PICTURES), source_version=version("scikit-image"), licence=INFO.licence)


def regions(length: int) -> dict[str, tuple[int, int]]:
    """The three regions of a side of `length` pixels: about 60, 15 and 20 per cent, each at least one patch."""
    validation = max(PATCH, round(0.15 * length))
    test = max(PATCH, round(0.20 * length))
    train = length - validation - test - 2 * GAP
    return {
        "train": (0, train),
        "validation": (train + GAP, train + GAP + validation),
        "test": (length - test, length),
    }


def stride(length: int) -> int:
    """Pixels between patches: small pictures are cut more finely, so that classes are not too unequal."""
    return 16 if length < 480 else 32


def _picture(file: str) -> Pixels:
    """RGB pixels with the longer side lying."""
    pixels = decode(package_file("skimage", "scikit-image", f"data/{file}").read_bytes())
    if pixels.shape[0] > pixels.shape[1]:
        pixels = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    height, width = pixels.shape[:2]
    if width > LONGEST:
        reduced = (LONGEST, round(height * LONGEST / width))
        pixels = np.array(Image.fromarray(pixels).resize(reduced, Image.Resampling.BILINEAR), dtype=np.uint8)
    return pixels


def _patches(region: Pixels, step: int) -> list[Pixels]:
    height, width = region.shape[:2]
    corners = [(y, x) for y in range(0, height - PATCH + 1, step) for x in range(0, width - PATCH + 1, step)]
    found = [region[y : y + PATCH, x : x + PATCH] for y, x in corners]
    return [patch for patch in found if float(patch.mean(axis=2).std()) >= FLAT]
