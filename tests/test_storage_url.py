"""Where the database is, from what people write."""

from pathlib import Path

import pytest

from mutant.storage.url import database_file, database_url, label
from mutant.tasks.errors import UserError


def test_a_plain_path_a_url_the_variable_and_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUTANT_DB", raising=False)
    assert database_file(database_url()) == tmp_path / "mutant.db"
    monkeypatch.setenv("MUTANT_DB", "sqlite:///other.db")
    assert database_file(database_url()) == tmp_path / "other.db"
    assert database_file(database_url("here.db")) == tmp_path / "here.db"
    assert database_file(database_url(f"sqlite:///{tmp_path}/x.db")) == tmp_path / "x.db"
    assert label(database_url("here.db")) == "here.db"


def test_names_that_urls_would_misread_are_plain_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b.db", "50%.db", "what?.db", "a#b.db", "ü.db"):
        assert database_file(database_url(name)) == tmp_path / name


def test_the_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert database_file(database_url("~/x.db")) == tmp_path / "x.db"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "empty or not a name"),
        (":memory:", "memory"),
        ("sqlite://", "three slashes"),
        ("sqlite://mutant.db", "Nearest: 'sqlite:///mutant.db'"),
        ("sqlite:///", "memory"),
        ("sqlite:///x.db?mode=ro", "options"),
        ("mysql://host/x", "unknown scheme 'mysql'"),
        ("https://host/x", "unknown scheme 'https'"),
        ("postgresql://host", "names no database"),
        ("postgresql://host:port/x", "cannot be read"),
        ("/", "directory"),
        ("x" * 5000, "cannot be a file's name"),
    ],
)
def test_nonsense_is_told(text: str, part: str) -> None:
    with pytest.raises(UserError) as raised:
        database_url(text)
    assert part in str(raised.value)


def test_a_directory_names_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mutant\.db"):
        database_url(str(tmp_path))


def test_a_server_is_recognised_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url("postgres://ann:secret@db.example/mutant")
    assert url.drivername == "postgresql+psycopg"
    assert "secret" not in label(url)
    with pytest.raises(UserError, match="SQLite"):
        database_file(url)
