"""Rooms import only from the rooms below them, modules in no circle, and heavy packages in one place each."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest

ORDER = ("tasks", "mutant", "storage", "search", "serving", "cli")
APART = {("serving", "search")}
ONE_PLACE = {
    "ray": {"search/ray_start.py", "cli/replicas.py"},
    "tensorflow_datasets": {"tasks/sources/tfds.py"},
    "obstore": {"storage/blobs/objects.py"},
}
HEAVY = ("jax", "flax", "optax", "ray", "sqlalchemy", "alembic", "sklearn", "skimage", "onnx", "matplotlib", "PIL")


@dataclass(frozen=True)
class Module:
    """A source file of a room under its import name, with all that it imports, wherever in the file."""

    name: str
    file: str
    imports: tuple[str, ...]

    @property
    def room(self) -> str:
        """The room of this module."""
        return room_of(self.name)


def room_of(name: str) -> str:
    """The room that a dotted name below `mutant` belongs to: `mutant.search.x` is search, `mutant.path` is mutant."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER and parts[1] != "mutant" else "mutant"


def module_name(root: Path, path: Path) -> str:
    """The import name of a file: `search/evolve.py` is `mutant.search.evolve`."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if parts[0] == "mutant" else ["mutant", *parts])


def source_files(root: Path) -> Iterator[Path]:
    """Every Python file of the rooms, through no link, so that each appears once."""
    for room in ORDER:
        for path in sorted((root / room).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(root)):
                yield path


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names a syntax tree imports: in functions, under TYPE_CHECKING, relative, and by import_module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.args[0].value


def read_modules(root: Path) -> list[Module]:
    """Parse the rooms below `root`; names imported from a module are reduced to that module."""
    found = {module_name(root, path): path for path in source_files(root)}

    def reduced(name: str) -> str:
        parts = name.split(".")
        prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        return next((prefix for prefix in prefixes if prefix in found), name)

    modules: list[Module] = []
    for name, path in found.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # The version is the one name of the bare root that is no lazy export.
        names = set(imported_names(tree, package)) - {"mutant.__version__"}
        imports = sorted({reduced(imported) for imported in names} - {name})
        modules.append(Module(name, path.relative_to(root).as_posix(), tuple(imports)))
    return modules


def order_faults(modules: list[Module]) -> list[str]:
    """Imports of a room above, between rooms kept apart, of the bare root, or of a room by its folder's name."""
    faults: list[str] = []
    for module in modules:
        for imported in module.imports:
            top = imported.split(".")[0]
            if module.name == "mutant":
                continue
            if top in ORDER and top != "mutant":
                faults.append(f"{module.file} imports {imported}: write mutant.{imported}")
            elif imported == "mutant":
                faults.append(f"{module.file} imports from the bare mutant: name the module")
            elif top == "mutant":
                room, other = module.room, room_of(imported)
                if ORDER.index(other) > ORDER.index(room) or (room, other) in APART:
                    faults.append(f"{module.file} ({room}) imports {imported} ({other})")
    return faults


def cycle(modules: list[Module]) -> list[str]:
    """The modules of one import circle, or nothing. The root's lazy exports are no edges."""
    graph = {module.name: [name for name in module.imports if name != "mutant"] for module in modules}
    graph["mutant"] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def importers(modules: list[Module], package: str) -> set[str]:
    """The files that import a third-party package or anything in it."""
    return {module.file for module in modules if any(name.split(".")[0] == package for name in module.imports)}


@pytest.fixture(scope="module")
def ours(repository: Path) -> list[Module]:
    """The modules of this repository."""
    return read_modules(repository)


def test_every_room_has_modules(ours: list[Module]) -> None:
    assert {module.room for module in ours} == set(ORDER)


def test_rooms_import_only_from_below(ours: list[Module]) -> None:
    assert order_faults(ours) == []


def test_no_module_imports_itself_through_others(ours: list[Module]) -> None:
    assert cycle(ours) == []


@pytest.mark.parametrize("package", ONE_PLACE)
def test_a_heavy_engine_is_imported_where_it_belongs(ours: list[Module], package: str) -> None:
    assert importers(ours, package) == ONE_PLACE[package]


def test_importing_mutant_loads_nothing_heavy(repository: Path) -> None:
    code = f"import mutant, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tree(root: Path, files: dict[str, str]) -> list[Module]:
    """The modules of a small tree: empty rooms, their links, and `files`."""
    for room in ORDER:
        (root / room).mkdir()
        (root / room / "__init__.py").touch()
    for room in set(ORDER) - {"mutant"}:
        (root / "mutant" / room).symlink_to(f"../{room}")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(dedent(text), encoding="utf-8")
    return read_modules(root)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tasks/x.py", "from mutant.search.y import z"),
        ("tasks/x.py", "import mutant.path"),
        ("mutant/x.py", "def f():\n    from mutant.storage import store"),
        ("storage/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mutant.search.y"),
        ("search/x.py", "from ..cli import main"),
        ("search/deep/x.py", "from ... import serving"),
        ("serving/x.py", "from mutant.search.y import z"),
        ("serving/x.py", "from mutant import search"),
        ("cli/x.py", "from search.y import z"),
        ("search/x.py", "from mutant import evolve"),
        ("search/x.py", "import mutant"),
        ("tasks/x.py", "from importlib import import_module\nimport_module('mutant.cli.main')"),
    ],
)
def test_an_import_from_above_is_found(tmp_path: Path, file: str, text: str) -> None:
    faults = order_faults(tree(tmp_path, {file: text, "search/y.py": "z = 1"}))
    assert len(faults) == 1
    assert faults[0].startswith(file)


def test_imports_from_below_and_the_roots_lazy_exports_are_no_fault(tmp_path: Path) -> None:
    files = {
        "cli/main.py": "from mutant.search.y import z\nfrom mutant.serving import app\nimport mutant.tasks.uri",
        "search/y.py": "from mutant.path import Path\nfrom mutant.storage.store import Store\nz = 1",
        "search/x.py": "from . import y\nfrom mutant import __version__",
        "storage/store.py": "from mutant.path import Path\nStore = Path",
        "mutant/path.py": "from mutant.tasks import uri\nPath = uri",
        "mutant/__init__.py": "def __getattr__(name):\n    from mutant.search.y import z\n    return z",
        "serving/app.py": "from mutant.storage import store",
        "tasks/uri.py": "",
    }
    modules = tree(tmp_path, files)
    assert order_faults(modules) == []
    assert cycle(modules) == []
    assert {m.name: m.imports for m in modules}["mutant.search.x"] == ("mutant.search.y",)


def test_each_file_is_read_once_in_spite_of_the_links(tmp_path: Path) -> None:
    modules = tree(tmp_path, {"search/y.py": "import ray.util"})
    assert [module.name for module in modules].count("mutant.search.y") == 1
    assert len({module.file for module in modules}) == len(modules)
    assert importers(modules, "ray") == {"search/y.py"}
    assert importers(modules, "jax") == set()


def test_a_circle_is_found_even_inside_functions(tmp_path: Path) -> None:
    files = {
        "search/a.py": "from mutant.search.b import f",
        "search/b.py": "def f():\n    from mutant.search import c",
        "search/c.py": "from mutant.search import a",
    }
    assert set(cycle(tree(tmp_path, files))) == {"mutant.search.a", "mutant.search.b", "mutant.search.c"}
