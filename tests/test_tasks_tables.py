"""Tables of image files, .npz and IDX arrays."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from task_sets import picture, png, write_folder

from mutant.tasks.errors import UserError
from mutant.tasks.limits import Limits
from mutant.tasks.load import load
from mutant.tasks.sources.arrays import as_pixels

IMAGES = np.stack([picture(n) for n in range(20)])
LABELS = np.arange(20) % 2


def sizes(loaded):
    return [split.examples for split in loaded.task.splits]


def refusal(uri, **options):
    with pytest.raises(UserError) as caught:
        load(uri, **options)
    return str(caught.value)


@pytest.fixture
def table(tmp_path):
    write_folder(tmp_path / "files", {f"{n}.png": png(n) for n in range(20)})
    rows = [f"files/{n}.png,{('cat', 'dog')[n % 2]},{'val' if n < 4 else 'train'}" for n in range(20)]

    def write(header="image,label,fold", lines=rows, name="pets.csv", encoding="utf-8"):
        (tmp_path / name).write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
        return f"csv:{tmp_path / name}"

    return write


def test_csv_with_and_without_a_split_column(table):
    assert sizes(load(table())) == [16, 2, 2]
    loaded = load(table() + "?split=fold")
    assert sizes(loaded) == [14, 4, 2]
    assert [s.origin for s in loaded.task.splits][:2] == ["train", "validation"]
    assert load(table("image,label,split")).task.splits == loaded.task.splits


def test_csv_with_other_columns_separators_and_a_byte_order_mark(table):
    uri = table("file,kind,fold", encoding="utf-8-sig")
    named = load(uri + "?image=file&label=kind")
    assert named.task.class_names == ("cat", "dog")
    tabs = [f"files/{n}.png\t{n % 2}" for n in range(20)]
    assert load(table("image\tlabel", tabs, "pets.tsv")).task.class_names == ("0", "1")


def test_csv_equals_a_folder_of_the_same_images(table, tmp_path):
    files = {f"{('cat', 'dog')[n % 2]}/{n}.png": png(n) for n in range(20)}
    folder = load(f"folder:{write_folder(tmp_path / 'pets', files)}")
    assert load(table()).task.fingerprint == folder.task.fingerprint


def test_csv_faults(table, tmp_path):
    assert "Unknown column of 'pets.csv' 'image'. Nearest: 'images'." in refusal(table("images,label,fold"))
    assert "Name it with ?label=COLUMN" in refusal(table("image,kind,fold"))
    assert "Nearest: 'fold'" in refusal(table() + "?split=folds")
    assert "is empty" in refusal(table("", []))
    assert "no row" in refusal(table(lines=[]))
    assert "No such file or directory" in refusal(f"csv:{tmp_path / 'none.csv'}")
    assert "is not a file" in refusal(f"csv:{tmp_path}")
    (tmp_path / "binary.csv").write_bytes(b"image,label\n\xff\xfe\x00,a\n")
    assert "not text in UTF-8" in refusal(f"csv:{tmp_path / 'binary.csv'}")
    (tmp_path / "zero.csv").write_bytes(b'image,label\n"' + b"x" * 200_000)
    assert "cannot be read as a table" in refusal(f"csv:{tmp_path / 'zero.csv'}")


def test_csv_rows_with_gaps_and_missing_files(table):
    lines = [f"files/{n}.png,{('cat', 'dog')[n % 2]},x" for n in range(20)]
    loaded = load(table(lines=[*lines, ",cat,x", "files/1.png,,x", "files/2.png", "gone.png,cat,x"]))
    assert "3 rows without an image or a label were left out" in loaded.task.notes
    assert any("gone.png: No such file" in note for note in loaded.task.notes)


def save(path, **arrays):
    np.savez(path, **arrays)
    return f"arrays:{path}"


def test_npz_with_splits(tmp_path):
    uri = save(
        tmp_path / "a.npz",
        train_images=IMAGES[:12],
        train_labels=LABELS[:12],
        val_images=IMAGES[12:16],
        val_labels=LABELS[12:16],
        test_images=IMAGES[16:],
        test_labels=LABELS[16:, None],
    )
    assert sizes(load(uri)) == [12, 4, 4]
    keras = save(tmp_path / "b.npz", x_train=IMAGES[:16], y_train=LABELS[:16], x_test=IMAGES[16:], y_test=LABELS[16:])
    assert [s.origin for s in load(keras).task.splits] == ["train", "held out of train, 10%, stratified", "test"]


def test_npz_with_named_keys_and_class_names(tmp_path):
    uri = save(tmp_path / "a.npz", pixels=IMAGES, kinds=LABELS, class_names=np.array(["zebra", "ant"]))
    loaded = load(uri + "?images=pixels&labels=kinds")
    assert loaded.task.class_names == ("zebra", "ant")
    first = IMAGES[LABELS == 0]
    zebras = loaded.train.images(8)[loaded.train.labels == 0]
    assert all(any((zebra == image).all() for image in first) for zebra in zebras)
    text = save(tmp_path / "b.npz", images=IMAGES, labels=np.array(["b", "a"] * 10))
    assert load(text).task.class_names == ("a", "b")
    hot = save(tmp_path / "c.npz", images=IMAGES, labels=np.eye(2)[LABELS])
    assert load(hot).task.class_names == ("0", "1")


def test_npz_faults(tmp_path):
    uri = save(tmp_path / "a.npz", pixels=IMAGES, kinds=LABELS)
    assert "it has kinds, pixels" in refusal(uri)
    assert "Nearest: 'pixels'" in refusal(uri + "?images=pixel&labels=kinds")
    assert "Both arrays must be named" in refusal(uri + "?images=pixels")
    assert "20 images but 19 labels" in refusal(save(tmp_path / "b.npz", images=IMAGES, labels=LABELS[1:]))
    assert "expected [n, h, w]" in refusal(save(tmp_path / "c.npz", images=IMAGES.reshape(20, -1), labels=LABELS))
    assert "no pixels" in refusal(save(tmp_path / "d.npz", images=IMAGES.astype(int) - 300, labels=LABELS))
    assert "expected numbers" in refusal(save(tmp_path / "e.npz", images=IMAGES.astype("U3"), labels=LABELS))
    assert "whole numbers or text" in refusal(save(tmp_path / "f.npz", images=IMAGES, labels=LABELS + 0.5))
    names = np.array(["only"])
    assert "no index into" in refusal(save(tmp_path / "g.npz", images=IMAGES, labels=LABELS, class_names=names))
    both = save(tmp_path / "h.npz", val_images=IMAGES, val_labels=LABELS, eval_images=IMAGES, eval_labels=LABELS)
    assert "more than one pair" in refusal(both)


def test_npz_is_never_unpickled_and_its_sizes_are_limited(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([object()] * 4), labels=LABELS[:4])
    assert "never unpickled" in refusal(f"arrays:{tmp_path / 'a.npz'}")
    uri = save(tmp_path / "b.npz", images=IMAGES, labels=LABELS)
    assert "above the limit of 100" in refusal(uri, limits=Limits(max_array_bytes=100))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9)})
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", b"garbage")
    assert "above the limit" in refusal(f"arrays:{tmp_path / 'c.npz'}")
    (tmp_path / "d.npz").write_bytes(b"no archive")
    assert "no readable .zip archive" in refusal(f"arrays:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.float64) / 255,
        lambda x: x.astype(np.uint16) * 257,
        lambda x: x.transpose(0, 3, 1, 2),
        np.asfortranarray,
    ],
)
def test_every_number_range_gives_the_same_pixels(make):
    np.testing.assert_array_equal(as_pixels(make(IMAGES), "x"), IMAGES)


def idx(array, kind=0x08):
    return struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(directory, prefix, images, labels, gz=True):
    directory.mkdir(exist_ok=True)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        data = idx(array.astype(np.uint8))
        path = directory / f"{prefix}-{name}-ubyte{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(data) if gz else data)
    return directory


@pytest.mark.parametrize("gz", [True, False])
def test_idx_directory_and_file(tmp_path, gz):
    gray = IMAGES[:, :, :, 0]
    directory = write_idx(tmp_path / "mnist", "train", gray[:14], LABELS[:14], gz)
    write_idx(directory, "t10k", gray[14:], LABELS[14:], gz)
    loaded = load(f"arrays:{directory}")
    assert sizes(loaded) == [12, 2, 6]
    assert loaded.task.splits[2].origin == "test"
    file = directory / f"train-images-idx3-ubyte{'.gz' if gz else ''}"
    assert sizes(load(f"arrays:{file}")) == [10, 2, 2]


def test_idx_faults(tmp_path):
    gray = IMAGES[:, :, :, 0]
    directory = write_idx(tmp_path / "a", "train", gray, LABELS)
    images = directory / "train-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx(gray)[:-5]))
    assert "ends after" in refusal(f"arrays:{directory}")
    images.write_bytes(gzip.compress(idx(gray))[:-20])
    assert "cannot be read" in refusal(f"arrays:{directory}")
    images.write_bytes(gzip.compress(b"something else"))
    assert "no IDX file" in refusal(f"arrays:{directory}")
    images.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31)))
    assert "above the limit" in refusal(f"arrays:{directory}")
    (directory / "train-labels-idx1-ubyte.gz").unlink()
    assert "not beside it" in refusal(f"arrays:{images}")
    write_idx(tmp_path / "b", "letters-train", gray, LABELS)
    assert "more than one data set" in refusal(f"arrays:{write_idx(tmp_path / 'b', 'digits-train', gray, LABELS)}")
    (tmp_path / "c").mkdir()
    assert "has no IDX files" in refusal(f"arrays:{tmp_path / 'c'}")
    (tmp_path / "x.bin").touch()
    assert "neither an .npz file nor an IDX file" in refusal(f"arrays:{tmp_path / 'x.bin'}")
