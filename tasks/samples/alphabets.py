"""`sample:letters`, `sample:greek` and `sample:cyrillic`: alphabets rendered in the faces of font packages.

The split goes by font family: no family of train is in validation or test. Faces that lack a letter, draw one blank, or
draw all letters like a face before them are left out. Glyphs are black on white, set at one size, centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from mutant.tasks.content import ArrayContent, Pixels
from mutant.tasks.errors import UserError
from mutant.tasks.raw import RawSplit, RawTask
from mutant.tasks.samples.info import SampleInfo
from mutant.tasks.samples.packages import package_directory, version
from mutant.tasks.task import SPLIT_NAMES

DEFAULT_SIZE = 64
SIZES = range(16, 257)
_NOT_A_CHARACTER = "\U0010fffe"


@dataclass(frozen=True)
class Family:
    """A font family: the package that carries it, its files there, and the split that its faces go to."""

    name: str
    module: str
    distribution: str
    files: str
    split: str


_MATPLOTLIB = "mpl-data/fonts/ttf"
FAMILIES = (
    Family("Computer Modern", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/cm[brst]*[0-9].ttf", "train"),
    Family("DejaVu Sans", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/DejaVuSans.ttf", "train"),
    Family("DejaVu Sans", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/DejaVuSans-*.ttf", "train"),
    Family("DejaVu Serif", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/DejaVuSerif.ttf", "train"),
    Family("DejaVu Serif", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/DejaVuSerif-*.ttf", "train"),
    Family("Fredoka One", "font_fredoka_one", "font-fredoka-one", "files/*.ttf", "train"),
    Family("Hanken Grotesk", "font_hanken_grotesk", "font-hanken-grotesk", "files/*.otf", "train"),
    Family("Manrope", "font_manrope", "font-manrope", "files/Manrope-[!V]*.ttf", "train"),
    Family("Source Sans Pro", "font_source_sans_pro", "font-source-sans-pro", "files/*.ttf", "train"),
    Family("Source Serif Pro", "font_source_serif_pro", "font-source-serif-pro", "files/*.ttf", "train"),
    Family("Caladea", "font_caladea", "font-caladea", "files/*.ttf", "validation"),
    Family("DejaVu Sans Mono", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/DejaVuSansMono*.ttf", "validation"),
    Family("Amatic SC", "font_amatic_sc", "font-amatic-sc", "files/*.ttf", "test"),
    Family("Lato", "font_lato", "font-lato", "files/*.ttf", "test"),
    Family("STIX General", "matplotlib", "matplotlib", f"{_MATPLOTLIB}/STIXGeneral*.ttf", "test"),
)
PACKAGES = tuple(sorted({(family.module, family.distribution) for family in FAMILIES}))
ALPHABETS = {
    "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
}
_TITLES = {"letters": "Latin capitals", "greek": "Greek small letters", "cyrillic": "Cyrillic small letters"}
_EXAMPLES = {"letters": (1456, 208, 416), "greek": (648, 96, 96), "cyrillic": (864, 128, 128)}
INFOS = tuple(
    SampleInfo(
        name=name,
        title=f"{_TITLES[name]} in the faces of font packages, split by family",
        classes=len(letters),
        examples=_EXAMPLES[name],
        image=f"{DEFAULT_SIZE}x{DEFAULT_SIZE} gray; ?size={SIZES.start} to {SIZES.stop - 1}",
        licence="rendered from fonts under OFL 1.1, Apache-2.0, the DejaVu and the Computer Modern licence",
        packages=PACKAGES,
    )
    for name, letters in ALPHABETS.items()
)


def read_alphabet(name: str, size: int) -> RawTask:
    """The letters of the alphabet `name`, [size, size], in every face that has them all."""
    if size not in SIZES:
        raise UserError(f"size={size} is out of range.", hint=f"Choose {SIZES.start} to {SIZES.stop - 1}.")
    letters = ALPHABETS[name]
    drawn: dict[str, list[Pixels]] = {split: [] for split in SPLIT_NAMES}
    seen: set[bytes] = set()
    dropped = 0
    for split, path in _faces():
        glyphs = _draw_all(path, letters, size)
        if glyphs is None or glyphs.tobytes() in seen:
            dropped += 1
            continue
        seen.add(glyphs.tobytes())
        drawn[split].append(glyphs)
    splits = tuple(
        RawSplit(
            split,
            ArrayContent(np.concatenate(drawn[split])),
            np.tile(np.arange(len(letters), dtype=np.int32), len(drawn[split])),
        )
        for split in SPLIT_NAMES
    )
    faces = ", ".join(f"{len(drawn[split])} {split}" for split in SPLIT_NAMES)
    return RawTask(
        splits,
        tuple(letters),
        source_version=", ".join([*(version(d) for _, d in PACKAGES), f"FreeType {features.version('freetype2')}"]),
        licence=next(info.licence for info in INFOS if info.name == name),
        notes=(f"faces: {faces}; {dropped} without every letter or alike left out",),
    )


def _faces() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for family in FAMILIES:
        files = sorted(package_directory(family.module, family.distribution).glob(family.files))
        if not files:
            raise UserError(f"{version(family.distribution)} carries no face of {family.name}.")
        found += [(family.split, file) for file in files]
    return found


def _draw_all(path: Path, letters: Sequence[str], size: int) -> Pixels | None:
    """uint8 [letters, size, size], or None when the face cannot draw them all, each in its own way."""
    try:
        font = ImageFont.truetype(str(path), round(0.72 * size), layout_engine=ImageFont.Layout.BASIC)
        missing = _draw(font, _NOT_A_CHARACTER, size).tobytes()
        glyphs = [_draw(font, letter, size) for letter in letters]
    except (OSError, ValueError):
        return None
    different = {glyph.tobytes() for glyph in glyphs}
    blank = any(int(glyph.min()) == 255 for glyph in glyphs)
    return None if blank or missing in different or len(different) < len(glyphs) else np.stack(glyphs)


def _draw(font: ImageFont.FreeTypeFont, letter: str, size: int) -> Pixels:
    """One letter in the middle of a white square; one larger than the square is reduced to fit."""
    left, top, right, bottom = (int(edge) for edge in font.getbbox(letter))
    width, height = max(1, right - left), max(1, bottom - top)
    glyph = Image.new("L", (width, height), 255)
    ImageDraw.Draw(glyph).text((-left, -top), letter, font=font, fill=0)
    scale = min(1.0, (size - 2) / max(width, height))
    if scale < 1.0:
        reduced = (max(1, round(width * scale)), max(1, round(height * scale)))
        glyph = glyph.resize(reduced, Image.Resampling.BILINEAR)
    square = Image.new("L", (size, size), 255)
    square.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    return np.array(square, dtype=np.uint8)
