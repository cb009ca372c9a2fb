"""Samples from packages."""

from __future__ import annotations

import numpy as np
import pytest

from mutant.tasks import samples
from mutant.tasks.content import ArrayContent
from mutant.tasks.errors import MissingExtra, UserError
from mutant.tasks.load import load
from mutant.tasks.samples import packages
from mutant.tasks.samples.alphabets import FAMILIES, read_alphabet
from mutant.tasks.samples.textures import GAP, PATCH, regions

INFOS = {info.name: info for info in samples.catalogue()}


@pytest.mark.parametrize("name", sorted(INFOS))
def test_each_sample_is_what_the_catalogue_says(name):
    info = INFOS[name]
    if not samples.is_available(info):
        pytest.skip("needs the extra samples")
    loaded = load(info.uri)
    task = loaded.task
    assert task.name == name
    assert len(task.class_names) == info.classes
    found = [split.examples for split in task.splits]
    assert sum(found) == sum(info.examples)
    if info.examples[1]:
        assert found == list(info.examples)
    assert task.licence == info.licence
    assert all(distribution in (task.source_version or "") for _, distribution in info.packages)
    for part in (loaded.train, loaded.test):
        assert set(part.labels.tolist()) == set(range(info.classes))
    assert load(info.uri).task == task


def test_the_catalogue_is_in_order_and_complete():
    assert list(INFOS) == sorted(INFOS)
    assert set(INFOS) >= {"digits", "mnist5k", "letters", "greek", "cyrillic", "textures", "faces"}
    assert all(info.licence and info.title and info.packages for info in INFOS.values())


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sample:digit", "Unknown sample 'digit'. Nearest: 'digits'. See: mutant tasks"),
        ("sample:qqq", "Known: cyrillic, digits"),
        ("sample:digits?size=32", "one size only"),
        ("sample:letters?size=big", "no number of pixels"),
        ("sample:letters?size=9", "out of range"),
        ("sample:letters?size=99999", "no number of pixels"),
    ],
)
def test_wrong_samples_say_what_is_wrong(uri, message):
    with pytest.raises(UserError) as caught:
        load(uri)
    assert message in str(caught.value)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    for name in INFOS:
        with pytest.raises(MissingExtra, match=r"pip install 'mutant\[samples\]'"):
            load(f"sample:{name}")
    assert not any(samples.is_available(info) for info in INFOS.values())


def test_regions_of_textures_never_touch():
    for length in (191, 384, 512, 720):
        parts = regions(length)
        assert parts["train"][1] + GAP == parts["validation"][0]
        assert parts["validation"][1] + GAP <= parts["test"][0]
        assert parts["test"][1] == length
        if length >= 384:
            assert all(stop - start >= PATCH for start, stop in parts.values())


def test_no_font_family_is_in_two_splits():
    splits = {}
    for family in FAMILIES:
        splits.setdefault(family.name, set()).add(family.split)
    assert all(len(found) == 1 for found in splits.values())


def test_letters_are_drawn_whole_in_the_size_asked_for():
    if not samples.is_available(INFOS["greek"]):
        pytest.skip("needs the extra samples")
    raw = read_alphabet("greek", 24)
    for split in raw.splits:
        assert isinstance(split.content, ArrayContent)
        pixels = split.content.pixels
        assert pixels.shape[1:] == (24, 24)
        ink = pixels < 255
        assert ink.any(axis=(1, 2)).all()
        border = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], axis=1)
        assert not border.any()
