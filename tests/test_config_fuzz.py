"""Settings that people and accidents write: files, options and stored runs end in a value or in an error for people."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path as FilePath
from typing import Any

import pytest
from cli_calls import call, write_folder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mutant.search.config import NAMES, RunConfig, Settings, read_settings, run_config
from mutant.search.recorded import recorded_config
from mutant.storage.records import Run
from mutant.tasks.errors import UserError

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["mutant", "munet", "sampled", "local", "2-wise", "²-wise", "learning_rate", "1e999", "auto", "", "0", "-1"]
    ),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)


VALUES = st.recursive(JUNK, nested, max_leaves=5)


def toml(value: Any) -> str:
    """A value as TOML writes it, or nearly: floats and texts that TOML does not know are part of the test."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
        case _:
            return json.dumps(value)


KEYS = st.sampled_from(NAMES) | st.sampled_from(["childern", "", "a.b", "ключ"]) | st.text(max_size=6)
FILES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.tuples(KEYS, VALUES), max_size=4).map(
        lambda pairs: "\n".join(f"{k if k.isidentifier() else json.dumps(k)} = {toml(v)}" for k, v in pairs).encode(
            "utf-8", "surrogatepass"
        )
    ),
)


def check_file(file: FilePath, data: bytes) -> None:
    """The file is refused with words, or its settings make a run whose row gives it back."""
    file.write_bytes(data)
    try:
        found = read_settings(file)
        config = run_config(found, ("a",), reference_parameters=10.0, reference_flops=10.0)
    except UserError as error:
        assert error.message
        return
    assert isinstance(found, Settings)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False))) == config


@settings(max_examples=100)
@example(b"scale_factor = nan")
@example(b"scale_factor = inf")
@example(b"children = 1e400")
@example(b"mutable = [[1]]")
@example(b"a = " + b"[" * 5000)
@example(b"a." * 5000 + b"a = 1")
@example(b'preset = ["mutant"]')
@example(b"preset = {}")
@example(b"seed = " + b"9" * 5000)
@given(FILES)
def test_a_settings_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check_file(tmp_path_factory.getbasetemp() / "settings.toml", data)


@pytest.mark.lengthy
@settings(max_examples=3000)
@given(FILES)
def test_thousands_of_settings_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check_file(tmp_path_factory.getbasetemp() / "settings.toml", data)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """A system with one unfinished run, begun and not worked off."""
    from mutant.search.growth import begin
    from mutant.search.system import System
    from mutant.tasks.load import load

    directory = tmp_path_factory.mktemp("system")
    call("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", directory / "m.db")
    task = load(f"folder:{write_folder(directory / 'colours')}").task
    with System.open(directory / "m.db") as opened:
        begin(opened.store, (task.name,), Settings(children=1, generation_size=1), new=[task])
    return directory / "m.db"


SETTABLE = "children generation-size visits validations examples-per-validation batch scale-factor compute-factor"
OTHERS = "backprop groups mutation-probability reach halving preset config workers budget ray-address nonsense json"
OPTIONS = st.sampled_from([f"--{name}" for name in f"{SETTABLE} {OTHERS}".split()])
ARGUMENTS = st.lists(st.tuples(OPTIONS, st.text(max_size=6) | JUNK.map(str)), min_size=1, max_size=3)


def check_options(system: FilePath, arguments: list[tuple[str, str]]) -> None:
    """A run is under way, so that nothing begins whatever is asked: a refusal for one reason or another."""
    called = call("evolve", *(word for pair in arguments for word in pair), "--db", system)
    assert called.code in (0, 2), (called.err, arguments)  # 0: --help was among the texts
    assert "Traceback" not in called.err
    assert "Internal error" not in called.err


@settings(max_examples=40)
@given(ARGUMENTS)
def test_options_are_refused_with_words(system: FilePath, arguments: list[tuple[str, str]]) -> None:
    check_options(system, arguments)


@pytest.mark.lengthy
@settings(max_examples=1000)
@given(ARGUMENTS)
def test_a_thousand_options_are_refused_with_words(system: FilePath, arguments: list[tuple[str, str]]) -> None:
    check_options(system, arguments)


def places(config: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the nested settings."""
    if not isinstance(config, dict):
        return [place]
    return [place, *(inner for key, value in config.items() for inner in places(value, (*place, key)))]


def edited(config: dict[str, Any], place: tuple[str, ...], value: Any) -> Any:
    if not place:
        return value
    return {**config, place[0]: edited(config[place[0]], place[1:], value)}


PICKS = st.integers(0, 10**6).map(lambda number: lambda items: items[number % len(items)])
GOOD = run_config(Settings(), ("a", "b"), reference_parameters=10.0, reference_flops=10.0)


def check_recorded(pick: Callable[[list[Any]], Any], value: Any) -> None:
    """A run's settings are refused with words, or are settings that a run can have."""
    good = json.loads(json.dumps(GOOD.to_dict()))
    change = edited(good, pick(places(good)), value)
    if not isinstance(change, dict):
        return
    try:
        config = recorded_config(Run(7, change, ()))
    except UserError as error:
        assert "run 7" in error.message
        return
    assert isinstance(config, RunConfig)
    assert 1 <= config.generation_size <= 100_000
    assert 0 < config.scale.factor <= 1


@settings(max_examples=100)
@example(lambda items: ("later_scales",), [[1, {}]])
@example(lambda items: ("later_scales",), [[1, {"factor": float("nan")}]])
@example(lambda items: ("start",), {"learning_rat": 0.1})
@example(lambda items: ("rules", "image_step"), 0)
@given(pick=PICKS, value=VALUES)
def test_recorded_settings_are_read_or_refused(pick: Callable[[list[Any]], Any], value: Any) -> None:
    check_recorded(pick, value)


@pytest.mark.lengthy
@settings(max_examples=2000)
@given(pick=PICKS, value=VALUES)
def test_thousands_of_recorded_settings_are_read_or_refused(pick: Callable[[list[Any]], Any], value: Any) -> None:
    check_recorded(pick, value)


def test_recorded_settings_are_read_again() -> None:
    for children in (GOOD.children, 0):  # none: the run of an imported task
        recorded = json.loads(json.dumps(GOOD.to_dict() | {"children": children}))
        assert recorded_config(Run(7, recorded, ())).to_dict() == GOOD.to_dict() | {"children": children}


def check_row(directory: FilePath, good: FilePath, pick: Callable[[list[Any]], Any], value: Any, command: str) -> None:
    file = directory / "m.db"
    file.write_bytes(good.read_bytes())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        (text,) = connection.execute("SELECT config FROM runs").fetchone()
        config = json.loads(text)
        change = json.dumps(edited(config, pick(places(config)), value))
        with suppress(sqlite3.Error, UnicodeEncodeError):
            connection.execute("UPDATE runs SET config = ?", (change,))
    words = {"show": ("show", "colours"), "resume": ("resume", "--children", "999983")}.get(command, (command,))
    called = call(*words, "--db", file)
    assert called.code in (0, 2), (called.err, change)
    assert "Traceback" not in called.err
    assert "Internal error" not in called.err, (called.err, change)


COMMANDS = st.sampled_from(["status", "list", "show", "resume", "digest", "abandon"])


@settings(max_examples=40)
@given(pick=PICKS, value=VALUES, command=COMMANDS)
def test_a_runs_settings_edited_to_nonsense_are_told(
    tmp_path_factory: pytest.TempPathFactory,
    system: FilePath,
    pick: Callable[[list[Any]], Any],
    value: Any,
    command: str,
) -> None:
    check_row(tmp_path_factory.getbasetemp(), system, pick, value, command)


@pytest.mark.lengthy
@settings(max_examples=200)
@given(pick=PICKS, value=VALUES, command=COMMANDS)
def test_hundreds_of_runs_settings_edited_to_nonsense_are_told(
    tmp_path_factory: pytest.TempPathFactory,
    system: FilePath,
    pick: Callable[[list[Any]], Any],
    value: Any,
    command: str,
) -> None:
    check_row(tmp_path_factory.getbasetemp(), system, pick, value, command)
