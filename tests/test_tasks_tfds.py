"""TFDS without TensorFlow: a data set prepared here as array_record is read back."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - Ray sends examples to its workers this way
import sys

import numpy as np
import pytest
from task_sets import picture, png

from mutant.tasks.errors import MissingExtra, UserError
from mutant.tasks.load import load


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mutant\[tfds\]'"):
        load("tfds:mnist")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    directory = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["zebra", "ant", "unused"]),
            "shade": tfds.features.ClassLabel(names=["dark", "light"]),
        }
    )

    def examples(first: int, count: int):
        for n in range(first, first + count):
            yield n, {"image": io.BytesIO(png(n)), "label": n % 2, "shade": n % 3 // 2}

    class TinyPets(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager):
            return {"train": examples(0, 40), "test": examples(100, 10)}

        def _generate_examples(self):
            raise NotImplementedError

    TinyPets(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory


def test_a_prepared_data_set(data_dir):
    loaded = load(f"tfds:tiny_pets?data_dir={data_dir}")
    task = loaded.task
    assert task.class_names == ("zebra", "ant")
    assert task.source_version == "tiny_pets/1.2.0"
    assert [split.examples for split in task.splits] == [36, 4, 10]
    expected = {picture(n).tobytes(): n % 2 for n in range(100, 110)}
    assert [expected[image.tobytes()] for image in loaded.test.images(8)] == loaded.test.labels.tolist()
    again = pickle.loads(pickle.dumps(loaded.train))
    np.testing.assert_array_equal(again.images(8), loaded.train.images(8))


def test_slices_and_another_label(data_dir):
    loaded = load(f"tfds:tiny_pets:1.2.0?data_dir={data_dir}&label=shade&train=train[:50%]&validation=train[50%:]")
    assert loaded.task.class_names == ("dark", "light")
    assert [split.examples for split in loaded.task.splits] == [20, 20, 10]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("tfds:mnits", "TFDS has no data set 'mnits'. Nearest: 'tfds:mnist'"),
        ("tfds:mnist:9.9.9", "cannot be opened"),
        ("tfds:mnist/strange", "cannot be opened"),
        ("tfds:tiny_pets?label=kind", "Unknown label feature 'kind'"),
        ("tfds:tiny_pets?image=label", "Unknown image feature 'label'"),
        ("tfds:tiny_pets?train=train[:99%]+vat", "no split 'vat'"),
    ],
)
def test_wrong_names_say_what_is_wrong(data_dir, uri, message):
    with pytest.raises(UserError) as caught:
        load(f"{uri}{'&' if '?' in uri else '?'}data_dir={data_dir}")
    assert message in str(caught.value)


def test_another_file_format_says_how_to_convert(data_dir, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(self, *args, **options):
        raise NotImplementedError("only array_record")

    monkeypatch.setattr(tfds.core.dataset_builder.DatasetBuilder, "as_data_source", refuse)
    with pytest.raises(UserError, match="convert_format"):
        load(f"tfds:tiny_pets?data_dir={data_dir}")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"), "needs the package 'tensorflow'"),
        (OSError("no network\nat all"), "cannot be prepared: no network"),
    ],
)
def test_preparing_that_fails_says_why(tmp_path, monkeypatch, error, message):
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(self, **options):
        raise error

    monkeypatch.setattr(tfds.core.dataset_builder.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(UserError) as caught:
        load(f"tfds:mnist?data_dir={tmp_path}")
    assert message in str(caught.value)


def test_a_data_set_is_found_by_its_files_alone(data_dir, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(*args, **options):
        raise AssertionError("its code is not needed")

    monkeypatch.setattr(tfds, "builder", refuse)
    assert load(f"tfds:tiny_pets?data_dir={data_dir}").task.source_version == "tiny_pets/1.2.0"
