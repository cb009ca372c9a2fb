"""What may change when a run is resumed, what may not, and that a changed run is as exact as any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_calls import ALIKE, QUICK, call, done, refused, write_folder
from growing import Saboteur
from sqlalchemy import text

from mutant import __version__, backend
from mutant.storage.digest import digest
from mutant.storage.store import Store

INIT = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16)
SETTINGS = (*QUICK, *ALIKE, "--children", 3, "--visits", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_folder(tmp_path_factory.mktemp('data') / 'colours')}"


@pytest.fixture
def stopped(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A system whose run was stopped at one of its six children."""

    def make(name: str, at: int) -> Path:
        db = tmp_path / name
        done(*INIT, "--db", db)
        assert interrupted(at, monkeypatch, "add", folder, *SETTINGS, "--no-baseline", "--db", db) == 130
        return db

    return make


def interrupted(at: int, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    with monkeypatch.context() as patch:
        patch.setattr("mutant.search.crews.InProcessEvaluator", lambda *_: Saboteur({at: KeyboardInterrupt()}))
        return call(*arguments).code


def meaning(db: Path) -> str:
    with Store.open(str(db), read_only=True) as store:
        return digest(store)


def events(db: Path) -> list[tuple[str, Any]]:
    with Store.open(str(db), read_only=True) as store:
        return [(event.kind, event.data) for event in store.events()]


@pytest.mark.slow
def test_other_penalties_hold_from_the_first_segment_that_has_not_begun(
    stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = ("--scale-factor", 0.5, "--compute-factor", 0.9)
    once, often, never = stopped("once.db", 2), stopped("often.db", 2), stopped("never.db", 2)
    done("resume", "--workers", 1, *change, "--db", once)
    done("resume", "--workers", 1, "--db", never)
    assert interrupted(1, monkeypatch, "resume", "--workers", 1, *change, "--db", often) == 130
    assert interrupted(3, monkeypatch, "resume", "--workers", 1, "--db", often) == 130
    done("resume", "--workers", 1, "--db", often)
    assert meaning(once) == meaning(often) != meaning(never)
    (told,) = [data for kind, data in events(once) if kind == "settings changed"]
    assert told == {
        "segment": 1,
        "scale_factor": {"from": 0.9, "to": 0.5},
        "compute_factor": {"from": 1.0, "to": 0.9},
    }
    with Store.open(str(once), read_only=True) as store:
        assert store.run(1).config["scale"]["factor"] == 0.9


def test_a_segment_keeps_its_penalties_to_its_end(stopped: Callable[..., Path]) -> None:
    db = stopped("m.db", 5)
    before = meaning(db)
    error = refused("resume", "--workers", 1, "--scale-factor", 0.5, "--db", db)
    assert "Every segment of run 1 has begun" in error
    assert meaning(db) == before
    done("resume", "--workers", 1, "--scale-factor", 0.9, "--db", db)


@pytest.mark.parametrize(
    ("option", "value", "own"),
    [
        ("--children", 9, "began with children 3"),
        ("--preset", "munet", "began with preset mutant"),
        ("--generation-size", 5, "began with generation-size 2"),
        ("--batch", 5, "began with batch"),
        ("--reach", 3, "began with reach 0"),
        ("--backprop", "local", "began with backprop end-to-end"),
        ("--groups", 2, "began with groups 4"),
    ],
)
def test_anything_else_is_refused_with_a_reason(
    stopped: Callable[..., Path], option: str, value: object, own: str
) -> None:
    db = stopped("m.db", 2)
    before = meaning(db), events(db)
    error = refused("resume", "--workers", 1, option, value, "--db", db)
    words = " ".join(error.split())
    assert f"{option} {value}: run 1 {own}" in words
    assert "On resume may change: --workers" in words
    assert (meaning(db), events(db)) == before


def test_the_runs_own_settings_may_be_repeated(stopped: Callable[..., Path]) -> None:
    db = stopped("m.db", 2)
    done("resume", *SETTINGS, "--db", db)
    assert not [kind for kind, _ in events(db) if kind == "settings changed"]


def test_who_works_it_off_is_an_event_when_it_changes(stopped: Callable[..., Path]) -> None:
    db = stopped("m.db", 2)
    done("resume", "--workers", 1, "--budget", "1h", "--db", db)
    told = [data for kind, data in events(db) if kind == "worked off by"]
    one = {"workers": 1, "ray_address": None, "budget_seconds": None, "share": None, "patience": None}
    one |= {"pipeline": False, "processor": backend.processor()}
    one |= {"versions": {"mutant": __version__, **backend.versions()}}
    assert told == [{"before": None, "now": one}, {"before": one, "now": one | {"budget_seconds": 3600.0}}]


def test_other_versions_and_another_processor_are_told_and_recorded(
    stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, versions, processor = stopped("m.db", 2), backend.versions(), backend.processor()
    assert interrupted(1, monkeypatch, "resume", "--workers", 1, "--db", db) == 130
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(backend, "versions", lambda: versions | {"jaxlib": "0.0.1"})
        elsewhere.setattr(backend, "processor", lambda: "abacus")
        told = " ".join(done("resume", "--workers", 1, "--db", db).err.split())
    said = f"jaxlib {versions['jaxlib']}, and here is 0.0.1; the processor {processor}, and here is abacus."
    assert told.count("was begun with") == 1
    assert f"Run 1 was begun with {said} Its children can end with other bits" in told
    first, last = [data["now"] for kind, data in events(db) if kind == "worked off by"]
    assert (first["processor"], last["processor"]) == (processor, "abacus")
    assert last["versions"] == first["versions"] | {"jaxlib": "0.0.1"}


def test_the_same_versions_are_not_told_nor_those_of_runs_that_did_not_record_them(
    stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = stopped("m.db", 2)
    assert "was begun with" not in done("resume", "--workers", 1, "--db", db).err
    older = stopped("older.db", 2)
    with Store.open(str(older)) as store, store.writing() as connection:
        engine = {"workers": 1, "ray_address": None, "budget_seconds": None}
        data = json.dumps({"before": None, "now": engine})
        connection.execute(text("UPDATE events SET data = :data WHERE kind = 'worked off by'"), {"data": data})
    assert "was begun with" not in done("resume", "--workers", 1, "--db", older).err
    assert [set(data["now"]) > set(engine) for kind, data in events(older) if kind == "worked off by"] == [False, True]
