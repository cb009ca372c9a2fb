"""The house's own rules: what no committed text may hold, and how large a file may grow."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("tasks", "mutant", "storage", "search", "serving", "cli")
LONGEST = 400
DUMPING_GROUNDS = {"common_utils", "helper", "helpers", "misc", "util", "utils"}

# Written in halves, since this file is committed too.
HOSTS = ("pypi" + ".org", "files.python" + "hosted.org", "registry.npm" + "js.org", "deb.deb" + "ian.org")
OPTIONS = ("index" + "-url", "find" + "-links", "trusted" + "-host")
MACHINE = ("/ro" + "ot/", "/wo" + "rk/", "/tm" + "p/x")


def committed_texts(root: Path) -> Iterator[tuple[str, str]]:
    """Every text file that git holds or would add, by its path."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git working tree")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = root / name
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                yield name, content.decode("utf-8", errors="replace")


def faults(name: str, text: str) -> list[str]:
    """The words in a text that name a package host, an index or this machine."""
    words = [word for word in (*HOSTS, *MACHINE) if word in text]
    # constraints/update and this rule's own option names: only an option given a value names an index.
    words += [option for option in OPTIONS if re.search(rf"(?<!no-emit-){option}[ =]+\S", text)]
    return [f"{name}: {word}" for word in words]


def test_no_committed_text_names_a_package_host_or_this_machine(repository: Path) -> None:
    assert [fault for name, text in committed_texts(repository) for fault in faults(name, text)] == []


@pytest.mark.parametrize("word", [*HOSTS, *MACHINE, *(f"--{option} x" for option in OPTIONS)])
def test_the_rule_finds_each_word(word: str) -> None:
    assert faults("x.txt", f"pip install {word} y") != []


def test_files_are_short_and_have_a_subject(repository: Path) -> None:
    files = [path for room in ROOMS for path in (repository / room).rglob("*.py")]
    long = {path.name: lines for path in files if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST}
    assert long == {}
    assert [path.name for path in files if path.stem in DUMPING_GROUNDS] == []


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "mutant"])
def test_lint_forbids_a_rooms_bare_name(repository: Path, tmp_path: Path, room: str) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("needs ruff beside the interpreter")
    file = tmp_path / "example.py"
    file.write_text(f"import {room}.x\nfrom {room} import y\nimport mutant.{room}.x\n", encoding="utf-8")
    command = [ruff, "check", "--config", str(repository / "pyproject.toml"), "--select", "TID", "--no-cache"]
    done = subprocess.run(
        [*command, "--output-format", "concise", str(file)], capture_output=True, text=True, check=False
    )
    assert re.findall(r"example\.py:(\d+):\d+: TID251", done.stdout) == ["1", "2"]
