"""The command line itself: help, imports, versions, usage errors, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_calls import call, done, refused
from hypothesis import given
from hypothesis import strategies as st

from mutant import __version__
from mutant.cli import system
from mutant.cli.main import app, run
from mutant.cli.words import count, duration, listed, percent

HEAVY = ("jax", "flax", "optax", "ray", "sqlalchemy", "alembic", "numpy", "PIL", "matplotlib", "sklearn", "skimage")
COMMANDS = {
    "Starting": {"quickstart"},
    "The system": {"init", "status", "digest", "db"},
    "What there is": {"roots", "tasks", "presets"},
    "Growing": {"add", "evolve", "resume", "abandon", "baseline", "bench"},
    "Looking": {"list", "show", "lineage", "blame", "impact", "diff", "report"},
    "Using": {"predict", "evaluate", "verify", "plot", "export", "serve", "keys", "replay"},
    "Keeping": {"rm", "gc", "import"},
}


@pytest.mark.parametrize("arguments", [["--help"], ["add", "-h"], ["--version"], ["quickstart", "--help"]])
def test_help_imports_nothing_heavy(repository: Path, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom mutant.cli.main import run\n"
        f"run({arguments!r})\nprint('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "HEAVY []"


def test_every_command_is_there_and_has_help() -> None:
    group = typer.main.get_command(app)
    names = {name for panel in COMMANDS.values() for name in panel}
    assert set(group.commands) == names  # pyright: ignore[reportAttributeAccessIssue]
    overview = done("--help").out
    assert [panel for panel in COMMANDS if panel not in overview] == []
    for name in names:
        assert name in overview
        shown = done(name, "-h").out
        assert shown == done(name, "--help").out
        assert len(shown.split()) > 15
    assert "upgrade" in done("db", "--help").out


def test_help_tells_the_exit_codes() -> None:
    for code in ("0 done", "1 a check", "2 bad input", "70 an error", "130", "143"):
        assert code in " ".join(done("--help").out.split())


def test_version() -> None:
    assert done("--version").out == f"mutant {__version__}\n"


def test_nothing_shows_the_help() -> None:
    called = call()
    assert called.code == 2
    assert "Usage: mutant" in called.out
    assert "Error" not in called.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ad"], ["'ad'", "'add'", "mutant --help"]),
        (["lst", "--json"], ["'lst'", "'list'"]),
        (["add"], ["URI", "mutant add --help"]),
        (["add", "sample:digits", "--childen", "3"], ["--childen", "--children"]),
        (["add", "sample:digits", "--children", "three"], ["--children", "integer"]),
        (["init"], ["--root"]),
        (["predict", "digits"], ["IMAGE"]),
        (["predict", "digits", "a.png", "--top-k", "0"], ["--top-k"]),
        (["plot", "--kind", "modle"], ["modle"]),
        (["db", "upgrad"], ["upgrade"]),
    ],
)
def test_a_wrong_command_line_names_the_right_one(arguments: list[str], words: list[str]) -> None:
    error = refused(*arguments)
    assert [word for word in words if word not in error] == []


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr(system, "reading", broken)
    called = call("status", "--json")
    assert (called.code, called.out) == (70, "")
    assert called.err.splitlines()[0] == "Internal error: ZeroDivisionError: a fault of ours"
    assert "MUTANT_TRACEBACK=1" in called.err
    monkeypatch.setenv("MUTANT_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run(["status"])


def test_an_operating_system_error_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/there")

    monkeypatch.setattr(system, "reading", denied)
    assert refused("status") == "Error: Permission denied: '/there'.\n"


def test_catalogues_need_no_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUTANT_DB", raising=False)
    roots = done("roots", "--json").json
    assert {"efficientnet-lite0", "vit-ti16"} <= {root["name"] for root in roots}
    assert all(root["parameters"] > 10**6 and root["licence"] and root["sources"] for root in roots)
    tasks = done("tasks", "--json").json
    assert tasks["tasks"] == []
    assert "sample:digits" in {sample["uri"] for sample in tasks["samples"]}
    assert "folder:PATH" in {form["form"] for form in tasks["forms"]}
    presets = done("presets", "--json").json
    assert [preset["preset"] for preset in presets if preset["default"]] == ["mutant"]
    for command, word in (("roots", "vit-ti16"), ("tasks", "sample:digits"), ("presets", "mu2net-plus")):
        shown = done(command).out
        assert word in shown
        assert [line for line in shown.splitlines() if line != line.rstrip()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_presets_every_setting_can_be_set(tmp_path: Path) -> None:
    shown = " ".join(done("add", "--help").out.split())
    for name in ("children", "generation_size", "visits", "validations", "batch", "reach", "scale_factor"):
        assert name in json.dumps(done("presets", "--json").json)
        assert f"--{name.replace('_', '-')}" in shown


@given(st.floats(0, 1e12))
def test_counts_keep_three_digits(number: float) -> None:
    shown, _, unit = count(number).partition(" ")
    value = float(shown) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert value == pytest.approx(number, rel=0.0051, abs=0.5)
    assert len(shown.replace(".", "")) <= 3 or number >= 1e11


def test_what_was_not_measured_is_a_dash() -> None:
    assert count(None) == percent(None) == duration(None) == "–"
    assert listed([]) == ""
