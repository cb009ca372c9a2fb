"""Directories and archives of images: layouts, hostile entries, unreadable files."""

from __future__ import annotations

import os
import stat
import zipfile

import pytest
from task_sets import class_files, png, write_folder, write_zip

from mutant.tasks.errors import UserError
from mutant.tasks.limits import Limits
from mutant.tasks.load import LoadedTask, load
from mutant.tasks.sources.layout import lay_out


def sizes(loaded: LoadedTask) -> list[int]:
    return [split.examples for split in loaded.task.splits]


def origins(loaded: LoadedTask) -> list[str]:
    return [split.origin for split in loaded.task.splits]


HELD = "held out of train, 10%, stratified"


def test_class_directories_without_splits(tmp_path):
    loaded = load(f"folder:{write_folder(tmp_path / 'pets', class_files(20))}")
    assert loaded.task.name == "pets"
    assert loaded.task.class_names == ("cat", "dog")
    assert sizes(loaded) == [32, 4, 4]
    assert origins(loaded) == ["train", HELD, HELD]
    assert loaded.train.images(8).shape == (32, 8, 8, 3)


@pytest.mark.parametrize("word", ["val", "valid", "validation", "eval", "Val"])
def test_split_directories_and_synonyms(tmp_path, word):
    files = (
        class_files(10, split="train") | class_files(3, split=word, first=100) | class_files(4, split="test", first=200)
    )
    loaded = load(f"folder:{write_folder(tmp_path / 'pets', files)}")
    assert sizes(loaded) == [20, 6, 8]
    assert origins(loaded) == ["train", "validation", "test"]


def test_an_archive_equals_its_directory_whatever_the_file_names(tmp_path):
    files = class_files(12, split="train") | class_files(3, split="test", first=50)
    folder = load(f"folder:{write_folder(tmp_path / 'a', files)}")
    archive = load(f"folder:{write_zip(tmp_path / 'a.zip', dict(reversed(files.items())))}")
    renamed = {
        "wrapped/deep/" + name.rsplit("/", 1)[0] + f"/{number * 7919 % 1000}-{number}.PNG": data
        for number, (name, data) in enumerate(files.items())
    }
    wrapped = load(f"folder:{write_zip(tmp_path / 'b.zip', renamed)}", name="a")
    for other in (archive, wrapped):
        assert other.task.fingerprint == folder.task.fingerprint
        assert other.train.hashes == folder.train.hashes
        assert (other.train.images(8) == folder.train.images(8)).all()
        assert (other.train.labels == folder.train.labels).all()


def test_splits_never_come_from_file_names(tmp_path):
    files = {f"{label}/test_{i}_val.png": png(i + 100 * p) for p, label in enumerate(("cat", "dog")) for i in range(10)}
    assert origins(load(f"folder:{write_folder(tmp_path, files)}"))[1:] == [HELD, HELD]


def test_classes_called_like_splits_are_classes(tmp_path):
    files = class_files(10, classes=("train", "plane", "test"))
    assert load(f"folder:{write_folder(tmp_path / 'vehicles', files)}").task.class_names == ("plane", "test", "train")


def test_numbered_classes_are_in_numeric_order_and_nested_images_belong_to_their_class(tmp_path):
    files = {f"{label}/more/{i}.png": png(i + 100 * label) for label in (0, 2, 10) for i in range(5)}
    assert load(f"folder:{write_folder(tmp_path, files)}").task.class_names == ("0", "2", "10")


def test_other_splits_can_be_named_in_the_uri(tmp_path):
    files = class_files(10, split="train") | class_files(5, split="extra", first=100)
    folder = write_folder(tmp_path / "pets", files)
    assert sizes(load(f"folder:{folder}")) == [16, 2, 2]
    loaded = load(f"folder:{folder}?test=extra&train=train[:50%]+train[15:]&validation=train[10:12]")
    assert sizes(loaded) == [15, 2, 10]
    assert origins(loaded) == ["train[:50%]+train[15:]", "train[10:12]", "extra"]


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    files = class_files(10) | {
        "cat/.DS_Store": b"x",
        "cat/._0.png": b"x",
        "__MACOSX/cat/0.png": b"x",
        "README.txt": b"x",
        "loose.png": png(1),
    }
    loaded = load(f"folder:{write_zip(tmp_path / 'pets.zip', files)}")
    assert sum(sizes(loaded)) == 20
    assert "not images, ignored: 4 of 25 files" in loaded.task.notes
    assert "outside class directories, ignored: 'loose.png'" in loaded.task.notes


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "There is no image in"),
        ({"a.txt": b"x"}, "There is no image in"),
        ({"a.png": png(1), "b.png": png(2)}, "not in class directories"),
        (class_files(9, classes=("cat",)), "There is only one class, 'cat'"),
        (class_files(9, split="train", classes=("cat",)), "There is only one class, 'cat'"),
        (class_files(2), "Class 'cat' has too few distinct training examples (2) to hold out test: 3 are needed"),
        (class_files(5, split="test"), "no training examples (splits with examples: test)"),
        (class_files(5, split="train") | class_files(5, split="val") | class_files(5, split="eval"), "both mean"),
        (class_files(9) | {"dog/x.png": b""} | {"cat/y.png": b"text"}, "2 of 20 images cannot be read"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_sets_that_cannot_be_used_say_why(tmp_path, files, message, kind):
    place = tmp_path / ("pets.zip" if kind == "zip" else "pets")
    if kind == "zip":
        write_zip(place, files)
    else:
        place.mkdir()
        write_folder(place, files)
    with pytest.raises(UserError) as caught:
        load(f"folder:{place}")
    assert message in str(caught.value)


def test_missing_paths_name_the_nearest(tmp_path):
    (tmp_path / "garden").mkdir()
    with pytest.raises(UserError) as caught:
        load(f"folder:{tmp_path / 'gardn'}")
    assert f"Nearest: '{tmp_path / 'garden'}'" in str(caught.value)
    with pytest.raises(UserError, match="No such file or directory"):
        load(f"folder:{tmp_path / 'a' / 'b'}")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\3\4 torn"])
def test_files_that_are_no_archive(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="neither a directory nor"):
        load(f"folder:{tmp_path / 'x.zip'}")


def test_a_torn_archive(tmp_path):
    whole = write_zip(tmp_path / "whole.zip", class_files(10)).read_bytes()
    damaged = bytearray(whole)
    place = whole.rfind(b"PK\1\2")
    damaged[place : place + 4] = b"????"
    (tmp_path / "torn.zip").write_bytes(damaged)
    with pytest.raises(UserError, match="no readable"):
        load(f"folder:{tmp_path / 'torn.zip'}")


def test_damaged_entries_are_skipped_by_name(tmp_path):
    path = write_zip(tmp_path / "pets.zip", class_files(60))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("dog/7.png").header_offset
    data[start + 60] ^= 0xFF
    path.write_bytes(data)
    loaded = load(f"folder:{path}")
    assert sum(sizes(loaded)) == 119
    assert any(note.startswith("skipped: 1 of 120 images cannot be read: dog/7.png:") for note in loaded.task.notes)


def test_entries_never_escape_the_archive(tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(99))
    files = class_files(10) | {
        "../secret.png": png(1),
        "cat/../../secret.png": png(2),
        "/etc/cat/secret.png": png(3),
        "C:\\cat\\secret.png": png(4),
        "..\\dog\\secret.png": png(5),
    }
    path = write_zip(tmp_path / "pets.zip", files)
    link = zipfile.ZipInfo("dog/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(outside))
    before = sorted(p.name for p in tmp_path.iterdir())
    loaded = load(f"folder:{path}")
    assert sum(sizes(loaded)) == 20
    assert loaded.task.class_names == ("cat", "dog")
    assert any(note.startswith("6 entries that leave the archive") for note in loaded.task.notes)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "pets.zip"
    write_zip(path, class_files(60))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dog/bomb.png", b"\0" * 3_000_000)
    loaded = load(f"folder:{path}", limits=Limits(max_bytes=1_000_000))
    assert any("dog/bomb.png: It unpacks to more than the limit of 1,000,000 bytes" in n for n in loaded.task.notes)


def test_encrypted_entries_are_reported(tmp_path):
    path = write_zip(tmp_path / "pets.zip", class_files(5))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(signature, place + 4)
    path.write_bytes(data)
    with pytest.raises(UserError, match="10 of 10 images cannot be read"):
        load(f"folder:{path}")


def test_unreadable_images_are_skipped_up_to_the_share(tmp_path):
    bad = {"cat/text.png": b"just text", "dog/empty.jpg": b""}
    folder = write_folder(tmp_path / "pets", class_files(40) | bad)
    with pytest.raises(UserError) as caught:
        load(f"folder:{folder}")
    message = str(caught.value)
    assert "2 of 82 images cannot be read: cat/text.png: Not an image" in message
    assert "dog/empty.jpg: The file is empty." in message
    loaded = load(f"folder:{folder}", limits=Limits(max_skipped=0.05))
    assert sum(sizes(loaded)) == 80
    assert any("cat/text.png" in note and "dog/empty.jpg" in note for note in loaded.task.notes)


def test_names_that_a_terminal_cannot_show(tmp_path):
    folder = write_folder(tmp_path / "pets", class_files(10))
    (folder / "cat" / "a\x1b[2J.png").write_bytes(b"x")
    notes = load(f"folder:{folder}").task.notes
    assert any("a?[2J.png" in note for note in notes)
    try:
        (folder / os.fsdecode(b"c\xffw")).mkdir()
    except OSError:
        pytest.skip("the file system wants names in UTF-8")
    for number in range(5):
        (folder / os.fsdecode(b"c\xffw") / os.fsdecode(b"\xfe%d.png" % number)).write_bytes(png(number + 500))
    assert load(f"folder:{folder}").task.class_names == ("c?w", "cat", "dog")


def test_links_are_followed_and_loops_are_not(tmp_path):
    outside = write_folder(tmp_path / "store", {f"{i}.png": png(i + 300) for i in range(10)})
    folder = write_folder(tmp_path / "pets", class_files(10))
    (folder / "bird").symlink_to(outside, target_is_directory=True)
    (folder / "cat" / "loop").symlink_to(folder, target_is_directory=True)
    assert load(f"folder:{folder}").task.class_names == ("bird", "cat", "dog")


def test_a_pipe_is_not_opened(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    folder = write_folder(tmp_path / "pets", class_files(10))
    os.mkfifo(folder / "cat" / "pipe.png")
    assert any("pipe.png: Not a regular file" in note for note in load(f"folder:{folder}").task.notes)


def test_too_many_files(tmp_path):
    folder = write_folder(tmp_path / "pets", class_files(10))
    for place in (folder, write_zip(tmp_path / "pets.zip", class_files(10))):
        with pytest.raises(UserError, match="limit of 19"):
            load(f"folder:{place}", limits=Limits(max_examples=19))


def test_layout_does_not_depend_on_order():
    paths = ["test/b/1.png", "train/a/1.png", "train/b/2.png", "test/a/3.png"]
    for order in (paths, paths[::-1]):
        layout = lay_out(order, "x")
        assert layout.paths == {"test": ["test/a/3.png", "test/b/1.png"], "train": ["train/a/1.png", "train/b/2.png"]}
        assert layout.labels["train"].tolist() == [0, 1]
