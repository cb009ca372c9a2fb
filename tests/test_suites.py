"""Benchmark suites: what comes with the program can be read, and what cannot be read is told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutant.roots import registry
from mutant.search.bench.methods import method
from mutant.search.presets import PRESETS
from mutant.search.suites.suite import FOLDER, Suite, read_suite, suite_from, suites
from mutant.tasks.errors import UserError
from mutant.tasks.uri import parse

GOOD = {
    "root": "random:vit-ti16",
    "budget": "4children",
    "methods": ["evolution", "full"],
    "tasks": {"digits": "sample:digits"},
}


@pytest.mark.parametrize("name", suites())
def test_a_suite_that_comes_along_is_whole(name: str, tmp_path: Path) -> None:
    suite = read_suite(name)
    assert suite.title != name
    assert suite.root in registry()
    assert [method(one).name for one in suite.methods] == list(suite.methods)
    assert suite.run_budget.amount > 0
    for uri in suite.at(tmp_path).tasks.values():
        assert "{" not in str(parse(uri))
    opening = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"# mutant bench {re.escape(name)}\b.*", opening[0])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metods": []}, "'methods'"),
        ({"methods": []}, "no methods"),
        ({"tasks": {}}, "no tasks"),
        ({"tasks": {"digits": "sampel:digits"}}, "sample:"),
        ({"tasks": {"Digits!": "sample:digits"}}, "lower-case"),
        ({"tasks": {"digits": 3}}, "a text"),
        ({"budget": "soon"}, "no budget"),
        ({"budget": "90s"}, "wall time"),
        ({"image_size": "64"}, "whole number"),
        ({"settings": {"childen": 3}}, "'children'"),
        ({"settings": {"budget": "3children"}}, "key of the suite"),
    ],
)
def test_what_is_wrong_with_a_suite_is_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as error:
        suite_from(GOOD | change, name="s", where="s.toml")
    assert told in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize("key", GOOD)
def test_a_suite_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"'{key}'"):
        suite_from({name: value for name, value in GOOD.items() if name != key}, name="s", where="s.toml")


_VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from([*GOOD, "settings", "image_size", "title"]), _VALUES)
def test_any_other_value_is_a_suite_or_told(key: str, value: object) -> None:
    try:
        assert isinstance(suite_from(GOOD | {key: value}, name="s", where="s.toml"), Suite)
    except UserError as error:
        assert error.message


def test_files_are_read_and_missing_ones_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    with pytest.raises(UserError, match="Cannot read"):
        read_suite(str(file))
    file.write_text("root = ", encoding="utf-8")
    with pytest.raises(UserError, match="not valid TOML"):
        read_suite(str(file))
    with pytest.raises(UserError) as error:
        read_suite("sample")
    assert "'samples'" in str(error.value.hint)


def test_a_directory_of_data_is_asked_for(tmp_path: Path) -> None:
    suite = suite_from(GOOD | {"tasks": {"a": "folder:{data}/a.zip"}}, name="s", where="s.toml")
    with pytest.raises(UserError, match="directory of yours"):
        suite.at(None)
    with pytest.raises(UserError, match="There is no directory"):
        suite.at(tmp_path / "nowhere")
    assert suite.at(tmp_path).tasks["a"] == f"folder:{tmp_path}/a.zip"


@pytest.mark.parametrize(
    ("name", "near"), [("evoluton", "'evolution'"), ("no-scal", "'no-scale'"), ("freze-12", "'freeze-12'")]
)
def test_the_nearest_method_is_named(name: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        method(name)
    assert near in str(error.value.hint)


def test_methods_differ_by_their_settings() -> None:
    assert method("scale-0.7", "munet").settings.given() == {"scale_factor": 0.7, "preset": "munet"}
    assert method("munet", "mutant").settings.given() == {"preset": "munet"}
    for preset in (None, "munet"):
        own = PRESETS[preset or "mutant"].rules.mutable
        assert method("optimizers", preset).settings.mutable == (*own, "optimizer")
        assert method("optimizers", preset).settings.preset == preset
    assert method("freeze-3").settings.given() == {"strategy": "freeze-3", "averaging": "none"}
    assert method("shuffled").shuffled
