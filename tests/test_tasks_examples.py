"""The content of a split: decoding, caching, pickling, augmentation by seed."""

from __future__ import annotations

import pickle  # noqa: TID251 - Ray sends examples to its workers this way

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_sets import class_files, picture, png, write_folder, write_zip

from mutant.tasks import examples as examples_module
from mutant.tasks import threads
from mutant.tasks.content import ArrayContent, BlobContent, FileContent, ZipContent
from mutant.tasks.errors import UserError
from mutant.tasks.examples import Examples, content_hash
from mutant.tasks.limits import Limits
from mutant.tasks.load import load
from mutant.tasks.preprocess import Augmentation, augment, prepare

STRONG = Augmentation(crop_area_min=0.2, flip=True, hue_delta=0.1, brightness_delta=0.1)
COUNT = 70


def all_contents(tmp_path):
    names = [f"{n}.png" for n in range(COUNT)]
    files = {name: png(n) for n, name in enumerate(names)}
    return {
        "arrays": ArrayContent(np.stack([picture(n) for n in range(COUNT)])),
        "blobs": BlobContent([png(n) for n in range(COUNT)], names),
        "files": FileContent(write_folder(tmp_path / "files", files), names),
        "zip": ZipContent(write_zip(tmp_path / "x.zip", files), names),
    }


def make(content) -> Examples:
    hashes = tuple(content_hash(picture(n)) for n in range(COUNT))
    return Examples(np.arange(COUNT, dtype=np.int32) % 7, hashes, content)


@pytest.mark.parametrize("kind", ["arrays", "blobs", "files", "zip"])
def test_every_kind_of_content_gives_the_same_images(tmp_path, kind):
    part = make(all_contents(tmp_path)[kind])
    expected = np.stack([prepare(picture(n), 12) for n in range(COUNT)])
    np.testing.assert_array_equal(part.images(12), expected)
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.images(12), expected)
    assert again.hashes == part.hashes
    chosen = part.subset(np.array([5, 3, 3, 69]))
    np.testing.assert_array_equal(chosen.images(12), expected[[5, 3, 3, 69]])
    assert chosen.labels.tolist() == [5, 3, 3, 6]
    assert len(part.subset(np.array([], dtype=np.int64)).images(12)) == 0


def test_images_are_cached_and_read_only(tmp_path):
    part = make(all_contents(tmp_path)["arrays"])
    assert part.images(9) is part.images(9)
    for array in (part.images(9), part.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_size_unused_for_longest_leaves_the_cache(tmp_path, monkeypatch):
    part = make(all_contents(tmp_path)["arrays"])
    monkeypatch.setattr(examples_module, "SIZE_CACHE_BYTES", COUNT * 3 * (4 * 4 + 5 * 5 + 6 * 6))
    first = part.images(4)
    part.images(5)
    assert part.images(4) is first
    part.images(6)
    part.images(7)
    assert part.images(4) is not first


def test_what_is_cached_is_not_pickled(tmp_path):
    part = make(all_contents(tmp_path)["files"])
    before = len(pickle.dumps(part))
    part.images(64)
    assert len(pickle.dumps(part)) == before


def test_a_file_that_changed_since_loading_is_noticed(tmp_path):
    loaded = load(f"folder:{write_folder(tmp_path / 'pets', class_files(10))}", limits=Limits(decoded_budget=0))
    assert loaded.train.images(8).shape == (16, 8, 8, 3)
    for path in (tmp_path / "pets").rglob("*.png"):
        path.write_bytes(png(12_345))
    with pytest.raises(UserError, match="has changed since the task was loaded"):
        loaded.train.images(9)
    for path in (tmp_path / "pets").rglob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="No such file"):
        loaded.train.images(10)


def test_the_budget_changes_no_pixel(tmp_path):
    folder = write_folder(tmp_path / "pets", class_files(30))
    results = [load(f"folder:{folder}", limits=Limits(decoded_budget=size)) for size in (0, 5_000, 10**9)]
    for other in results[1:]:
        assert other.task == results[0].task
        np.testing.assert_array_equal(other.train.images(11), results[0].train.images(11))
    kept = [sum(image is not None for image in result.train.decoded) for result in results]
    assert kept[0] == 0
    assert 0 < kept[1] < kept[2] == len(results[2].train)


@given(order=st.permutations(range(40)), first_seed=st.integers(0, 2**64 - 41))
def test_augmentation_depends_on_the_seed_alone(order, first_seed):
    part = make(ArrayContent(np.stack([picture(n) for n in range(COUNT)])))
    indices = np.array(order) % 11
    seeds = np.array([first_seed + place for place in range(40)], dtype=np.uint64)
    together = part.augmented(10, STRONG, seeds, indices)
    for place in (0, 17, 39):
        alone = augment(picture(int(indices[place])), 10, STRONG, int(seeds[place]))
        np.testing.assert_array_equal(together[place], alone)
    back = part.augmented(10, STRONG, seeds[::-1], indices[::-1])
    np.testing.assert_array_equal(back[::-1], together)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(monkeypatch, count):
    part = make(ArrayContent(np.stack([picture(n) for n in range(COUNT)])))
    seeds = np.arange(COUNT, dtype=np.uint64)
    expected = part.augmented(10, STRONG, seeds, np.arange(COUNT))
    monkeypatch.setattr(threads, "workers", lambda: count)
    np.testing.assert_array_equal(part.augmented(10, STRONG, seeds, np.arange(COUNT)), expected)


def test_without_augmentation_the_images_are_the_plain_ones():
    part = make(ArrayContent(np.stack([picture(n) for n in range(COUNT)])))
    indices = np.array([3, 1])
    plain = part.augmented(8, Augmentation(), np.array([1, 2], dtype=np.uint64), indices)
    np.testing.assert_array_equal(plain, part.images(8)[indices])


def test_hashes_are_of_pixels_and_shape():
    image = picture(1)
    assert content_hash(image) == content_hash(np.asfortranarray(image))
    assert content_hash(image) != content_hash(image.reshape(4, 16, 3))
    changed = image.copy()
    changed[7, 7, 2] ^= 1
    assert content_hash(image) != content_hash(changed)
