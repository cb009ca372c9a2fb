"""From a URI to a task: what is stored, what decides the fingerprint, what the URI may choose."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from task_sets import class_files, picture, png, write_folder, write_zip

from mutant.tasks.errors import MissingExtra, UserError, missing_extra, nearest
from mutant.tasks.load import load
from mutant.tasks.task import Task


@pytest.fixture
def pets(tmp_path):
    files = class_files(20, split="train") | class_files(5, split="test", first=100)
    return write_folder(tmp_path / "pets", files)


def test_a_task_survives_json(pets):
    task = load(f"folder:{pets}", name="my-pets").task
    assert task.name == "my-pets"
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert task.split("test").examples == 10
    with pytest.raises(UserError, match="no split 'tests'"):
        task.split("tests")


@pytest.mark.parametrize("value", [{}, {"name": 1}, [], {"name": "a", "uri": "b", "class_names": 3}])
def test_a_damaged_stored_task_is_refused(value):
    with pytest.raises(UserError, match="Not a stored task"):
        Task.from_json(value)


def test_splits_by_name(pets):
    loaded = load(f"folder:{pets}")
    assert loaded.split("test") is loaded.test
    with pytest.raises(UserError):
        loaded.split("nope")
    assert loaded.train.labels.dtype == np.int32
    for name in ("train", "validation", "test"):
        assert len(loaded.split(name)) == loaded.task.split(name).examples


def test_the_uri_is_stored_so_that_any_directory_can_use_it(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    assert load("folder:pets").task.uri == f"folder:{pets}"
    assert load(f"folder:{pets}").task == load("folder:pets").task


def test_labels_follow_their_images(pets):
    loaded = load(f"folder:{pets}")
    expected = {picture(n).tobytes(): 0 for n in range(20)} | {picture(n + 10_000).tobytes(): 1 for n in range(20)}
    for name in ("train", "validation"):
        part = loaded.split(name)
        assert [expected[image.tobytes()] for image in part.images(8)] == part.labels.tolist()


def test_the_fingerprint_is_of_content_labels_and_names(tmp_path):
    files = class_files(12)
    base = load(f"folder:{write_folder(tmp_path / 'a', files)}").task.fingerprint

    def changed(name, new):
        return load(f"folder:{write_folder(tmp_path / name, new)}").task.fingerprint

    assert changed("b", {f"{k[:3]}/x{k[4:]}": v for k, v in files.items()}) == base
    assert changed("c", files | {"cat/0.png": png(77)}) != base
    assert changed("d", {k.replace("cat", "cow"): v for k, v in files.items()}) != base
    swapped = dict(files)
    swapped["cat/0.png"], swapped["dog/0.png"] = files["dog/0.png"], files["cat/0.png"]
    assert changed("e", swapped) != base


def test_the_same_picture_in_another_encoding_is_a_duplicate(tmp_path):
    files = class_files(20, split="train") | class_files(5, split="test", first=100)
    folder = write_folder(tmp_path / "pets", files)
    Image.fromarray(picture(100)).save(folder / "train" / "cat" / "copy.bmp")
    Image.fromarray(picture(3)).save(folder / "train" / "dog" / "twin.tiff")
    task = load(f"folder:{folder}").task
    assert "1 image removed from train: also in test" in task.notes
    assert "1 image repeated within train, kept" in task.notes
    assert "1 image of train with more than one label, kept" in task.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train=train+test", "train=train+test and test=test share 10 examples"),
        ("train=train[:60%]&validation=train[50%:]", "share 4 examples"),
        ("train=train[5:5]", "selects no example"),
        ("validation=extra", "no split 'extra'"),
        ("train=train[:5000]", "beyond the 40"),
        ("train=tarin", "Nearest: 'train'"),
    ],
)
def test_selections_that_cannot_be(pets, options, message):
    with pytest.raises(UserError) as caught:
        load(f"folder:{pets}?{options}")
    assert message in str(caught.value)


def test_a_class_only_in_test_is_refused_and_one_without_examples_is_left_out(pets, tmp_path):
    write_folder(pets, {"test/cow/1.png": png(999), "extra/cat/1.png": png(998)})
    with pytest.raises(UserError, match="Class 'cow' has 1 test examples but no training example"):
        load(f"folder:{pets}")
    (pets / "test" / "cow").rename(pets / "extra" / "cow")
    loaded = load(f"folder:{pets}")
    assert loaded.task.class_names == ("cat", "dog")
    assert "1 classes of the source have no example and were left out: 'cow'" in loaded.task.notes


def test_another_process_with_another_hash_seed_finds_the_same(tmp_path, repository):
    path = write_zip(tmp_path / "pets.zip", class_files(20, classes=("ant", "bee", "cow")))
    code = f"from mutant.tasks.load import load; t = load('folder:{path}'); print(t.task, t.train.hashes)"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert "ant" in printed.pop()


def test_errors_say_what_and_what_next():
    error = UserError("What.", hint="Next.")
    assert str(error) == "What. Next."
    assert (error.message, error.hint) == ("What.", "Next.")
    assert str(UserError("What.")) == "What."
    extra = missing_extra("datasets", "hf")
    assert isinstance(extra, MissingExtra)
    assert "pip install 'mutant[hf]'" in str(extra)
    assert nearest("cifra10", ["mnist", "cifar10"]) == "cifar10"
    assert nearest("zzz", ["mnist", "cifar10"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "classes", "test"),
    [("folder:dtd10.zip", 10, 240), ("arrays:kmnist.npz", 10, 2000), ("folder:omniglot_small.zip", 242, 968)],
)
def test_the_data_pack_loads(shared_data, file, classes, test):
    scheme, name = file.split(":")
    loaded = load(f"{scheme}:{shared_data / name}")
    assert len(loaded.task.class_names) == classes
    assert len(loaded.test) == test
