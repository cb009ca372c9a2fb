"""Every command on a system that really grew: tables for people, stable JSON for scripts, files that load back."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from cli_calls import ALIKE, QUICK, call, done, refused, write_folder
from postgres_server import Server

from mutant.storage.store import Store


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a system with two tasks, `plain` and `digits`. Tests only read it."""
    home = tmp_path_factory.mktemp("grown")
    db = home / "m.db"
    init = done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--seed", 3, "--db", db)
    assert "random:vit-ti16, 1 block," in init.out
    folder = write_folder(home / "plain")
    added = done("--db", db, "add", f"folder:{folder}", *QUICK, *ALIKE)
    assert "plain" in added.out
    digits = "sample:digits?train=train[:150]&validation=train[150:200]&test=train[200:300]"
    summaries = done("add", digits, "--db", db, "--no-baseline", *QUICK, *ALIKE, "--json").json
    assert [summary["task"] for summary in summaries] == ["digits"]
    assert summaries[0]["head_only_test_accuracy"] is None
    assert 0 <= summaries[0]["test_accuracy"] <= 1
    return db


@pytest.fixture
def copied(grown: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copy(grown, tmp_path / "copy.db"))


def test_adding_tells_what_was_resolved_and_what_became_of_each_child(copied: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Other Colours", classes=3)
    called = done("add", f"folder:{folder}", "--name", "three", "--db", copied, "--no-baseline", *QUICK, *ALIKE)
    for words in (
        "Task three: 3 classes from folder:",
        "  classes    colour0, colour1, colour2\n",
        "train",
        "held out of",
        "licence: unknown",
        "1 worker: in this process",
    ):
        assert words in called.err
    lines = [line for line in called.err.splitlines() if line.startswith("  three ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all("%" in line and " s " in line and "clone norm" in line for line in lines)
    assert "best of 2 children" in called.err
    assert "evolved" in called.out
    assert done("list", "--db", copied, "--json").json[-1]["task"] == "three"


def test_settings_come_from_file_and_options(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        "children = 5\nreach = 0\nmutation_probability = 0.02\nvalidations = 1\nexamples_per_validation = 16\n"
    )
    called = done("evolve", "plain", "--config", file, "--children", 1, "--visits", 2, "--workers", 1, "--db", copied)
    assert called.err.count("1/1") == 2
    run = done("status", "--db", copied, "--json").json["runs"][-1]
    assert [(s["task"], s["done"], s["children"], s["visit"]) for s in run["segments"]] == [
        ("plain", 1, 1, 1),
        ("plain", 1, 1, 2),
    ]


def test_a_spent_budget_ends_a_segment_after_a_generation(copied: Path) -> None:
    settings = ("--children", 3, "--generation-size", 1, "--validations", 1, "--examples-per-validation", 16)
    done("evolve", "plain", *settings, *ALIKE, "--budget", "0.001s", "--db", copied)
    (segment,) = done("status", "--db", copied, "--json").json["runs"][-1]["segments"]
    assert (segment["done"], segment["children"], segment["state"]) == (1, 3, "finished")


def test_init_can_speak_json_and_its_settings_are_the_systems_defaults(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    init = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16, "--db", db)
    made = done(*init, "--children", 1, "--generation-size", 1, "--seed", 7, "--json").json
    assert (made["root"], made["blocks"], made["image_size"], made["seed"]) == ("random:vit-ti16", 0, 16, 7)
    assert made["settings"] == {"children": 1, "generation_size": 1}
    assert "There is a system in" in refused(*init)
    folder = write_folder(tmp_path / "f")
    called = done("add", f"folder:{folder}", "--no-baseline", *ALIKE, "--validations", 1, "--db", db)
    assert "f 1/1" in called.err


def test_the_seed_may_stand_in_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("seed = 5\n")
    init = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16, "--json")
    made = done(*init, "--config", tmp_path / "s.toml", "--db", tmp_path / "a.db").json
    assert (made["seed"], made["settings"]) == (5, {})
    made = done(*init, "--config", tmp_path / "s.toml", "--seed", 6, "--db", tmp_path / "b.db").json
    assert made["seed"] == 6


def test_status(grown: Path) -> None:
    status = done("status", "--db", grown, "--json").json
    keys = ["at_work", "candidates", "failures", "next", "runs", "system", "tasks", "unfinished_run"]
    assert sorted(status) == keys
    assert status["at_work"] is None
    assert status["candidates"] == {"DONE": 4}
    assert status["tasks"] == ["plain", "digits"]
    assert status["unfinished_run"] is None
    assert status["system"]["root"] == "random:vit-ti16"
    assert [run["state"] for run in status["runs"]] == ["finished", "finished"]
    shown = done("status", "--db", grown).out
    assert "2: plain, digits" in shown
    assert "4 done" in shown
    assert shown.endswith("Next: mutant list\n")


def test_list(grown: Path) -> None:
    tasks = done("list", "--db", grown, "--json").json
    assert [(task["task"], task["classes"], task["depth"]) for task in tasks] == [("plain", 2, 1), ("digits", 10, 1)]
    for task in tasks:
        assert 0 <= task["test_accuracy"] <= 1
        assert 0.99 < task["shared"] < 1
        assert task["accounted_parameters"] < 0.6 * task["n_parameters"]
        assert (task["trained_blocks"], task["trained_adapters"]) == (0, 0)
    shown = done("list", "--db", grown).out
    assert tasks[0]["path"][:10] in shown
    assert tasks[0]["path"] not in shown


def test_tasks_lists_those_in_the_system(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTANT_DB", str(grown))
    (_, digits) = done("tasks", "--json").json["tasks"]
    assert digits["examples"] == {"train": 150, "validation": 50, "test": 100}
    assert "train=train[:150]" in done("tasks").out


def test_show_a_task(grown: Path) -> None:
    found = done("show", "digits", "--db", grown, "--json").json
    assert [split["origin"] for split in found["task"]["splits"]] == ["train[:150]", "train[150:200]", "train[200:300]"]
    path = found["path"]
    parts = {part["slot"]: part for part in path["parts"]}
    assert parts["block_00"]["task"] is None
    assert parts["block_00"]["used_by"] == ["digits", "plain"]
    assert (parts["head"]["task"], parts["head"]["used_by"]) == ("digits", ["digits"])
    score = path["score"]
    product = score["quality"] * score["size_factor"] * score["compute_factor"]
    assert score["score"] == pytest.approx(product)
    assert 0.9 < score["size_factor"] < 1
    shown = done("show", "digits", "--db", grown).out
    for words in ("train[150:200]", "vit/block", "the root", "learning rate", "quality", path["path"]):
        assert words in shown


def test_show_a_path_by_the_beginning_of_its_id(grown: Path) -> None:
    path = done("list", "--db", grown, "--json").json[0]["path"]
    found = done("show", path[:9], "--db", grown, "--json").json
    assert (found["task"], found["path"]["path"]) == (None, path)
    root = found["path"]["parent"]
    shown = done("show", root, "--db", grown).out
    assert "none: the root" in shown
    assert "score" not in shown


def test_lineage(grown: Path) -> None:
    found = done("lineage", "plain", "--db", grown, "--json").json
    assert found["ancestors"][0]["task"] == "plain"
    assert found["ancestors"][-1]["task"] is None
    assert found["ancestors"][0]["trained"] == ["norm", "head"]
    shown = done("lineage", "plain", "--db", grown).out
    assert "clone norm" in shown
    assert "block_00" in shown


def test_predict(grown: Path) -> None:
    images = [grown.parent / "plain" / "colour0" / "0.png", grown.parent / "plain" / "colour1" / "3.png"]
    found = done("predict", "plain", *images, "--db", grown, "--json").json
    assert [row["image"] for row in found] == [str(image) for image in images]
    for row in found:
        assert sum(label["probability"] for label in row["labels"]) == pytest.approx(1, abs=1e-5)
        assert {label["name"] for label in row["labels"]} == {"colour0", "colour1"}
    shown = done("predict", "plain", images[0], "--top-k", 1, "--db", grown).out
    assert found[0]["labels"][0]["name"] in shown
    assert found[0]["labels"][1]["name"] not in shown.replace(str(images[0]), "")


def test_evaluate(copied: Path) -> None:
    (test,) = done("evaluate", "digits", "--db", copied, "--json").json
    listed = {task["task"]: task for task in done("list", "--db", copied, "--json").json}
    assert (test["split"], test["examples"], test["accuracy"]) == ("test", 100, listed["digits"]["test_accuracy"])
    (validation,) = done("evaluate", "digits", "--split", "validation", "--db", copied, "--json").json
    assert validation["accuracy"] == pytest.approx(listed["digits"]["validation_accuracy"])
    assert len(done("evaluate", "--db", copied).out.splitlines()) == 4


def test_verify_says_that_nothing_changed(grown: Path) -> None:
    report = done("verify", "--db", grown, "--json").json
    assert report["ok"] is True
    assert [(task["task"], task["verdict"]) for task in report["tasks"]] == [
        ("plain", "identical"),
        ("digits", "identical"),
    ]
    shown = done("verify", "plain", "--db", grown).out
    assert "to the bit" in shown
    assert "digits" not in shown


def test_verify_finds_a_changed_weight_and_exits_with_1(copied: Path) -> None:
    with sqlite3.connect(copied) as connection:
        triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(weights)")]
        assert "data" in columns
        head = max(
            done("show", "plain", "--db", copied, "--json").json["path"]["parts"], key=lambda p: p["slot"] == "head"
        )
        (data,) = connection.execute("SELECT data FROM weights WHERE digest = ?", (head["component"],)).fetchone()
        changed = bytearray(data)
        changed[-2] ^= 0x40
        connection.execute("UPDATE weights SET data = ? WHERE digest = ?", (bytes(changed), head["component"]))
    connection.close()
    called = call("verify", "--db", copied, "--json")
    assert called.code == 1
    verdicts = {task["task"]: task["verdict"] for task in called.json["tasks"]}
    assert verdicts == {"plain": "different", "digits": "identical"}
    shown = call("verify", "--db", copied)
    assert shown.code == 1
    assert "head" in shown.out
    assert head["component"][:10] in shown.out


def flip(db: Path, digest: str) -> None:
    """Change a bit of a stored component behind the store's back."""
    with sqlite3.connect(db) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        (data,) = connection.execute("SELECT data FROM weights WHERE digest = ?", (digest,)).fetchone()
        changed = bytearray(data)
        changed[-2] ^= 0x40
        connection.execute("UPDATE weights SET data = ? WHERE digest = ?", (bytes(changed), digest))
    connection.close()


def test_verify_everything_also_hashes_the_paths_that_lost(copied: Path) -> None:
    with Store.open(str(copied), read_only=True) as store:
        used = {part.digest for name in ("plain", "digits") for part in store.best(name).parts}  # type: ignore[union-attr]
        used |= {part.digest for part in store.root().parts}
        lost = {part.digest for task in ("plain", "digits") for path in store.paths(task=task) for part in path.parts}
    losers = sorted(lost - used)
    assert losers
    flip(copied, losers[0])
    narrow = done("verify", "--db", copied, "--json").json
    called = call("verify", "--everything", "--db", copied, "--json")
    assert called.code == 1
    assert [found["digest"] for found in called.json["damaged"]] == [losers[0]]
    assert called.json["components_checked"] == narrow["components_checked"] + len(losers)
    assert "restore it from a copy" in call("verify", "--everything", "--db", copied).out


def test_outputs_that_differ_with_intact_weights_are_the_back_ends_doing(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mutant.search import system

    true = system._logits
    monkeypatch.setattr(system, "_logits", lambda *given: true(*given) + np.float32(1))
    called = call("verify", "--db", grown)
    assert called.code == 1
    assert "the weights are intact: the back end computes differently here" in called.out
    assert "restore" not in called.out


def test_export_loads_back(grown: Path, tmp_path: Path) -> None:
    done("export", "plain", tmp_path / "out", "--db", grown)
    from mutant.storage.export import load_export

    assert load_export(tmp_path / "out").task.name == "plain"
    files = done("export", "plain", tmp_path / "again", "--db", grown, "--json").json["files"]
    assert files == ["README.md", "config.json", "model.safetensors", "system.db"]


def test_exports_predict_the_same_bytes_when_the_original_is_gone(grown: Path, tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    db = shutil.copy(grown, tmp_path / "original" / "m.db")
    images = sorted(shutil.copytree(grown.parent / "plain", tmp_path / "images").glob("*/*.png"))
    predict = ("predict", "plain", *images, "--top-k", 2, "--json")
    before = done(*predict, "--db", db).out
    done("export", "plain", tmp_path / "task", "--db", db)
    done("export", "--system", tmp_path / "whole", "--db", db)
    shutil.rmtree(tmp_path / "original")
    for name in ("task", "whole"):
        (tmp_path / name).rename(tmp_path / f"moved {name}")
        copy = tmp_path / f"moved {name}" / "system.db"
        assert done(*predict, "--db", copy).out == before
        assert done("verify", "--everything", "--db", copy, "--json").json["ok"] is True
    assert [task["task"] for task in done("list", "--db", copy, "--json").json] == ["plain", "digits"]


def test_upgrading_an_up_to_date_database_changes_nothing(copied: Path) -> None:
    found = done("db", "upgrade", "--db", copied, "--json").json
    assert found["changed"] is False
    assert "up to date" in done("db", "upgrade", "--db", copied).out


@pytest.mark.parametrize("where", ["before", "after", "variable", "default"])
def test_the_database_can_be_named_four_ways(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.delenv("MUTANT_DB", raising=False)
    match where:
        case "before":
            called = done("--db", grown, "list", "--json")
        case "after":
            called = done("--db", "nothing.db", "list", "--json", "--db", grown)
        case "variable":
            monkeypatch.setenv("MUTANT_DB", str(grown))
            called = done("list", "--json")
        case _:
            monkeypatch.chdir(tmp_path)
            shutil.copy(grown, "mutant.db")
            called = done("list", "--json")
    assert len(called.json) == 2


@pytest.mark.parametrize("kind", ["model", "quality"])
def test_plot(grown: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("mutant.search.plot")
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"{kind}{suffix}"
        assert str(file) in done("plot", "--kind", kind, "--out", file, "--db", grown).out
        assert file.read_bytes().startswith(start)


def test_the_digest_changes_with_the_meaning_and_not_with_looking(copied: Path, grown: Path) -> None:
    before = done("digest", "--db", grown).out.strip()
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")
    report = done("digest", "--db", copied, "--json").json
    assert report == {"database": str(copied), "digest": before}
    done("verify", "--db", copied)
    assert done("digest", "--db", copied).out.strip() == before
    done("evaluate", "plain", "--split", "validation", "--db", copied)
    assert done("digest", "--db", copied).out.strip() != before


def test_a_system_on_a_server(postgres: Server, tmp_path: Path) -> None:
    """The same commands give the same system in a file and on a server."""
    folder = write_folder(tmp_path / "plain")
    digests: set[str] = set()
    for db in (str(tmp_path / "m.db"), postgres.new_database()):
        done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--seed", 3, "--db", db)
        done("add", f"folder:{folder}", "--db", db, "--no-baseline", *QUICK, *ALIKE)
        assert "plain" in done("list", "--db", db).out
        assert done("verify", "--db", db, "--json").json["ok"] is True
        digests.add(done("digest", "--db", db).out.strip())
    assert len(digests) == 1


def test_an_upgrade_on_a_server_changes_nothing_that_is_new(postgres: Server) -> None:
    db = postgres.new_database()
    assert "empty" in refused("db", "upgrade", "--db", db)
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    assert "up to date" in done("db", "upgrade", "--db", db).out
