"""Hugging Face data sets, through the real library when it is installed, else through a small stand-in for it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from task_sets import picture, png

from mutant.tasks.errors import MissingExtra, UserError
from mutant.tasks.load import load


class FakeImage:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class FakeClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class FakeDataset:
    """Rows as the library gives them once the image column is cast to undecoded."""

    def __init__(self, rows, features) -> None:
        self.rows, self.features = rows, features
        self.info = SimpleNamespace(license="cc0-1.0", version="1.0.0")

    def cast_column(self, name, feature):
        assert not feature.decode
        return FakeDataset(self.rows, self.features)

    def __getitem__(self, key):
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A stand-in that knows the data set `org/pets`, one of its images a path, one row unlabelled, one empty."""
    features = {"picture": FakeImage(), "kind": FakeClassLabel(["zebra", "ant"]), "text": object()}
    (tmp_path / "x.png").write_bytes(png(0))

    def rows(first, count):
        return [
            {"picture": {"bytes": png(n), "path": None}, "kind": n % 2, "text": ""} for n in range(first, first + count)
        ]

    train = rows(0, 40)
    train[0]["picture"] = {"bytes": None, "path": str(tmp_path / "x.png")}
    train += [{"picture": {"bytes": png(900), "path": None}, "kind": None}, {"picture": None, "kind": 1}]
    splits = {"train": FakeDataset(train, features), "val": FakeDataset(rows(100, 6), features)}

    def load_dataset(path, config, revision):
        if path != "org/pets":
            raise FileNotFoundError(f"Dataset '{path}' doesn't exist\nmore")
        assert (config, revision) in ((None, None), ("big", "abc"))
        return splits

    module = ModuleType("datasets")
    vars(module).update(Image=FakeImage, ClassLabel=FakeClassLabel, load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return features


def test_a_data_set(library):
    loaded = load("hf:org/pets")
    task = loaded.task
    assert task.name == "pets"
    assert task.class_names == ("zebra", "ant")
    assert (task.licence, task.source_version) == ("cc0-1.0", "org/pets@1.0.0")
    assert [s.examples for s in task.splits] == [36, 6, 4]
    assert "1 rows without a label were left out" in task.notes
    assert any("row 41: There is no image in this row" in note for note in task.notes)
    expected = {picture(n).tobytes(): n % 2 for n in range(40)}
    assert [expected[image.tobytes()] for image in loaded.train.images(8)] == loaded.train.labels.tolist()
    assert load("hf:org/pets?config=big&revision=abc").task.source_version == "org/pets@abc"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf:org/dogs", "hf:org/dogs cannot be loaded: Dataset 'org/dogs' doesn't exist"),
        ("hf:org/pets?label=kinds", "Unknown label column 'kinds'. Nearest: 'kind'"),
        ("hf:org/pets?image=text", "Unknown image column 'text'"),
    ],
)
def test_wrong_names_say_what_is_wrong(library, uri, message):
    with pytest.raises(UserError) as caught:
        load(uri)
    assert str(caught.value).startswith(message)


def test_several_columns_must_be_named(library):
    library["other"] = FakeClassLabel(["a"])
    with pytest.raises(UserError, match=r"2 label columns: kind, other. Name one with \?label="):
        load("hf:org/pets")
    del library["other"], library["kind"]
    with pytest.raises(UserError, match="no image classification task"):
        load("hf:org/pets")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mutant\[hf\]'"):
        load("hf:org/pets")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_library_on_local_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])})
    (tmp_path / "pets").mkdir()
    for split, first, count in (("train", 0, 40), ("test", 100, 10)):
        numbers = range(first, first + count)
        columns = {"image": [Image.fromarray(picture(n)) for n in numbers], "label": [n % 2 for n in numbers]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "pets" / f"{split}.parquet")
    loaded = load(f"hf:{tmp_path / 'pets'}")
    assert loaded.task.class_names == ("b", "a")
    expected = {picture(n).tobytes(): n % 2 for n in range(100, 110)}
    assert [expected[image.tobytes()] for image in loaded.test.images(8)] == loaded.test.labels.tolist()
    assert np.bincount(loaded.train.labels).tolist() == [18, 18]
