"""What is shown while a run goes on, how it stops when asked to, and how it goes on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cli_calls import ALIKE, QUICK, Called, call, done, write_folder

from mutant.cli import quickstart
from mutant.outcome import Failed, Outcome
from mutant.search.evaluator import Begun, InProcessEvaluator, Supply, Work, unheard

INIT = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
Train = Iterator[tuple[int, Outcome]]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A new system."""
    done(*INIT, "--db", tmp_path / "m.db")
    return tmp_path / "m.db"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The URI of a task of two colours."""
    return f"folder:{write_folder(tmp_path / 'colours')}"


class Interrupting(InProcessEvaluator):
    """Trains `children` and then meets Ctrl-C."""

    children = 3

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Train:
        for item in super().train(work, supply, begun):
            yield item
            type(self).children -= 1
            if self.children == 0:
                raise KeyboardInterrupt


class Failing(InProcessEvaluator):
    """Loses every second child."""

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Train:
        for index, outcome in super().train(work, supply, begun):
            yield index, Failed(work[index].candidate.id, "not finite", "the loss is NaN") if index % 2 else outcome


class Lost(InProcessEvaluator):
    """Loses every child, most of them for one reason."""

    def train(self, work: Sequence[Work], supply: Supply, begun: Begun = unheard) -> Train:
        for index, item in enumerate(work):
            reason = "the loss is NaN" if index else "a worker\nwas killed"
            yield index, Failed(item.candidate.id, "not finite" if index else "worker lost", reason)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process are interrupted after three children."""
    monkeypatch.setattr(Interrupting, "children", 3)
    monkeypatch.setattr("mutant.search.crews.InProcessEvaluator", Interrupting)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: object, columns: int = 80) -> Called:
    """A command whose streams are taken for a terminal, without the colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    called = call(*arguments)
    return Called(called.code, ESCAPES.sub("", called.out), ESCAPES.sub("", called.err))


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_bar_per_segment(
    db: Path, folder: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    called = on_a_terminal(monkeypatch, "add", folder, *QUICK, *ALIKE, "--visits", 2, "--db", db, columns=columns)
    assert called.code == 0, called.err
    last = called.err.replace("\r", "\n").splitlines()
    bars = [line for line in last if line.startswith("✓ colours") and "2/2" in line]
    assert bars
    assert "best" in bars[-1]
    assert "score" in bars[-1]
    assert "Task colours: 2 classes" in called.err
    assert max(len(line.rstrip()) for line in (*last, *called.out.splitlines())) <= columns
    for command in ("list", "status", "tasks", "roots", "presets", "show", "lineage"):
        what = ["colours"] if command in ("show", "lineage") else []
        shown = on_a_terminal(monkeypatch, "--db", db, command, *what, columns=columns)
        assert shown.code == 0, shown.err
        assert max(len(line.rstrip()) for line in shown.out.splitlines()) <= columns


def test_failed_children_are_told_with_their_reason(db: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutant.search.crews.InProcessEvaluator", Failing)
    called = done("add", folder, *QUICK, *ALIKE, "--no-baseline", "--db", db)
    assert "colours 2/2  failed after 0.0 s (not finite): the loss is NaN" in called.err
    status = done("status", "--db", db, "--json").json
    assert status["candidates"] == {"DONE": 1, "FAILED": 1}
    assert [(f["task"], f["failure"], f["reason"]) for f in status["failures"]] == [
        ("colours", "not finite", "the loss is NaN")
    ]
    assert "the loss is NaN" in done("status", "--db", db).out
    shown = on_a_terminal(monkeypatch, "evolve", *QUICK, *ALIKE, "--db", db)
    assert "a child failed after 0.0 s (not finite)" in shown.err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_task_without_a_trained_child_is_told_and_ends_with_exit_code_1(
    db: Path, folder: str, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    form = ("--json",) if as_json else ()
    with monkeypatch.context() as patched:
        patched.setattr("mutant.search.crews.InProcessEvaluator", Lost)
        arguments = (*QUICK, *ALIKE, "--children", 3, "--generation-size", 3, "--db", db)
        called = call("add", folder, *arguments, *form)
        assert called.code == 1, called.err
        assert "Task colours: none of 3 children could be trained; it has no path." in called.err
        reasons = [line for line in called.err.splitlines() if line.startswith(("  2 x ", "  1 x "))]
        assert reasons == ["  2 x not finite: the loss is NaN", "  1 x worker lost: a worker was killed"]
        assert f"See: mutant status --db {db}" in called.err
        assert "Try: mutant predict" not in called.out
        assert not as_json or called.json[0]["path"] is None
    assert done("status", "--db", db, "--json").json["next"] == "mutant evolve colours"
    assert "Next: mutant evolve colours" in done("show", "colours", "--db", db).out
    assert done("evolve", "colours", *QUICK, *ALIKE, "--db", db, "--json").json[0]["path"] is not None
    with monkeypatch.context() as patched:
        patched.setattr("mutant.search.crews.InProcessEvaluator", Lost)
        called = call("evolve", *arguments)
    assert called.code == 1
    assert "it keeps the path that it had" in called.err
    assert done("list", "--db", db, "--json").json[0]["path"] is not None


def test_a_run_whose_source_is_gone_can_be_abandoned(
    db: Path, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no unfinished run" in call("abandon", "--db", db).err
    with monkeypatch.context() as patched:
        patched.setattr(Interrupting, "children", 1)
        patched.setattr("mutant.search.crews.InProcessEvaluator", Interrupting)
        assert call("add", folder, *QUICK, *ALIKE, "--db", db).code == 130
    colours = tmp_path / "colours"
    colours.rename(tmp_path / "elsewhere")
    assert call("resume", "--workers", 1, "--db", db).code == 2
    other = f"folder:{write_folder(tmp_path / 'other')}"
    assert call("add", other, *QUICK, *ALIKE, "--db", db).code == 2
    called = done("abandon", "--db", db)
    assert "Run 1 is given up after 1 of 2 children; all of them are kept." in called.out
    assert f"mutant evolve colours --db {db}" in called.out
    assert call("abandon", "--db", db).code == 2
    status = done("status", "--db", db, "--json").json
    assert (status["unfinished_run"], status["tasks"], status["next"]) == (None, ["colours"], "mutant evolve colours")
    assert [(run["state"], run["segments"][0]["done"]) for run in status["runs"]] == [("abandoned", 1)]
    done("add", other, *QUICK, *ALIKE, "--no-baseline", "--db", db)
    assert [task["path"] is None for task in done("list", "--db", db, "--json").json] == [True, False]
    (tmp_path / "elsewhere").rename(colours)
    (summary,) = done("evolve", "colours", *QUICK, *ALIKE, "--db", db, "--json").json
    assert summary["test_accuracy"] is not None
    assert done("verify", "--everything", "--db", db, "--json").json["ok"] is True


def test_abandoning_speaks_json(db: Path, folder: str, interrupted: None) -> None:
    call("add", folder, *QUICK, *ALIKE, "--children", 4, "--db", db)
    found = done("abandon", "--db", db, "--json").json
    assert found == {"run": 1, "done": 3, "children": 4, "tasks_without_path": ["colours"]}


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_says_what_is_kept_and_resume_goes_on(
    db: Path, folder: str, monkeypatch: pytest.MonkeyPatch, interrupted: None, terminal: bool
) -> None:
    arguments = ("add", folder, *QUICK, *ALIKE, "--children", 4, "--no-baseline", "--db", db)
    called = on_a_terminal(monkeypatch, *arguments) if terminal else call(*arguments)
    assert (called.code, called.out) == (130, "")
    told = " ".join(called.err.split())
    assert f"Stopped. Kept: 3 of 4 children of run 1. Resume: mutant resume --db {db}" in told.replace("- ", "-")
    status = done("status", "--db", db, "--json").json
    assert (status["unfinished_run"], status["next"]) == (1, "mutant resume")
    assert "not finished" in call("add", "sample:digits", "--db", db).err
    assert "no finished path" in call("lineage", "colours", "--db", db).err
    assert "No finished path" in done("show", "colours", "--db", db).out
    assert done("list", "--db", db, "--json").json[0]["path"] is None
    assert "–" in done("list", "--db", db).out
    (summary,) = done("resume", "--workers", 1, "--db", db, "--json").json
    assert summary["test_accuracy"] is not None
    assert done("status", "--db", db, "--json").json["candidates"] == {"DONE": 4}


def test_a_run_that_is_stopped_while_it_is_measured_is_measured_on_resume(
    db: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mutant.search.system.evaluate", stopped)
        called = call("add", folder, *QUICK, *ALIKE, "--db", db)
    assert called.code == 130
    assert f"Resume: mutant resume --db {db}" in called.err
    (summary,) = done("resume", "--workers", 1, "--db", db, "--json").json
    assert summary["test_accuracy"] is not None


def test_stopping_before_anything_was_written_says_so(db: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mutant.search.system.load", stopped)
    called = call("add", folder, "--db", db)
    assert (called.code, called.err.splitlines()[-1]) == (130, "Stopped before anything was written.")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_process_in_order(db: Path, folder: str, repository: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "mutant.cli.main", "add", folder, *QUICK, *ALIKE, "--children", "5000", "--db", db]
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=repository,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        guard = threading.Timer(120, process.kill)
        guard.start()
        for line in process.stderr:
            if "colours 2/5000" in line:
                process.send_signal(number)
                break
        rest, out = process.stderr.read(), process.stdout.read()
        assert process.wait() == code, rest
        guard.cancel()
    assert out == ""
    assert "Traceback" not in rest
    kept = re.search(r"Kept: ([\d,]+) of 5,000 children of run 1\. Resume: mutant resume", rest)
    assert kept is not None
    found = done("status", "--db", db, "--json").json
    assert found["candidates"]["DONE"] == int(kept[1])
    done("resume", "--workers", 1, "--budget", "0.001s", "--db", db)
    assert done("status", "--db", db, "--json").json["unfinished_run"] is None


# The quick start, shrunk


@pytest.fixture
def shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small root and small tasks in place of the quick start's; its directory."""
    pytest.importorskip("sklearn")
    colours = f"folder:{write_folder(tmp_path / 'colours')}"
    digits = "sample:digits?train=train[:150]&test=train[200:300]"
    monkeypatch.setattr(quickstart, "ROOT", "random:vit-ti16")
    monkeypatch.setattr(quickstart, "BLOCKS", 0)
    monkeypatch.setattr(quickstart, "IMAGE_SIZE", 16)
    monkeypatch.setattr(quickstart, "TASKS", (digits, colours))
    settings = {"children": 2, "generation_size": 2, "validations": 1, "examples_per_validation": 32}
    monkeypatch.setattr(quickstart, "SETTINGS", settings | {"reach": 0, "mutation_probability": 0.02})
    return tmp_path / "start"


def start(directory: Path, *options: object) -> Called:
    return call("quickstart", "--dir", directory, "--workers", 1, *options)


def test_the_quick_start_grows_proves_predicts_and_draws(shrunk: Path) -> None:
    called = start(shrunk)
    assert called.code == 0, called.err
    assert "Task digits: 10 classes" in called.err
    for words in (
        "average",
        "points of test accuracy",
        "to the bit after 1 more task",
        "The model says: ",
        "Next, with",
    ):
        assert words in called.out
    assert (shrunk / "example.png").read_bytes().startswith(b"\x89PNG")
    assert (shrunk / "model.png").read_bytes().startswith(b"\x89PNG")
    again = start(shrunk, "--json")
    assert f"rm -r {shrunk}" in again.err
    found = again.json
    assert [task["task"] for task in found["tasks"]] == ["digits", "colours"]
    gains = [task["test_accuracy"] - task["head_only_test_accuracy"] for task in found["tasks"]]
    assert found["average_gain"] == pytest.approx(sum(gains) / 2)
    assert found["verify"]["ok"] is True
    prediction = found["prediction"]
    assert (prediction["task"], len(prediction["labels"])) == ("digits", 3)
    assert prediction["truth"] in set("0123456789")


def test_an_interrupted_quick_start_goes_on(shrunk: Path, interrupted: None) -> None:
    called = start(shrunk)
    assert called.code == 130
    assert "Kept: 3 of 4 children" in called.err
    called = start(shrunk)
    assert called.code == 0, called.err
    assert "Going on where the quick start was stopped" in called.err
    assert "average" in called.out


def test_the_quick_start_never_starts_from_random_weights(
    shrunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "ROOT", "vit-ti16")
    called = start(shrunk, "--file", tmp_path / "missing.npz")
    assert (called.code, called.out) == (2, "")
    assert "missing.npz" in called.err
    assert not (shrunk / "mutant.db").exists()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (["--root", "random:vit-s16", "--image-size", 16], ["root is random:vit-s16 instead of random:vit-ti16"]),
        (["--root", "random:vit-ti16", "--image-size", 32], ["image size is 32 instead of 16"]),
        (["--root", "random:vit-ti16", "--image-size", 16, "--seed", 7], ["seed is 7 instead of 0"]),
        (["--root", "random:vit-ti16", "--image-size", 16], ["tasks are colours instead of digits, colours"]),
    ],
)
def test_the_quick_start_refuses_a_system_that_is_not_its_own(
    shrunk: Path, tmp_path: Path, made: list[object], words: list[str]
) -> None:
    shrunk.mkdir()
    db = shrunk / "mutant.db"
    done("init", *made, "--blocks", 0, "--db", db)
    if words[0].startswith("tasks"):
        done("add", f"folder:{tmp_path / 'colours'}", *QUICK, *ALIKE, "--no-baseline", "--db", db)
    before = db.read_bytes()
    called = start(shrunk)
    assert (called.code, called.out) == (2, "")
    assert [word for word in (*words, str(db), "--dir") if word not in called.err] == []
    assert db.read_bytes() == before


def test_the_quick_start_goes_on_in_an_empty_system_and_beside_later_tasks(shrunk: Path, tmp_path: Path) -> None:
    shrunk.mkdir()
    db = shrunk / "mutant.db"
    done("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16, "--db", db)
    settings = ("--children", 1, "--generation-size", 1, "--validations", 1, "--examples-per-validation", 16)
    for uri in quickstart.TASKS:
        done("add", uri, *settings, *ALIKE, "--no-baseline", "--db", db)
    own = f"folder:{write_folder(tmp_path / 'own')}"
    done("add", own, *settings, *ALIKE, "--no-baseline", "--db", db)
    called = start(shrunk, "--json")
    assert called.code == 0, called.err
    assert [task["task"] for task in called.json["tasks"]] == ["digits", "colours", "own"]


def test_a_quick_start_whose_children_all_fail_says_so_and_tries_again(
    shrunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("mutant.search.crews.InProcessEvaluator", Lost)
        called = start(shrunk, "--json")
    assert called.code == 1, called.err
    assert "Task digits: none of 2 children could be trained" in called.err
    assert called.json["prediction"] is None
    called = start(shrunk, "--json")
    assert called.code == 0, called.err
    assert called.json["prediction"]["task"] == "digits"


def test_the_quick_start_needs_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    called = start(tmp_path / "file")
    assert (called.code, called.out) == (2, "")
    assert "not a directory" in called.err


def test_the_quick_starts_own_data_is_right() -> None:
    from mutant.roots import registry
    from mutant.search.config import Settings, check
    from mutant.tasks.samples import catalogue
    from mutant.tasks.uri import parse

    assert quickstart.ROOT in registry()
    assert check(Settings(**quickstart.SETTINGS))
    samples = {info.name for info in catalogue()}
    targets = [parse(uri).target for uri in quickstart.TASKS]
    assert len(set(targets)) >= 3
    assert set(targets) <= samples


def test_a_shell_sees_the_exit_code(repository: Path, tmp_path: Path) -> None:
    assert shutil.which("sh")
    finished = subprocess.run(
        [sys.executable, "-m", "mutant.cli.main", "list", "--db", str(tmp_path / "m.db")],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("Error: There is no database")
