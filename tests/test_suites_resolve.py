"""Every TFDS task of every suite is one that the TFDS catalogue has: data set, configuration, features and splits."""

import inspect
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from cli_calls import call, done, refused
from task_sets import class_files, write_folder

from mutant.roots import find
from mutant.search.presets import PRESETS
from mutant.search.suites.suite import Suite, read_suite, suites
from mutant.tasks.checking import check
from mutant.tasks.errors import UserError
from mutant.tasks.slicing import SYNONYMS, named_splits, select
from mutant.tasks.task import SPLIT_NAMES
from mutant.tasks.uri import parse

SPLITS: dict[str, dict[str, int]] = {
    "caltech101": {"train": 3_060, "test": 6_084},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "clevr": {"train": 70_000, "validation": 15_000, "test": 15_000},
    "cmaterdb/bangla": {"train": 5_000, "test": 1_000},
    "cmaterdb/devanagari": {"train": 2_500, "test": 500},
    "cmaterdb/telugu": {"train": 2_500, "test": 500},
    "diabetic_retinopathy_detection/btgraham-300": {
        "sample": 10, "train": 35_126, "validation": 10_906, "test": 42_670
    },
    "dmlab": {"train": 65_550, "validation": 22_628, "test": 22_735},
    "dsprites": {"train": 737_280},
    "dtd": {"train": 1_880, "validation": 1_880, "test": 1_880},
    "emnist/digits": {"train": 240_000, "test": 40_000},
    "emnist/letters": {"train": 88_800, "test": 14_800},
    "eurosat/rgb": {"train": 27_000},
    "imagenet2012": {"train": 1_281_167, "validation": 50_000, "test": 100_000},
    "kitti": {"train": 6_347, "validation": 423, "test": 711},
    "kmnist": {"train": 60_000, "test": 10_000},
    "mnist": {"train": 60_000, "test": 10_000},
    "omniglot": {"train": 19_280, "test": 13_180, "small1": 2_720, "small2": 3_120},
    "oxford_flowers102": {"train": 1_020, "validation": 1_020, "test": 6_149},
    "oxford_iiit_pet": {"train": 3_680, "test": 3_669},
    "patch_camelyon": {"train": 262_144, "validation": 32_768, "test": 32_768},
    "resisc45": {"train": 31_500},
    "smallnorb": {"train": 24_300, "test": 24_300},
    "sun397/tfds": {"train": 76_128, "validation": 10_875, "test": 21_750},
    "svhn_cropped": {"train": 73_257, "test": 26_032, "extra": 531_131},
    "visual_domain_decathlon/aircraft": {"train": 3_334, "validation": 3_333, "test": 3_333},
    "visual_domain_decathlon/cifar100": {"train": 40_000, "validation": 10_000, "test": 10_000},
    "visual_domain_decathlon/daimlerpedcls": {"train": 23_520, "validation": 5_880, "test": 19_600},
    "visual_domain_decathlon/dtd": {"train": 1_880, "validation": 1_880, "test": 1_880},
    "visual_domain_decathlon/gtsrb": {"train": 31_367, "validation": 7_842, "test": 12_630},
    "visual_domain_decathlon/imagenet12": {"train": 1_232_167, "validation": 49_000, "test": 48_238},
    "visual_domain_decathlon/omniglot": {"train": 17_853, "validation": 6_492, "test": 8_115},
    "visual_domain_decathlon/svhn": {"train": 47_217, "validation": 26_040, "test": 26_032},
    "visual_domain_decathlon/ucf101": {"train": 7_585, "validation": 1_952, "test": 3_783},
    "visual_domain_decathlon/vgg-flowers": {"train": 1_020, "validation": 1_020, "test": 6_149},
}  # fmt: skip
"""Splits as the catalogue on the web documents them: the package knows them only after data are prepared. That they
have these names is checked against the package's code below; their sizes are copied from the catalogue."""

WITHOUT_LABELS = {("imagenet2012", "test"), ("clevr", "test")} | {
    (name, "test") for name in SPLITS if name.startswith("visual_domain_decathlon")
}
URIS = sorted({uri for name in suites() for uri in read_suite(name).tasks.values() if uri.startswith("tfds:")})
FULL = ("characters-full", "visual-domain-decathlon", "vtab-1k", "tasks-69")


@pytest.fixture(autouse=True)
def nothing_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's code alone is looked at, whatever is prepared on this machine, and nothing is downloaded."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def refuse(self: object, **options: object) -> None:
        raise AssertionError("a check downloads nothing")

    monkeypatch.setattr(tfds.core.dataset_builder.DatasetBuilder, "download_and_prepare", refuse)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))


def code_of(builder: Any) -> str:
    """The code that names a data set's splits."""
    return inspect.getsource(type(builder)._split_generators)


@pytest.mark.parametrize("uri", URIS)
def test_a_task_is_in_the_catalogue(uri: str) -> None:
    found = check(uri)
    assert found.classes >= 2
    assert found.examples is None
    assert found.what.startswith(parse(uri).target)


@pytest.mark.parametrize("uri", URIS)
def test_a_task_names_splits_that_are_there_and_have_labels(uri: str) -> None:
    parsed = parse(uri)
    sizes = SPLITS[parsed.target]
    parts = {split: select(parsed.option(split) or "", sizes) for split in SPLIT_NAMES}
    for split, selected in parts.items():
        assert sum(part.stop - part.start for part in selected) >= 50, split
        assert not {(parsed.target, part.split) for part in selected} & WITHOUT_LABELS
    spans = [(part.split, part.start, part.stop) for part in chain.from_iterable(parts.values())]
    for place, (split, start, stop) in enumerate(spans):
        for other, first, last in spans[:place]:
            assert split != other or stop <= first or last <= start


@pytest.mark.parametrize("target", SPLITS)
def test_the_splits_are_those_of_the_packages_code(target: str) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    code = code_of(tfds.builder(target))
    constants = {f"Split.{name.upper()}": name for name in ("train", "validation", "test")}
    named = {name for constant, name in constants.items() if constant in code}
    named |= set(re.findall(r"(?<!_)name=[\"'](\w+)[\"']", code)) | set(
        re.findall(r"[\"'](\w+)[\"']: self\._gen", code)
    )
    assert named == set(SPLITS[target])


def uris(suite: Suite, prefix: str = "") -> set[str]:
    return {uri for name, uri in suite.tasks.items() if name.startswith(prefix)}


def test_the_69_tasks_hold_the_smaller_benchmarks() -> None:
    characters, decathlon, small, all_ = (read_suite(name) for name in FULL)
    assert [len(suite.tasks) for suite in (characters, decathlon, small, all_)] == [8, 10, 25, 69]
    assert len(uris(all_)) == 69
    assert uris(all_, "characters-") == uris(characters)
    assert uris(all_, "decathlon-") == uris(decathlon)
    assert uris(all_, "vtab-1k-") == uris(small)


def test_vtab_1k_trains_on_800_chooses_by_200_and_tests_on_the_whole_split() -> None:
    whole = {name: parse(uri) for name, uri in read_suite("tasks-69").tasks.items()}
    for name, uri in read_suite("vtab-1k").tasks.items():
        parsed = parse(uri)
        sizes = SPLITS[parsed.target]
        for split, count in (("train", 800), ("validation", 200)):
            (part,) = select(parsed.option(split) or "", sizes)
            assert part.stop - part.start == count
            if not name.startswith("cifar"):  # whole, they have µ2Net's own splits
                (of,) = select(whole[name].option(split) or "", sizes)
                assert (of.split, of.start) == (part.split, part.start)
        assert parsed.option("test") == whole[name].option("test")


@pytest.mark.parametrize("name", FULL)
def test_a_full_suite_has_a_root_and_a_size_that_fit(name: str) -> None:
    suite = read_suite(name)
    root = find(suite.root)
    assert (suite.blocks or root.blocks) <= root.blocks
    assert suite.image_size is not None
    assert suite.image_size % 16 == 0
    preset = PRESETS[suite.preset or ""]
    visits = suite.settings.visits or preset.visits
    assert (visits, suite.budget) == ((1 if suite.root == "vit-l16" else 2), "128children")


@pytest.mark.parametrize("name", FULL)
def test_a_full_suite_is_in_the_docs_with_its_tasks_root_and_size(name: str) -> None:
    suite = read_suite(name)
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (\d+).* \| `(\S+)`.* (\d+) px \|", page, re.MULTILINE)
    assert row == (str(len(suite.tasks)), suite.root, str(suite.image_size))


# mutant bench SUITE --check


def write_suite(tmp_path: Path, **tasks: str) -> Path:
    lines = ['root = "vit-ti16"', 'budget = "3children"', 'methods = ["full"]', "[tasks]"]
    file = tmp_path / "mine.toml"
    file.write_text("\n".join([*lines, *(f'{name} = "{uri}"' for name, uri in tasks.items())]), encoding="utf-8")
    return file


def test_a_suite_is_checked_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pets", class_files(6))
    file = write_suite(tmp_path, pets="folder:{data}/pets", digits="tfds:mnist", count="tfds:clevr?label=count_all")
    called = done("bench", file, "--check", "--data", tmp_path)
    assert re.search(r"^pets +ok +2 +folder, train 12$", called.out, re.MULTILINE)
    assert re.search(r"^digits +ok +10 +mnist/", called.out, re.MULTILINE)
    found = {one["task"]: one for one in done("bench", file, "--check", "--data", tmp_path, "--json").json}
    assert [one["ok"] for one in found.values()] == [True] * 3
    assert (found["pets"]["examples"], found["digits"]["examples"]) == ({"train": 12}, None)
    assert (found["count"]["classes"], found["count"]["error"]) == (8, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml", "pets"]


def test_every_task_that_cannot_be_found_is_told(tmp_path: Path) -> None:
    wrong = {
        "name": ("tfds:mnits", "Nearest: 'tfds:mnist'"),
        "config": ("tfds:emnist/digitz", "cannot be opened"),
        "label": ("tfds:clevr?label=count_al", "Nearest: 'count_all'"),
        "slice": ("tfds:mnist?train=train[5:10%]", "mixes percent"),
        "folder": (f"folder:{tmp_path}/nowhere", "No such file"),
        "beyond": ("sample:digits?train=train[:99999]", "beyond the 1,797"),
        "value": ("tfds:mnist?untrained=kep", "Nearest: 'keep'"),
    }
    file = write_suite(tmp_path, good="tfds:mnist", **{name: uri for name, (uri, _) in wrong.items()})
    called = call("bench", file, "--check", "--json")
    assert called.code == 2
    assert "7 of 8 tasks cannot be found: name, config, label, slice, folder, ..." in " ".join(called.err.split())
    found = {one["task"]: one for one in called.json}
    assert found.pop("good")["ok"]
    for name, one in found.items():
        assert not one["ok"]
        assert wrong[name][1] in one["error"]


def test_a_root_that_is_not_there_and_a_check_of_nothing(tmp_path: Path) -> None:
    file = write_suite(tmp_path, digits="sample:digits")
    file.write_text(file.read_text("utf-8").replace("vit-ti16", "vit-ti61"), encoding="utf-8")
    assert "'vit-ti16'" in refused("bench", file, "--check")
    assert "names no suite" in refused("bench", "--check")


def test_named_splits_are_known_without_sizes() -> None:
    assert named_splits("train[:800]+ extra[-10%:]") == ("train", "extra")
    assert SYNONYMS["val"] == "validation"
    with pytest.raises(UserError, match="does not select"):
        named_splits("train[1]+test")
