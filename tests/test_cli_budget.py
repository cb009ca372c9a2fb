"""Budgets and early stopping on the command line: given, changed on resume, told and shown."""

from pathlib import Path
from typing import Any

import pytest
from cli_calls import ALIKE, QUICK, call, done, refused, write_folder
from growing import Saboteur
from storage_samples import new_store, planned, sample_root, trained

from mutant.cli.watching import Lines
from mutant.search.progress import ChildFinished
from mutant.storage.store import Store

INIT = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16)
SETTINGS = (*QUICK, *ALIKE, "--children", 6, "--no-baseline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_folder(tmp_path_factory.mktemp('data') / 'colours')}"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    done(*INIT, "--db", tmp_path / "m.db")
    return tmp_path / "m.db"


def run_of(db: Path) -> dict[str, Any]:
    return done("status", "--db", db, "--json").json["runs"][-1]


def test_a_runs_budget_is_kept_told_and_shown(db: Path, folder: str) -> None:
    called = done("add", folder, *SETTINGS, "--budget", "3children", "--db", db)
    assert "colours: the budget of 3 children ends it: 3 children spent" in called.err
    run = run_of(db)
    assert run["budget"] == {"text": "3children", "unit": "children", "amount": 3.0, "spent": 3.0}
    (segment,) = run["segments"]
    assert (segment["done"], segment["children"], segment["state"]) == (3, 6, "finished")
    assert segment["predicted_flops"] == pytest.approx(segment["flops"])
    assert segment["predicted_seconds"] > 0
    assert "Run 1: 3 children of a budget of 3 children" in done("status", "--db", db).out
    cost = done("show", "colours", "--db", db, "--json").json["path"]["cost"]
    assert cost["predicted_flops"] == cost["flops"] > 0
    assert len(cost["validations"]) == 1
    assert "; predicted " in done("show", "colours", "--db", db).out
    root = done("list", "--db", db, "--json").json
    assert root[0]["seconds"] == pytest.approx(segment["seconds"], abs=1e-3)


def test_the_budget_may_change_on_resume(db: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mutant.search.crews.InProcessEvaluator", lambda *_: Saboteur({2: KeyboardInterrupt()}))
        assert call("add", folder, *SETTINGS, "--budget", "3children", "--db", db).code == 130
    assert run_of(db)["budget"]["spent"] == 1
    assert "90s" in refused("resume", "--budget", "soon", "--db", db)
    done("resume", "--workers", 1, "--budget", "5children", "--halving", 0, "--db", db)
    assert run_of(db)["budget"] == {"text": "5children", "unit": "children", "amount": 5.0, "spent": 5.0}
    with Store.open(str(db), read_only=True) as store:
        told = [event.data for event in store.events() if event.kind == "settings changed"]
        assert told == [{"budget": {"from": "3children", "to": "5children"}}]


def test_halving_may_not_change_on_resume(db: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mutant.search.crews.InProcessEvaluator", lambda *_: Saboteur({2: KeyboardInterrupt()}))
        assert call("add", folder, *SETTINGS, "--db", db).code == 130
    assert "began with halving 0" in " ".join(refused("resume", "--halving", 2, "--db", db).split())


def test_a_child_that_was_stopped_early_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned("a", sample_root()[0], 0)
    with new_store(tmp_path, "a") as store:
        lines = Lines(store, fresh=False)
        for validations in (4, 2):
            lines.heard(ChildFinished("a", 0, 0, trained(plan, store.root()), validations))
    stopped, whole = capsys.readouterr().err.splitlines()
    assert stopped.endswith("; stopped after 2 of 4 validations")
    assert "stopped" not in whole
