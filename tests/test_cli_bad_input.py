"""Bad input to every command: words that say what, the nearest right thing and what to do; exit code 2."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_calls import ALIKE, QUICK, done, refused, write_folder
from disks import mounted
from PIL import Image

INIT = ("init", "--root", "random:vit-ti16", "--blocks", 0, "--image-size", 16)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with one task, `plain`. Tests only read it."""
    home = tmp_path_factory.mktemp("small")
    done(*INIT, "--db", home / "m.db")
    folder = write_folder(home / "plain")
    done("add", f"folder:{folder}", *QUICK, *ALIKE, "--no-baseline", "--db", home / "m.db")
    return home / "m.db"


def says(error: str, *words: str) -> None:
    assert [word for word in words if word not in error] == [], error


# A task that is not there


@pytest.mark.parametrize(
    "command",
    [
        ["show", "plian"],
        ["lineage", "plian"],
        ["predict", "plian", "x.png"],
        ["evaluate", "plian"],
        ["verify", "plian"],
        ["export", "plian", "out"],
        ["evolve", "plian"],
    ],
)
def test_an_unknown_task_names_the_nearest(small: Path, command: list[str]) -> None:
    says(refused(*command, "--db", small), "'plian'", "'plain'", "mutant list")


@pytest.mark.parametrize("command", [["show", "beef"], ["show", "0" * 64]])
def test_an_unknown_path(small: Path, command: list[str]) -> None:
    says(refused(*command, "--db", small), command[1], "mutant list")


def test_a_system_without_tasks(tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    done(*INIT, "--db", db)
    says(refused("evolve", "--db", db), "mutant add")
    says(refused("resume", "--db", db), "mutant status")
    says(refused("show", "plain", "--db", db), "none yet", "mutant add")
    assert "mutant add" in done("list", "--db", db).out
    assert done("list", "--db", db, "--json").json == []
    assert done("verify", "--db", db, "--json").json["ok"] is True
    assert done("evaluate", "--db", db, "--json").json == []
    assert "Next: mutant add" in done("status", "--db", db).out


# A task that cannot be added


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nothing", ["'nothing'", "folder:PATH"]),
        ("foldr:x", ["foldr:", "folder:"]),
        ("folder:", ["folder:"]),
        ("folder:{home}/missing", ["missing"]),
        ("csv:{home}/missing.csv", ["missing.csv"]),
        ("arrays:{home}/missing.npz", ["missing.npz"]),
        ("folder:{home}/empty", ["empty"]),
        ("folder:{home}/one", ["class"]),
        ("folder:{home}/text", ["a/1.png"]),
        ("folder:{home}/plain?trian=train", ["trian", "train"]),
        ("folder:{home}/plain?train=train[:0]", ["train[:0]"]),
        ("sample:digit", ["'digit'", "'digits'", "mutant tasks"]),
        ("{home}/plain", ["folder:"]),
    ],
)
def test_a_task_that_cannot_be_had_leaves_the_system_as_it_was(
    small: Path, tmp_path: Path, uri: str, words: list[str]
) -> None:
    write_folder(tmp_path / "plain")
    write_folder(tmp_path / "one", classes=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text" / "a").mkdir(parents=True)
    (tmp_path / "text" / "a" / "1.png").write_text("no picture")
    before = small.read_bytes()
    says(refused("add", uri.format(home=tmp_path), "--name", "new", "--db", small), *words)
    assert small.read_bytes() == before


def test_a_name_that_is_taken_or_shared_or_wrong(small: Path, tmp_path: Path) -> None:
    plain = f"folder:{small.parent / 'plain'}"
    other = f"folder:{write_folder(tmp_path / 'plain', classes=3)}"
    says(refused("add", plain, "--db", small), "'plain'", "mutant evolve plain", "--name")
    says(refused("add", plain, other, "--db", small), "'plain'", "--name")
    twins = [f"folder:{write_folder(tmp_path / place / 'twin')}" for place in "ab"]
    says(refused("add", *twins, "--db", small), "same name", "--name")
    says(refused("add", plain, other, "--name", "x", "--db", small), "--name")
    says(refused("add", other, "--name", "Not A Name", "--db", small), "Not A Name")


# Settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--children", "0"], ["children", "out of range"]),
        (["--batch", "-1"], ["batch"]),
        (["--mutation-probability", "1.5"], ["mutation_probability"]),
        (["--scale-factor", "0"], ["scale_factor"]),
        (["--preset", "munit"], ["'munit'", "'munet'"]),
        (["--workers", "many"], ["'many'", "auto"]),
        (["--workers", "0"], ["'0'"]),
        (["--workers", "²"], ["'²'", "auto"]),
        (["--workers", "٣"], ["'٣'", "auto"]),
        (["--workers", "1000000"], ["'1000000'", "auto"]),
        (["--budget", "٣s"], ["'٣s'", "90s"]),
        (["--mutation-probability", "0.4"], ["mutation_probability", "0.3"]),
        (["--budget", "soon"], ["'soon'", "90s"]),
        (["--patience", "40children"], ["--patience '40children'", "10m"]),
        (["--cache-memory", "much"], ["--cache-memory", "'much'", "512MiB"]),
        (["--cache-disk", "-1"], ["--cache-disk", "'-1'", "512MiB"]),
        (["--cache-disk", "9999999TiB"], ["--cache-disk", "'9999999TiB'", "512MiB"]),
        (["--cache-memory", "1GiB", "--no-cache"], ["--no-cache keeps nothing"]),
        (["--backprop", "pairwize"], ["'pairwize'", "'pairwise'", "N-wise"]),
        (["--backprop", "end_to_end"], ["'end_to_end'", "'end-to-end'"]),
        (["--backprop", "0-wise"], ["'0-wise'", "'local'"]),
        (["--groups", "0"], ["groups = 0", "1 to 1000"]),
        (["--config", "{home}/missing.toml"], ["missing.toml"]),
        (["--config", "{home}/key.toml"], ["'childern'", "'children'"]),
        (["--config", "{home}/type.toml"], ["children", "'three'"]),
        (["--config", "{home}/broken.toml"], ["broken.toml", "TOML"]),
    ],
)
@pytest.mark.parametrize("command", ["add", "evolve"])
def test_a_wrong_setting(small: Path, tmp_path: Path, command: str, options: list[str], words: list[str]) -> None:
    (tmp_path / "key.toml").write_text("childern = 3")
    (tmp_path / "type.toml").write_text("children = 'three'")
    (tmp_path / "broken.toml").write_text("children = ")
    copy = shutil.copy(small, tmp_path / "copy.db")
    what = [f"folder:{write_folder(tmp_path / 'new')}"] if command == "add" else ["plain"]
    error = refused(command, *what, *(option.format(home=tmp_path) for option in options), "--db", copy)
    says(error, *words)
    assert done("status", "--db", copy, "--json").json["unfinished_run"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--root", "vit-ti61"], ["'vit-ti61'", "'vit-ti16'", "mutant roots"]),
        (["--root", "random:vit-ti61"], ["'vit-ti16'"]),
        (["--root", "random:vit-ti16", "--blocks", "13"], ["12 blocks"]),
        (["--root", "random:vit-ti16", "--image-size", "17"], ["17", "16"]),
        (["--root", "random:vit-ti16", "--image-size", "1600000"], ["--image-size", "4096"]),
        (["--root", "random:vit-ti16", "--seed", "99999999999999999999"], ["--seed", "9223372036854775807"]),
        (["--root", "random:vit-ti16", "--seed", "-1"], ["--seed"]),
        (["--root", "random:vit-ti16", "--preset", "munit"], ["'munet'"]),
        (["--root", "vit-ti16", "--file", "{home}/missing.npz"], ["missing.npz"]),
        (["--root", "vit-ti16", "--file", "{home}/wrong.npz"], ["wrong.npz"]),
        (["--root", "vit-ti16", "--file", "{home}/wrong.npz", "--sha256", "0" * 64], ["SHA-256"]),
    ],
)
def test_a_root_that_cannot_be_had_makes_no_database(tmp_path: Path, options: list[str], words: list[str]) -> None:
    (tmp_path / "wrong.npz").write_bytes(b"no archive")
    db = tmp_path / "m.db"
    says(refused("init", *(option.format(home=tmp_path) for option in options), "--db", db), *words)
    assert not db.exists()


def test_an_unknown_kind_of_database_is_told_which_are_known() -> None:
    says(refused("list", "--db", "mysql://host/name"), "sqlite:///mutant.db", "postgresql://user@host/name")


@pytest.mark.parametrize("options", [["--workers", "²"], ["--seed", "99999999999999999999"]])
def test_odd_numbers_stop_the_quick_start_before_anything_is_made(tmp_path: Path, options: list[str]) -> None:
    says(refused("quickstart", "--dir", tmp_path / "start", *options), options[0])
    assert not (tmp_path / "start").exists()


# Images


def test_images_that_cannot_be_used_are_named(small: Path, tmp_path: Path) -> None:
    good = small.parent / "plain" / "colour0" / "0.png"
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    for name in ("text.png", "empty.png", "cut.png", "missing.png"):
        says(refused("predict", "plain", good, tmp_path / name, "--db", small), name)
    says(refused("predict", "plain", tmp_path, "--db", small), str(tmp_path))


def test_hostile_and_odd_images_are_decoded_or_refused(small: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).convert("1").save(tmp_path / "bits.png")
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    Image.new("RGBA", (1, 200)).save(tmp_path / "thin.webp")
    found = done("predict", "plain", *sorted(tmp_path.glob("*.*")), "--db", small, "--json").json
    assert len(found) == 3


# Splits, directories, files


def test_other_arguments(small: Path, tmp_path: Path) -> None:
    says(refused("evaluate", "plain", "--split", "tset", "--db", small), "'tset'", "test")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    says(refused("export", "plain", tmp_path / "full", "--db", small), "not empty")
    says(refused("export", "plain", tmp_path / "full" / "x", "--db", small), "not a directory")
    says(refused("resume", "--db", small), "nothing to resume", "mutant status")


@pytest.mark.parametrize("file", ["model.gif", "missing/model.png"])
def test_a_picture_that_cannot_be_written(small: Path, tmp_path: Path, file: str) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("mutant.search.plot")
    says(refused("plot", "--out", tmp_path / file, "--db", small), file.rpartition("/")[0] or file)


# Databases

READERS = (
    ("status",),
    ("list",),
    ("show", "plain"),
    ("lineage", "plain"),
    ("predict", "plain", "x.png"),
    ("verify",),
    ("evaluate",),
    ("export", "plain", "out"),
    ("plot",),
    ("tasks",),
    ("add", "sample:digits"),
    ("evolve",),
    ("resume",),
    ("db", "upgrade"),
    ("digest",),
)


@pytest.mark.parametrize("command", READERS, ids=lambda command: "-".join(command[:1]))
@pytest.mark.parametrize("kind", ["missing", "text", "other", "directory", "newer", "url"])
def test_a_database_that_is_not_ours(small: Path, tmp_path: Path, command: tuple[str, ...], kind: str) -> None:
    if command == ("plot",):
        pytest.importorskip("mutant.search.plot")
    db = tmp_path / "it.db"
    match kind:
        case "text":
            db.write_text("once upon a time")
        case "other":
            with sqlite3.connect(db) as connection:
                connection.execute("CREATE TABLE weights (a)")
            connection.close()
        case "directory":
            db.mkdir()
        case "newer":
            shutil.copy(small, db)
            with sqlite3.connect(db) as connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.close()
        case _:
            pass
    name = f"mysql://host/{db.name}" if kind == "url" else db
    words = {"url": "mysql", "newer": "9999"}.get(kind, "it.db")
    says(refused(*command, "--db", name), words)
    if kind == "missing":
        assert not db.exists()


def test_a_system_in_the_way_of_init(small: Path) -> None:
    before = small.read_bytes()
    says(refused(*INIT, "--db", small), "There is a system", "--db")
    says(refused("init", "--root", "random:vit-s16", "--blocks", 0, "--image-size", 16, "--db", small), "--db")
    assert small.read_bytes() == before


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    says(refused(*INIT, "--db", tmp_path / "missing" / "m.db"), "m.db")
    says(refused(*INIT, "--db", tmp_path / "file" / "m.db"), "m.db")


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("chattr") is None, reason="root may write everywhere")
def test_a_read_only_database_can_be_read_and_not_grown(small: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    db = Path(shutil.copy(small, home / "m.db"))
    folder = write_folder(tmp_path / "new")
    lock, unlock = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "a-w"], ["chmod", "u+w"])
    if subprocess.run([*lock, str(db)], capture_output=True, check=False).returncode:
        pytest.skip("no immutable files here")
    try:
        says(refused("add", f"folder:{folder}", *QUICK, *ALIKE, "--db", db), "m.db", "read-only")
        says(refused("evolve", "--db", db), "m.db", "read-only")
        says(refused("evaluate", "--db", db), "m.db", "read-only")
        assert done("list", "--db", db, "--json").json[0]["task"] == "plain"
        assert done("verify", "--db", db, "--json").json["ok"] is True
        done("show", "plain", "--db", db)
    finally:
        subprocess.run([*unlock, str(db)], check=True)


# A full disk


def test_init_on_a_full_disk_leaves_no_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", kibibytes=512) as disk:
        says(refused(*INIT, "--db", disk / "m.db"), "no space", "m.db")
        says(refused("list", "--db", disk / "m.db"), "m.db")


def test_a_disk_that_fills_up_during_a_run_loses_nothing(small: Path, tmp_path: Path) -> None:
    evolve = ("evolve", "plain", *QUICK, *ALIKE, "--children", 40)
    alone = shutil.copy(small, tmp_path / "alone.db")
    done(*evolve, "--db", alone)
    with mounted(tmp_path / "disk", kibibytes=small.stat().st_size // 1024 + 3072) as disk:
        db = Path(shutil.copy(small, disk / "m.db"))
        says(refused(*evolve, "--db", db), "no space", "m.db", "mutant resume")
        roomy = Path(shutil.copytree(disk, tmp_path / "roomy")) / "m.db"
    done("verify", "--db", roomy)
    (run,) = [run for run in done("status", "--db", roomy, "--json").json["runs"] if run["state"] == "open"]
    assert 0 < run["segments"][0]["done"] < 40
    done("resume", "--workers", 1, "--db", roomy)
    assert done("digest", "--db", roomy).out == done("digest", "--db", alone).out


def test_a_file_that_may_not_grow_is_told_without_a_traceback(tmp_path: Path) -> None:
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({2**18}, {resource.RLIM_INFINITY}))\n"
        f"from mutant.cli.main import run; sys.exit(run({[str(a) for a in INIT]!r} + ['--db', sys.argv[1]]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.db")], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    says(finished.stderr, "Error: ", "m.db")
