"""Decoding of friendly and hostile image bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mutant.tasks.images import BACKGROUND, ImageError, decode, from_array
from mutant.tasks.limits import Limits


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 9, width: int = 7, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png_of_size(width: int, height: int) -> bytes:
    """A small PNG file whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(kind):
    pixels = noise()
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), kind)), pixels)


def test_webp_and_jpeg_and_gif_are_read():
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    for kind in ("WEBP", "JPEG", "GIF"):
        decoded = decode(encode(image, kind))
        assert decoded.shape == (8, 8, 3)
        assert np.abs(decoded.astype(int) - 200).max() <= 3


def test_gray_is_replicated():
    gray = noise(channels=1)[:, :, 0]
    decoded = decode(encode(Image.fromarray(gray)))
    for channel in range(3):
        np.testing.assert_array_equal(decoded[:, :, channel], gray)


def test_black_and_white_bits():
    decoded = decode(encode(Image.fromarray(np.eye(8, dtype=bool))))
    assert set(np.unique(decoded)) == {0, 255}


def test_sixteen_bits_become_eight():
    deep = (np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369).astype(np.uint16)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(deep)))[:, :, 0], np.rint(deep / 257).astype(np.uint8))


def test_float_tiff_in_both_ranges_and_not_a_number():
    unit = np.array([[0.0, 0.5], [1.0, np.nan]], np.float32)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(unit), "TIFF"))[:, :, 0], [[0, 128], [255, 0]])
    wide = np.array([[0.0, 128.0], [255.0, 300.0]], np.float32)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(wide), "TIFF"))[:, :, 0], [[0, 128], [255, 255]])


def test_cmyk_jpeg():
    red = Image.new("RGB", (16, 16), (220, 30, 30)).convert("CMYK")
    decoded = decode(encode(red, "JPEG"))
    assert np.abs(decoded.astype(int) - (220, 30, 30)).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background(mode):
    image = Image.new(mode, (4, 4), (9, 9, 9, 0) if mode == "RGBA" else (9, 0))
    np.testing.assert_array_equal(decode(encode(image)), np.broadcast_to(np.array(BACKGROUND), (4, 4, 3)))


def test_half_transparent_black_is_middle_gray():
    assert decode(encode(Image.new("RGBA", (2, 2), (0, 0, 0, 128))))[0, 0, 0] == 127


def test_palette_with_and_without_transparency():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = (255, 0, 0)
    palette = Image.fromarray(pixels).quantize(4)
    np.testing.assert_array_equal(decode(encode(palette)), pixels)
    index = palette.getpixel((0, 0))
    decoded = decode(encode(palette, transparency=index))
    assert tuple(decoded[0, 0]) == BACKGROUND
    assert tuple(decoded[3, 3]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    decoded = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert decoded.shape == (6, 6, 3)
    assert decoded[0, 0, 0] > 240
    assert decoded[0, 0, 1] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = noise(6, 4)
    image = Image.fromarray(upright)
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for turn in undo.get(orientation, []):
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encode(image, "PNG", exif=exif)), upright)


def test_strange_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    pixels = noise()
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), exif=exif)), pixels)


def test_empty_text_and_unread_formats_are_refused():
    with pytest.raises(ImageError, match="empty"):
        decode(b"")
    for data in (b"this is a text file named .png\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg xmlns='x'/>", b"\0" * 64):
        with pytest.raises(ImageError, match="Not an image"):
            decode(data)


def test_pixel_limit_holds_before_decoding():
    with pytest.raises(ImageError, match="pixels"):
        decode(png_of_size(30_000, 30_000))
    with pytest.raises(ImageError, match="100 x 100 pixels are more than the limit of 9,999"):
        decode(encode(Image.new("L", (100, 100))), Limits(max_pixels=9_999))
    assert decode(encode(Image.new("L", (100, 100))), Limits(max_pixels=10_000)).shape == (100, 100, 3)


def test_byte_limit():
    data = encode(Image.fromarray(noise(64, 64)))
    with pytest.raises(ImageError, match="bytes"):
        decode(data, Limits(max_bytes=len(data) - 1))
    assert decode(data, Limits(max_bytes=len(data))).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(kind):
    data = encode(Image.fromarray(noise(40, 40)), kind)
    for share in (0.05, 0.3, 0.6):
        with pytest.raises(ImageError):
            decode(data[: int(len(data) * share)])


def test_header_with_more_pixels_than_data_is_refused():
    with pytest.raises(ImageError):
        decode(png_of_size(500, 500))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
)
def test_damaged_bytes_never_raise_anything_else(kind, changes):
    data = bytearray(encode(Image.fromarray(noise(12, 12)), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        decoded = decode(bytes(data), Limits(max_pixels=10**6))
    except ImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3


def test_arrays_of_every_channel_count():
    assert from_array(np.zeros((4, 5), np.uint8)).shape == (4, 5, 3)
    assert from_array(np.zeros((4, 5, 1), np.uint8)).shape == (4, 5, 3)
    np.testing.assert_array_equal(from_array(noise()), noise())
    assert tuple(from_array(np.zeros((4, 5, 4), np.uint8))[0, 0]) == BACKGROUND
    for bad in (np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5), np.float32), np.zeros(4, np.uint8)):
        with pytest.raises(ImageError):
            from_array(bad)
