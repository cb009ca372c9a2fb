"""What users install: one package with every room inside, its dependencies declared, its pins exact."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

LINKED = ("cli", "search", "serving", "storage", "tasks")
PYTHONS = ("py311", "py312", "py313", "py314")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it printed; fail with its errors."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    """The [project] table."""
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def installable(repository: Path) -> set[str]:
    """Every file of the rooms, by its path inside the wheel: what the wheel lacks, an installation lacks."""
    files: set[str] = set()
    for room in ("mutant", *LINKED):
        for path in (repository / room).rglob("*"):
            if path.is_file():
                inside = path.relative_to(repository).as_posix()
                files.add(inside if room == "mutant" else f"mutant/{inside}")
    return {name for name in files if "__pycache__" not in name}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source archive as a release is."""
    copy, out = tmp_path_factory.mktemp("source") / "mutant", tmp_path_factory.mktemp("dist")
    skipped = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "quickstart", "*.db*")
    shutil.copytree(repository, copy, symlinks=True, ignore=skipped)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def requirements(project: dict[str, Any]) -> set[str]:
    """The distributions named by the dependencies and by every extra."""
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines} - {"mutant"}


def test_rooms_are_committed_as_relative_links(repository: Path) -> None:
    for room in LINKED:
        assert (repository / "mutant" / room).readlink() == Path("..") / room


def test_pyright_is_told_of_every_link(repository: Path) -> None:
    config = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    assert {f"mutant/{room}" for room in LINKED} <= set(config["include"])
    assert "mutant" in config["strict"]


def test_every_imported_package_is_declared(repository: Path, project: dict[str, Any]) -> None:
    declared = requirements(project)
    homes = metadata.packages_distributions()
    for room in ("mutant", *LINKED):
        for path in (repository / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mutant"}:
                    owners = {normal(owner) for owner in homes.get(top, [top])}
                    assert owners & declared, f"{path} imports {top}, which pyproject.toml does not declare"


def test_all_is_every_users_extra_but_the_heavy_ones(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    (line,) = extras["all"]
    named = set(line.removeprefix("mutant[").removesuffix("]").split(","))
    assert named == set(extras) - {"all", "dev", "hf"}


def test_developer_tools_are_pinned(project: dict[str, Any]) -> None:
    assert [line for line in project["optional-dependencies"]["dev"] if "==" not in line] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_are_exact_hashed_complete_and_without_torch(
    repository: Path, project: dict[str, Any], python: str
) -> None:
    text = (repository / "constraints" / f"{python}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S+?)==(\S+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    pinned = {normal(name): version for name, version, _, _ in entries}
    assert len(entries) == len(pinned) == len(re.findall(r"^[^#\s]", text, re.M))
    assert requirements(project) - {"datasets"} <= set(pinned)
    assert not {name for name in pinned if name.startswith(("torch", "nvidia", "tensorflow-cpu"))}
    dev = dict(line.partition(";")[0].strip().split("==") for line in project["optional-dependencies"]["dev"])
    assert {name: pinned[normal(name.split("[")[0])] for name in dev} == dev


def test_the_makefile_knows_the_same_pythons(repository: Path) -> None:
    assert {path.stem for path in (repository / "constraints").glob("*.txt")} == set(PYTHONS)


def test_an_unknown_python_is_told_which_are_known(repository: Path, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo py310 || echo Python 3.10.0\n', encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "-C", str(repository), "venv", f"PYTHON={python}", "VENV=" + str(tmp_path / "venv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "mutant runs on Python 3.11 3.12 3.13 3.14" in done.stderr
    assert "Python 3.10.0" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
def test_the_wheel_is_mutant_alone_with_every_room_in_it(wheel: Path, installable: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    package = {name for name in files if name.startswith("mutant/")}
    others = {name.split("/")[0] for name in set(files) - package}
    assert package == installable
    assert "mutant/py.typed" in package
    assert others == {"mutant-0.1.0.dist-info"}
    assert not [name for name, info in files.items() if (info.external_attr >> 16) & 0o170000 == 0o120000]


@pytest.mark.slow
def test_a_plain_installation_works_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, cwd=elsewhere)
    # -I -S: neither this folder nor the editable installation is seen, only the target and the dependencies.
    paths = [str(target), sysconfig.get_path("purelib")]
    code = f"import sys; sys.path += {paths!r}; import mutant.tasks.errors, mutant.search; print(mutant.tasks.__file__)"
    where = run(sys.executable, "-I", "-S", "-c", code, cwd=elsewhere)
    assert Path(where.strip()) == target / "mutant" / "tasks" / "__init__.py"
    assert (target / "bin" / "mutant").exists()


@pytest.mark.slow
def test_an_editable_installation_works_from_anywhere(repository: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", repository]
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    run(sys.executable, "-m", "pip", "install", *options, "--target", site, cwd=tmp_path)
    code = (
        "import mutant.tasks.errors, mutant.search, importlib.util as u; print(mutant.__file__, u.find_spec('search'))"
    )
    where, bare = run(python, "-c", code, cwd=tmp_path).split()
    assert Path(where) == repository / "mutant" / "__init__.py"
    assert bare == "None"
