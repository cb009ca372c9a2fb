"""The examples in docstrings run, each once and under its import name."""

import doctest
import importlib
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def modules_with_examples() -> list[str]:
    """Import names of the files below mutant/ that hold an example, through the links to the rooms."""
    names: list[str] = []
    for folder, _, files in os.walk(REPOSITORY / "mutant", followlinks=True):
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix == ".py" and ">>> " in path.read_text(encoding="utf-8"):
                names.append(".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"))
    return sorted(names)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0, f"{name} has >>> where doctest does not see it"
    assert results.failed == 0


def test_examples_are_found_through_the_links() -> None:
    assert any(name.startswith("mutant.search.") for name in modules_with_examples())
