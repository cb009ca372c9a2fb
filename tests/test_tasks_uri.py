"""The grammar of task URIs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutant.tasks.errors import UserError
from mutant.tasks.uri import OPTIONS, TaskURI, check_name, default_name, parse


@pytest.mark.parametrize(
    ("text", "scheme", "target", "options"),
    [
        ("tfds:mnist", "tfds", "mnist", {}),
        ("tfds:cmaterdb/bangla:1.0.0?data_dir=/d", "tfds", "cmaterdb/bangla:1.0.0", {"data_dir": "/d"}),
        ("folder:C%3Fx/pets.zip", "folder", "C?x/pets.zip", {}),
        ("csv:a.csv?image=file name&label=kind", "csv", "a.csv", {"image": "file name", "label": "kind"}),
        ("sample:digits?train=train[:90%]+test", "sample", "digits", {"train": "train[:90%]+test"}),
        ("hf:org/name?config=a%26b", "hf", "org/name", {"config": "a&b"}),
        (" sample:digits ", "sample", "digits", {}),
    ],
)
def test_parsing(text, scheme, target, options):
    uri = parse(text)
    assert (uri.scheme, uri.target, dict(uri.options)) == (scheme, target, options)


@given(
    scheme=st.sampled_from(sorted(OPTIONS)),
    target=st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1),
    train=st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1) | st.none(),
    test=st.sampled_from(["test", "test[:50%]+train[3:]", "%25&?", "%3f", "a=b"]),
)
def test_the_canonical_form_parses_to_the_same(scheme, target, train, test):
    options = {"test": test} | ({} if train is None else {"train": train})
    uri = TaskURI(scheme, target, tuple(sorted(options.items())))
    assert parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no task URI"),
        ("cifar10", "is no task URI"),
        (":x", "is no task URI"),
        ("foldr:pets", "Unknown kind of task 'foldr:' in 'foldr:pets'. Nearest: 'folder:'"),
        ("s3:bucket", "Unknown kind of task"),
        ("folder:", "names nothing"),
        ("folder:?train=train", "names nothing"),
        ("sample:digits?trian=train", "Unknown option of sample: 'trian'. Nearest: 'train'"),
        ("csv:a.csv?images=x", "Nearest: 'image'"),
        ("folder:a?size=3", "Unknown option of folder: 'size'"),
        ("sample:digits?train", "no value"),
        ("sample:digits?train=", "no value"),
        ("sample:digits?train=train&train=test", "twice"),
    ],
)
def test_wrong_uris_say_what_is_wrong(text, message):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_a_path_without_scheme_is_offered_as_a_folder(tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "a.csv").touch()
    for name, offered in (("pets", "folder:"), ("a.csv", "csv:")):
        with pytest.raises(UserError) as caught:
            parse(str(tmp_path / name))
        assert f"{offered}{tmp_path / name}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("folder:data/Garden Birds.zip", "garden-birds"),
        ("folder:/data/pets/", "pets"),
        ("csv:x/y.table.csv", "y.table"),
        ("arrays:kmnist.npz", "kmnist"),
        ("tfds:cmaterdb/bangla:1.0.0", "cmaterdb-bangla"),
        ("hf:org/Some_Set", "some_set"),
        ("sample:digits", "digits"),
        ("folder:写真", "folder"),
    ],
)
def test_default_names_are_names(text, name):
    assert default_name(parse(text)) == name
    assert check_name(default_name(parse(text))) == name


def test_the_working_directory_names_its_task(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path / "pets")
    assert default_name(parse("folder:.").resolved()) == "pets"
    assert Path(parse("folder:x").resolved().target).is_absolute()
    assert parse("sample:digits").resolved() == parse("sample:digits")


@pytest.mark.parametrize("name", ["", "Pets", "a b", "../x", "-a", "a" * 65, "a\n"])
def test_bad_names_are_refused(name):
    with pytest.raises(UserError, match="cannot be called"):
        check_name(name)
