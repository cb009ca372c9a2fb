"""Labels that follow from an example of a TFDS data set: at every boundary, and read from data sets prepared here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from task_sets import picture, png

from mutant.tasks.checking import check
from mutant.tasks.errors import UserError
from mutant.tasks.load import load
from mutant.tasks.sources.derived_labels import derived_labels


def named(dataset: str, label: str, example: dict[str, Any]) -> str | None:
    """The class of an example, None for none."""
    rule = derived_labels(dataset)[label]
    index = rule.of(example)
    return rule.names[index] if index >= 0 else None


def clevr(*depths: float, shape: int = 2) -> dict[str, Any]:
    points = np.array([[1.0, 2.0, depth] for depth in depths], dtype=np.float32).reshape(-1, 3)
    count = len(depths)
    return {"objects": {"pixel_coords": points, "size": np.zeros(count, int), "shape": np.full(count, shape)}}


def kitti(*objects: tuple[int, float]) -> dict[str, Any]:
    points = np.array([[0.0, 0.0, depth] for _, depth in objects], dtype=np.float32).reshape(-1, 3)
    return {"objects": {"type": np.array([kind for kind, _ in objects], dtype=np.int64), "location": points}}


def above(value: float) -> float:
    """The next number of float32."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


@pytest.mark.parametrize(
    ("boundary", "below", "beyond"),
    [
        (8.0, "up to 8", "8 to 8.5"),
        (8.5, "8 to 8.5", "8.5 to 9"),
        (9.0, "8.5 to 9", "9 to 9.5"),
        (9.5, "9 to 9.5", "9.5 to 10"),
        (10.0, "9.5 to 10", "above 10"),
    ],
)
def test_a_boundary_belongs_to_the_bin_below_it_in_clevr(boundary: float, below: str, beyond: str) -> None:
    assert named("clevr", "closest_object_distance", clevr(50, boundary, 60)) == below
    assert named("clevr", "closest_object_distance", clevr(50, above(boundary), 60)) == beyond


@pytest.mark.parametrize(
    ("label", "boundary", "below", "beyond"),
    [
        ("closest_object_distance", 5.6, "up to 5.6 m", "5.6 to 8.4 m"),
        ("closest_object_distance", 8.4, "5.6 to 8.4 m", "8.4 to 13.4 m"),
        ("closest_object_distance", 13.4, "8.4 to 13.4 m", "13.4 to 23.4 m"),
        ("closest_object_distance", 23.4, "13.4 to 23.4 m", "above 23.4 m"),
        ("closest_vehicle_distance", 8.0, "up to 8 m", "8 to 20 m"),
        ("closest_vehicle_distance", 20.0, "8 to 20 m", "above 20 m"),
    ],
)
def test_a_boundary_belongs_to_the_bin_below_it_in_kitti(label: str, boundary: float, below: str, beyond: str) -> None:
    assert named("kitti", label, kitti((7, 90), (2, boundary))) == below
    assert named("kitti", label, kitti((7, 90), (2, above(boundary)))) == beyond


def test_only_cars_vans_and_trucks_are_vehicles() -> None:
    walkers = kitti((3, 1.0), (7, 2.0))
    assert named("kitti", "count_vehicles", walkers) == "0"
    assert named("kitti", "closest_vehicle_distance", walkers) == "no vehicle"
    mixed = kitti((0, 30.0), (1, 9.0), (2, 40.0), (3, 1.0))
    assert named("kitti", "count_vehicles", mixed) == "3 or more"
    assert named("kitti", "closest_vehicle_distance", mixed) == "8 to 20 m"
    assert named("kitti", "closest_object_distance", mixed) == "up to 5.6 m"
    assert named("kitti", "closest_object_distance", kitti((0, -3.0))) == "up to 5.6 m"


def test_images_without_objects() -> None:
    assert {named("clevr", label, clevr()) for label in derived_labels("clevr")} == {None}
    assert named("kitti", "closest_object_distance", kitti()) == "above 23.4 m"
    assert named("kitti", "count_vehicles", kitti()) == "0"
    assert named("kitti", "closest_vehicle_distance", kitti()) == "no vehicle"


@pytest.mark.parametrize(("count", "name"), [(2, None), (3, "3"), (10, "10"), (11, None)])
def test_clevr_counts_from_three_to_ten(count: int, name: str | None) -> None:
    assert named("clevr", "count_all", clevr(*[9.0] * count)) == name


def test_clevr_counts_cylinders_alone() -> None:
    example = clevr(9, 9, 9, 9)
    example["objects"]["shape"] = np.array([2, 0, 1, 2])
    assert named("clevr", "count_cylinders", example) == "2"
    assert named("clevr", "count_cylinders", clevr(9, 9, 9, shape=0)) == "0"
    assert named("clevr", "count_cylinders", clevr(*[9.0] * 10)) == "10"


@pytest.mark.parametrize(
    ("label", "classes"), [("label_x_position", 32), ("label_y_position", 32), ("label_orientation", 40)]
)
def test_dsprites_bins_are_those_of_floor_division(label: str, classes: int) -> None:
    rule = derived_labels("dsprites")[f"{label}_16"]
    for value in range(classes):
        assert rule.of({label: value}) == int(np.floor_divide(np.float32(value), np.float32(classes / 16)))
    assert {rule.of({label: value}) for value in range(classes)} == set(range(16))


@given(st.lists(st.tuples(st.integers(0, 7), st.floats(-50, 200, width=32)), max_size=12))
def test_every_scene_of_kitti_has_all_labels(objects: list[tuple[int, float]]) -> None:
    for rule in derived_labels("kitti").values():
        assert 0 <= rule.of(kitti(*objects)) < len(rule.names)


# Prepared data sets


def prepare(dataset: str, features: Any, splits: dict[str, list[dict[str, Any]]], directory: Path) -> None:
    """A data set of a name that the catalogue has, with examples of ours, as array_record."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Ours(  # pyright: ignore[reportGeneralTypeIssues]
        tfds.core.GeneratorBasedBuilder,
        skip_registration=True,  # pyright: ignore[reportCallIssue]
    ):
        name = dataset
        VERSION = tfds.core.Version("3.1.0")

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: object) -> Any:
            return {split: iter(enumerate(examples)) for split, examples in splits.items()}

        def _generate_examples(self) -> Any:
            raise NotImplementedError

    Ours(data_dir=directory, file_format="array_record").download_and_prepare()


def sprite(n: int) -> io.BytesIO:
    """A picture of black 0 and white 1."""
    buffer = io.BytesIO()
    Image.fromarray(np.eye(8, k=n - 6, dtype=np.uint8)).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    directory = tmp_path_factory.mktemp("derived")
    image = tfds.features.Image(shape=(None, None, 3))

    def scene(n: int, count: int) -> dict[str, Any]:
        objects = [{"shape": "cylinder", "size": "small", "pixel_coords": [0.0, 0.0, 8.25 + k]} for k in range(count)]
        return {"image": io.BytesIO(png(n)), "objects": objects}

    objects = tfds.features.Sequence(
        {
            "shape": tfds.features.ClassLabel(names=["cube", "sphere", "cylinder"]),
            "size": tfds.features.ClassLabel(names=["small", "large"]),
            "pixel_coords": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        }
    )
    splits = {
        "train": [scene(n, 3 + n % 2) for n in range(20)],
        "validation": [scene(n, 3 + n % 3) for n in range(100, 112)],
        "test": [scene(n, 0) for n in range(200, 205)],
    }
    prepare("clevr", {"image": image, "objects": objects}, splits, directory)

    sprites = [{"image": sprite(n), "label_x_position": n, "label_orientation": 3 * n} for n in range(13)]
    labels = {"label_x_position": tfds.features.ClassLabel(num_classes=32)}
    labels["label_orientation"] = tfds.features.ClassLabel(num_classes=40)
    image = tfds.features.Image(shape=(8, 8, 1))
    prepare("dsprites", {"image": image, **labels}, {"train": sprites}, directory)
    return directory


def test_a_derived_label_is_read_from_a_prepared_data_set(prepared: Path) -> None:
    uri = f"tfds:clevr?data_dir={prepared}&label=count_all&train=train[:16]&validation=train[16:20]&test=validation"
    loaded = load(f"{uri}&untrained=keep")
    assert loaded.task.class_names == ("3", "4", "5")
    assert [split.examples for split in loaded.task.splits] == [16, 4, 12]
    expected = {picture(n).tobytes(): 3 + n % 3 for n in range(100, 112)}
    names = [loaded.task.class_names[label] for label in loaded.test.labels]
    assert [str(expected[image.tobytes()]) for image in loaded.test.images(8)] == names
    assert [note for note in loaded.task.notes if "without a label" in note] == [
        "5 examples without a label were left out"
    ]
    assert [note for note in loaded.task.notes if "no training example" in note] == [
        "4 images of test with a class that has no training example, kept"
    ]


def test_a_class_without_training_examples_is_refused_unless_kept(prepared: Path) -> None:
    uri = f"tfds:clevr?data_dir={prepared}&label=count_all&train=train[:16]&validation=train[16:]&test=validation"
    with pytest.raises(UserError, match=r"Class '5' has 4 test examples.*untrained=keep"):
        load(uri)
    with pytest.raises(UserError, match="Nearest: 'keep'"):
        load(f"{uri}&untrained=kept")


def test_a_data_set_without_a_label_of_its_own_names_the_derived_ones(prepared: Path) -> None:
    with pytest.raises(UserError, match="3 label features: closest_object_distance, count_all, count_cylinders"):
        load(f"tfds:clevr?data_dir={prepared}")
    with pytest.raises(UserError, match="Nearest: 'count_all'"):
        load(f"tfds:clevr?data_dir={prepared}&label=count_al")


def test_pixels_of_dsprites_reach_from_black_to_white(prepared: Path) -> None:
    uri = f"tfds:dsprites?data_dir={prepared}&label=label_orientation_16&untrained=keep"
    loaded = load(f"{uri}&train=train[:9]&validation=train[9:11]&test=train[11:]")
    pixels = loaded.train.images(8)
    assert set(np.unique(pixels)) == {0, 255}


def test_a_prepared_data_set_is_checked_with_its_splits(prepared: Path) -> None:
    where = f"tfds:clevr?data_dir={prepared}&label=closest_object_distance"
    found = check(f"{where}&train=train[:16]&validation=train[16:]&test=validation")
    assert (found.what, found.classes) == ("clevr/3.1.0", 6)
    assert dict(found.examples or ()) == {"train": 16, "validation": 4, "test": 12}
    with pytest.raises(UserError, match="beyond the 20 examples"):
        check(f"{where}&train=train[:800]")
    with pytest.raises(UserError, match="share 20 examples"):
        check(f"{where}&train=train&validation=train")
