"""The command line as tests call it: in this process, its streams and exit code as values."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mutant.cli.main import run

QUICK = ("--children", "2", "--generation-size", "2", "--validations", "1", "--examples-per-validation", "32")
"""Children that train for a moment."""
ALIKE = ("--reach", "0", "--mutation-probability", "0.02", "--workers", "1")
"""Children that get a new head and hardly anything else: one program is compiled for nearly all of them."""


@dataclass(frozen=True)
class Called:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


def call(*arguments: object) -> Called:
    """Run `mutant ARGUMENTS` here."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Called(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> Called:
    """Run `mutant ARGUMENTS`, which must succeed."""
    called = call(*arguments)
    assert called.code == 0, called.err
    return called


def refused(*arguments: object) -> str:
    """The error of `mutant ARGUMENTS`, which must be refused as bad input: words for people, nothing on stdout."""
    called = call(*arguments)
    assert called.code == 2, (called.code, called.out, called.err)
    assert called.out == ""
    assert "Traceback" not in called.err
    assert called.err.count("Error: ") == 1
    return called.err


def write_folder(folder: Path, *, classes: int = 2, images: int = 10, size: int = 16) -> Path:
    """A directory of class/image, where the classes are colours with noise, so that they can be learnt."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        directory = folder / f"colour{label}"
        directory.mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
            pixels[..., label % 3] += 150
            Image.fromarray(pixels).save(directory / f"{number}.png")
    return folder
