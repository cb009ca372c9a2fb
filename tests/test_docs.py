"""The pages under docs/ say what the program does: commands, presets, settings, roots, URIs, examples, links."""

import doctest
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import benchmark_tables
import pytest
import typer

from mutant.cli.main import EXIT_CODES, app
from mutant.cli.quickstart import TASKS
from mutant.cli.words import count
from mutant.hyperparameters import DATA_HYPERPARAMETERS, HYPERPARAMETERS, LISTS
from mutant.roots import registry
from mutant.search.bench.report import write_report
from mutant.search.config import Settings, read_settings, settings_from
from mutant.search.presets import DEFAULT, PRESETS, Preset
from mutant.storage.results import Results
from mutant.tasks.errors import UserError
from mutant.tasks.limits import DEFAULT_LIMITS
from mutant.tasks.uri import OPTIONS, parse

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def marked(text: str, name: str) -> str:
    """What stands between `<!-- table: NAME -->` and `<!-- end -->`."""
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None, f"no table '{name}'"
    return found[1].strip()


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# The command line


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be called, by its words."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield words.strip(), command
        for name, inner in (below or {}).items():
            yield from walk(f"{words} {name}", inner)

    yield from walk("", typer.main.get_command(app))


COMMANDS = dict(commands())


def section(words: str) -> str:
    found = re.search(rf"^## mutant {words}\n(.*?)(?=^## |\Z)", page("cli.md"), re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/cli.md has no section '## mutant {words}'"
    return found[1]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_its_section_and_help(words: str) -> None:
    assert section(words).strip()
    assert f"(#mutant-{words.replace(' ', '-')})" in page("cli.md")
    assert COMMANDS[words].help
    for parameter in COMMANDS[words].params:
        metavar = getattr(parameter, "metavar", None)
        assert getattr(parameter, "help", None) or metavar in {"TASK", "IMAGE..."}, f"{words}: {parameter.name}"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_is_in_the_commands_section_or_a_shared_one(words: str) -> None:
    shared = page("cli.md").split("## mutant ")[0]
    for parameter in COMMANDS[words].params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert re.search(rf"{option}\b", section(words) + shared), f"mutant {words} {option}"


def test_no_section_is_about_a_command_that_is_not_there() -> None:
    assert set(re.findall(r"^## mutant (.*)$", page("cli.md"), re.MULTILINE)) == set(COMMANDS)


def test_the_readme_lists_every_command() -> None:
    (listed,) = re.findall(r"^## Commands\n+(.*?): see ", (DOCS.parent / "README.md").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"`(?:mutant )?([^`]+)`", listed)) == set(COMMANDS)


def test_all_commands_but_those_that_are_named_have_json() -> None:
    without = {w for w, c in COMMANDS.items() if not any("--json" in p.opts for p in c.params)}
    (named,) = re.findall(r"`--json`: [^`]*\(all\s+but (.*?)\)", page("cli.md"), re.DOTALL)
    assert set(re.findall(r"`([a-z ]+)`", named)) == without
    (named,) = re.findall(r"All but (.*?) have `--json`", (DOCS.parent / "README.md").read_text(encoding="utf-8"))
    assert set(re.findall(r"`([a-z ]+)`", named)) == without


def test_every_exit_code_is_told() -> None:
    for code in re.findall(r"\b(\d+) \w", EXIT_CODES):
        assert re.search(rf"^\| [\d, ]*\b{code}\b", page("cli.md"), re.MULTILINE), code
        assert re.search(rf"Exit codes: [^\n]*\b{code}\b", (DOCS.parent / "README.md").read_text(encoding="utf-8")), (
            code
        )


def test_the_quick_starts_tasks_are_counted() -> None:
    words = {3: "three", 4: "four", 5: "five"}[len(TASKS)]
    assert f"{words} real tasks" in section("quickstart")
    assert f"{words} real tasks" in " ".join(COMMANDS["quickstart"].help.split())


# Settings


def value(preset: Preset, key: str) -> str:
    match key:
        case "first_children":
            return preset.first_children
        case "clones":
            return preset.rules.clones
        case "mutation_probability":
            return f"{preset.rules.start} ({preset.rules.probability})"
        case "reach":
            return "all" if preset.rules.reach is None else str(preset.rules.reach)
        case "validations" | "examples_per_validation" | "batch" | "augmented_views":
            return f"{getattr(preset.training, key):,}"
        case "head_start" | "averaging":
            return getattr(preset.training, key)
        case "halving":
            return str(preset.halving) if preset.halving else "0 (off)"
        case "deep_every":
            return str(preset.deep_every) if preset.deep_every else "0 (off)"
        case "always cloned":
            return ", ".join(("head", *preset.rules.always_cloned))
        case "augmentation and image size":
            return "evolve" if preset.rules.data_hyperparameters else "fixed"
        case "momentum inherited":
            return "yes" if preset.rules.inherit_trace else "no"
        case _:
            return f"{getattr(preset, key):,}"


PRESET_KEYS = (
    "children", "generation_size", "visits", "examples_per_validation", "validations", "batch",
    "augmented_views", "scale_factor", "compute_factor", "mutation_probability", "reach", "first_children", "clones",
    "head_start", "averaging", "halving", "deep_every", "deep_blocks",
    "always cloned", "augmentation and image size", "momentum inherited",
)  # fmt: skip


def test_the_presets_table_is_what_the_presets_are() -> None:
    rows = [
        [f"`{key}`" if key.isidentifier() else key, *(value(p, key) for p in PRESETS.values())] for key in PRESET_KEYS
    ]
    assert marked(page("settings.md"), "presets") == table(["", *(f"`{name}`" for name in PRESETS)], rows)


def test_every_setting_has_its_row_and_range() -> None:
    rows = marked(page("settings.md"), "keys").splitlines()[2:]
    assert [re.match(r"\| `(\w+)`", row)[1] for row in rows] == [f.name for f in fields(Settings)]  # type: ignore[index]
    for row in rows:
        key, least, most = re.match(r"\| `(\w+)` \| (?:(\S+) to (\S+))?", row).groups()  # type: ignore[union-attr]
        for end, beyond in ((least, -1), (most, 1)) if least else ():
            bound = float(end) if {".", "e"} & set(end) else int(end.replace(",", ""))
            settings_from({key: bound}, where="a test")
            with pytest.raises(UserError):
                settings_from({key: bound + beyond}, where="a test")


def test_the_range_of_probabilities_that_evolve_is_told() -> None:
    (row,) = re.findall(r"^\| `mutation_probability` \| [\d.]+ to .*$", page("settings.md"), re.MULTILINE)
    for preset in PRESETS.values():
        if preset.rules.probability == "constant":
            assert f"`{preset.name}` keeps it constant" in row
        else:
            assert f"`{preset.name}` {preset.rules.probabilities[0]:g} to {preset.rules.probabilities[-1]:g}" in row


def test_every_hyperparameter_and_its_list_is_there() -> None:
    assert [name for name in HYPERPARAMETERS if f"`{name}`" not in page("settings.md") + page("tasks.md")] == []
    for name in DATA_HYPERPARAMETERS:
        if name in LISTS and name != "flip":
            values = " ".join(f"{value:g}".replace("0.", ".") for value in LISTS[name] if isinstance(value, float))
            assert re.search(rf"^\| .*`{name}`.* \| {re.escape(values)} \|", page("tasks.md"), re.MULTILINE), name


def test_the_settings_file_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", page("settings.md"), re.DOTALL)
    file = tmp_path / "run.toml"
    file.write_text(example, encoding="utf-8")
    assert read_settings(file).preset == DEFAULT
    assert len(read_settings(file).given()) == example.count(" = ")


# Roots and tasks


def test_the_roots_table_is_what_the_registry_is() -> None:
    rows = [
        [f"`{r.name}`", f"{r.parameters:,}", str(r.blocks), str(r.image_size), r.licence, r.description]
        for r in registry().values()
    ]
    header = ["root", "parameters", "blocks", "pixels", "licence", "what it is"]
    assert marked(page("roots.md"), "roots") == table(header, rows)


def test_every_kind_of_uri_and_its_options_are_there() -> None:
    text = page("tasks.md")
    for scheme, options in OPTIONS.items():
        (row, *_) = re.findall(rf"^\| `{scheme}:.*$", text, re.MULTILINE)
        rows = " ".join(re.findall(rf"^\| `{scheme}:.*$", text, re.MULTILINE))
        assert row
        assert [option for option in options if f"`{option}`" not in rows] == []


def test_every_example_uri_can_be_parsed() -> None:
    (examples,) = re.findall(r"```\n(folder:.*?)```", page("tasks.md"), re.DOTALL)
    assert [str(parse(line)) for line in examples.splitlines()] == examples.splitlines()


def test_the_limits_are_the_defaults() -> None:
    limits, text = DEFAULT_LIMITS, page("tasks.md")
    for row in (
        f"| {limits.max_pixels:,} |",
        f"| {limits.max_bytes // 2**20} MiB |",
        f"| {limits.max_array_bytes // 2**30} GiB |",
        f"| {limits.max_examples:,} |",
        f"| {limits.max_skipped:.0%} (",
        f"| {limits.decoded_budget // 2**20} MiB |",
    ):
        assert row in text, row


# All pages


@pytest.mark.slow
def test_the_examples_in_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(DOCS / "python.md"), module_relative=False)
    assert results.failed == 0
    assert results.attempted > 30


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = path.parent / file if file else path
        assert linked.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_every_file_that_is_named_is_there(path: Path, repository: Path) -> None:
    named = re.findall(r"`((?:tests|mutant|search|storage|tasks|cli|notebooks|docs)/[\w./]*)`", path.read_text("utf-8"))
    assert [name for name in named if not (repository / name).exists()] == []


def test_counts_of_parameters_in_examples_are_the_roots() -> None:
    assert f"{count(registry()['efficientnet-lite0'].parameters)} parameters" in page("cli.md")


@pytest.mark.parametrize("results", benchmark_tables.kept(), ids=lambda file: file.parent.name)
def test_the_tables_of_benchmarks_are_those_of_the_results(results: Path) -> None:
    assert benchmark_tables.begin_of(results) in page("benchmarks.md")
    assert benchmark_tables.written(page("benchmarks.md"), results) == page("benchmarks.md")


@pytest.mark.parametrize("results", benchmark_tables.kept(), ids=lambda file: file.parent.name)
def test_the_reports_that_are_kept_are_those_of_the_results_beside_them(results: Path, tmp_path: Path) -> None:
    opened = Results.open(Path(shutil.copy(results, tmp_path)))
    try:
        written, *_ = write_report(opened.cells(), opened.settings(), tmp_path)
    finally:
        opened.close()
    assert written.read_text(encoding="utf-8") == (results.parent / "report.md").read_text(encoding="utf-8")
