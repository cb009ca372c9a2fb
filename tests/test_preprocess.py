"""Preparation and augmentation of one image."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutant.tasks.errors import UserError
from mutant.tasks.preprocess import Augmentation, augment, prepare

STRONG = Augmentation(
    crop_area_min=0.05,
    crop_aspect_min=0.5,
    flip=True,
    brightness_delta=0.2,
    contrast_delta=0.2,
    saturation_delta=0.2,
    hue_delta=0.2,
    jpeg_quality_delta=0.2,
)


def noise(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_prepare_squashes_the_whole_image():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :20] = 255
    small = prepare(image, 8)
    assert small.shape == (8, 8, 3)
    assert small[:, :3].min() == 255
    assert small[:, 5:].max() == 0


def test_prepare_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    assert np.abs(prepare(stripes, 8).astype(int) - 128).max() <= 20


def test_prepare_keeps_constant_images_and_equal_sizes():
    assert (prepare(np.full((5, 7, 3), 131, np.uint8), 33) == 131).all()
    image = noise(16, 16)
    same = prepare(image, 16)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_prepare_refuses_other_arrays(bad):
    with pytest.raises(UserError, match="Expected uint8 pixels"):
        prepare(bad, 8)


def test_prepare_refuses_size_zero():
    with pytest.raises(UserError, match="at least 1"):
        prepare(noise(), 0)


def test_the_default_augmentation_changes_nothing():
    assert not Augmentation().active
    assert STRONG.active
    np.testing.assert_array_equal(augment(noise(), 16, Augmentation(), 5), prepare(noise(), 16))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_the_seed_alone_decides(seed):
    first = augment(noise(), 24, STRONG, seed)
    np.testing.assert_array_equal(first, augment(noise(), 24, STRONG, seed))
    assert first.shape == (24, 24, 3)
    assert first.dtype == np.uint8


def test_other_seeds_give_other_images():
    images = {augment(noise(), 16, STRONG, seed).tobytes() for seed in range(50)}
    assert len(images) == 50


def test_flip_happens_half_of_the_time_and_is_a_mirror():
    image = noise(8, 8)
    results = [augment(image, 8, Augmentation(flip=True), seed) for seed in range(400)]
    mirrored = sum(np.array_equal(r, image[:, ::-1]) for r in results)
    plain = sum(np.array_equal(r, image) for r in results)
    assert mirrored + plain == 400
    assert 150 < mirrored < 250


def test_a_draw_does_not_depend_on_the_other_hyperparameters():
    image = noise(8, 8)
    for seed in range(20):
        flipped = np.array_equal(augment(image, 8, Augmentation(flip=True), seed), image[:, ::-1])
        both = augment(image, 8, Augmentation(flip=True, brightness_delta=0.1), seed)
        bright = augment(image, 8, Augmentation(brightness_delta=0.1), seed)
        np.testing.assert_array_equal(both, bright[:, ::-1] if flipped else bright)


def test_crops_have_areas_in_their_range():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3))
    heights = []
    for seed in range(200):
        crop = augment(ramp, 32, Augmentation(crop_area_min=0.25), seed).astype(int)
        heights.append((crop.max() - crop.min()) / 255)
    assert 0.44 < min(heights) < 0.6
    assert max(heights) > 0.9


def test_crop_aspect_changes_only_with_its_hyperparameter():
    y, x = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    grid = np.stack([y, x, y], axis=2)

    def spans(augmentation):
        crops = [augment(grid, 32, augmentation, seed).astype(int) for seed in range(60)]
        return [np.ptp(c[:, :, 1]) / np.ptp(c[:, :, 0]) for c in crops]

    assert max(spans(Augmentation(crop_area_min=0.3))) < 1.1
    stretched = spans(Augmentation(crop_area_min=0.3, crop_aspect_min=0.5))
    assert min(stretched) < 0.75
    assert max(stretched) > 1.35
    assert min(stretched) > 0.45
    assert max(stretched) < 2.1


def test_brightness_shifts_all_pixels_alike_within_its_delta():
    image = np.full((8, 8, 3), 128, np.uint8)
    shifts = {int(augment(image, 8, Augmentation(brightness_delta=0.1), seed)[0, 0, 0]) - 128 for seed in range(200)}
    assert min(shifts) < -18
    assert max(shifts) > 18
    assert max(abs(s) for s in shifts) <= 26


def test_contrast_keeps_the_mean_and_saturation_keeps_gray():
    image = noise(8, 8) // 3 + 80
    for seed in range(20):
        changed = augment(image, 8, Augmentation(contrast_delta=0.2), seed)
        assert np.abs(changed.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 0.6
    gray = np.repeat(noise(8, 8)[:, :, :1], 3, axis=2)
    for augmentation in (Augmentation(saturation_delta=0.2), Augmentation(hue_delta=0.2)):
        np.testing.assert_array_equal(augment(gray, 8, augmentation, 3), gray)


def hsv(image):
    return np.array([colorsys.rgb_to_hsv(*(pixel / 255.0)) for pixel in image.reshape(-1, 3)])


def test_saturation_and_hue_change_only_themselves_in_hsv():
    image = noise(6, 6)
    image = image[(np.ptp(image, axis=2) > 60)][:16].reshape(4, 4, 3)
    before = hsv(image)
    hues, factors = set(), set()
    for seed in range(20):
        after = hsv(augment(image, 4, Augmentation(saturation_delta=0.2), seed))
        assert np.abs(after[:, 2] - before[:, 2]).max() < 0.005
        assert np.abs((after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5).max() < 0.02
        factors.add(round(float(np.median(after[:, 1] / before[:, 1])), 2))
        after = hsv(augment(image, 4, Augmentation(hue_delta=0.2), seed))
        assert np.abs(after[:, 1:] - before[:, 1:]).max() < 0.01
        turns = (after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
        assert np.ptp(turns) < 0.02
        assert np.abs(turns).max() < 0.21
        hues.add(round(float(turns.mean()), 2))
    assert len(hues) > 8
    assert min(factors) < 0.9
    assert max(factors) > 1.05


def test_jpeg_quality_damages_but_does_not_destroy():
    image = prepare(noise(4, 4), 32)
    damaged = augment(image, 32, Augmentation(jpeg_quality_delta=0.2), 1)
    assert 0 < np.abs(damaged.astype(int) - image.astype(int)).mean() < 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_area_min": 0.0},
        {"crop_area_min": 1.5},
        {"crop_aspect_min": -1},
        {"hue_delta": 1.1},
        {"contrast_delta": -0.1},
    ],
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_thin_images_can_be_cropped():
    for shape in ((1, 50), (50, 1), (1, 1), (2, 3)):
        assert augment(noise(*shape), 8, STRONG, 7).shape == (8, 8, 3)
