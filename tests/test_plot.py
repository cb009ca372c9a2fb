"""Pictures of a system: what they show of it, the formats, and what bad input is told."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_samples import grow, grow_segment, new_store, planned, sample_golden, sample_root, trained

from mutant.layout import neighbours_first, rows
from mutant.mutation import NewHead
from mutant.outcome import Failed, Trained
from mutant.palette import COLOURS, colour
from mutant.path import Path
from mutant.search import drawing_model, drawing_quality
from mutant.search.drawing import SUFFIXES, count
from mutant.search.plot import plot_model, plot_quality
from mutant.storage.records import Baseline, Evaluation, SegmentKey
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.tasks.errors import MissingExtra, UserError

pytest.importorskip("matplotlib")
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("plot"), "birds", "fish", "ants") as store:
        grow(store, "birds", "fish", "ants")
        yield store


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that are drawn while the test runs."""
    drawn: list = []
    for module in (drawing_model, drawing_quality):

        def draw(*args, made=module.draw):
            drawn.append(made(*args))
            return drawn[-1]

        monkeypatch.setattr(module, "draw", draw)
    return drawn


def words(figure) -> str:
    found = [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]
    for legend in figure.legends:
        found += [text.get_text() for text in legend.get_texts()]
    return "\n".join(found)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("plot", [plot_model, plot_quality])
def test_each_format_is_written_and_twice_the_same(store: Store, tmp_path: FilePath, suffix: str, plot) -> None:
    first, second = plot(store, tmp_path / f"a{suffix}"), plot(store, str(tmp_path / f"b{suffix}"))
    assert first.read_bytes().startswith(MAGIC[suffix])
    assert first.read_bytes() == second.read_bytes()


def test_the_model_names_tasks_accuracies_and_sizes(store: Store, tmp_path: FilePath, figures: list) -> None:
    best = store.best("birds")
    assert best is not None
    store.record_evaluation(Evaluation(best.id, "birds", "test", 0.875, 10, "0" * 64))
    plot_model(store, tmp_path / "m.png")
    text = words(figures[0])
    assert "test 87.5%" in text
    assert f"validation {100 * best.quality:.1f}%" in text
    assert "3 tasks" in text
    for word in ("birds", "fish", "ants", "block 0", "adapter 0", "head", "pretrained root", "trained by fish"):
        assert word in text


def test_chosen_tasks_keep_their_numbers(store: Store, tmp_path: FilePath, figures: list) -> None:
    plot_model(store, tmp_path / "m.png", tasks=["fish"])
    text = words(figures[0])
    assert "1 task ·" in text
    assert "\n2\n" in text
    assert "birds" not in text


def test_a_system_without_tasks_shows_its_root(tmp_path: FilePath, figures: list) -> None:
    with new_store(tmp_path) as store:
        plot_model(store, tmp_path / "m.png")
        assert "no tasks" in words(figures[0])
        with pytest.raises(UserError, match="No child has been trained"):
            plot_quality(store, tmp_path / "q.png")


def test_quality_has_every_trained_child_once(store: Store, tmp_path: FilePath, figures: list) -> None:
    plot_quality(store, tmp_path / "q.png")
    by_size, by_generation = figures[0].axes
    children = [record for task in range(3) for record in store.candidates(SegmentKey(1, task))]
    for axes in (by_size, by_generation):
        points = [point for drawn in axes.collections for point in drawn.get_offsets()]
        assert sorted(float(y) for _, y in points) == sorted(record.quality or 0 for record in children)
    assert "6 trained children of 3 tasks" in words(figures[0])


def test_quality_counts_failures_and_shows_the_head_only_baseline(tmp_path: FilePath, figures: list) -> None:
    with new_store(tmp_path, "birds") as store:
        run = store.begin_run({}, ["birds"])
        plans = [planned("birds", store.root(), child) for child in range(2)]
        store.plan_generation(run.segments[0].key, 0, plans)
        store.commit_outcome(run.segments[0].key, 0, 0, trained(plans[0], store.root(), quality=0.75))
        store.commit_outcome(run.segments[0].key, 0, 1, Failed(plans[1].candidate.id, "error", "made to fail"))
        store.record_baseline(Baseline("head-only", "birds", 0.5, 0.5, store.root().n_parameters + 15))
        plot_quality(store, tmp_path / "q.png", task="birds")
    text = words(figures[0])
    assert "1 trained child of 1 task · 1 failed" in text
    points = [tuple(map(float, p)) for drawn in figures[0].axes[0].collections for p in drawn.get_offsets()]
    assert (75.0, 0.5) in points  # three root components of 20 parameters, and the head


@pytest.mark.parametrize("plot", [plot_model, plot_quality])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.jpg", r"\.png, \.svg, \.pdf"),
        ("a", "no suffix"),
        ("no/such/a.png", "no directory"),
        ("d.png", "is a directory"),
    ],
)
def test_a_file_that_cannot_be_written(store: Store, tmp_path: FilePath, plot, name: str, told: str) -> None:
    (tmp_path / "d.png").mkdir()
    with pytest.raises(UserError, match=told):
        plot(store, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["d.png"]


def test_an_unknown_task_is_told_with_the_nearest(store: Store, tmp_path: FilePath) -> None:
    with pytest.raises(UserError, match="birds"):
        plot_model(store, tmp_path / "m.png", tasks=["brids"])
    with pytest.raises(UserError, match="birds"):
        plot_quality(store, tmp_path / "q.png", task="brids")


@pytest.mark.parametrize("plot", [plot_model, plot_quality])
def test_without_matplotlib_the_extra_is_named(
    store: Store, tmp_path: FilePath, plot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"mutant\[plot\]"):
        plot(store, tmp_path / "m.png")


def test_drawing_leaves_pyplot_alone(repository: FilePath) -> None:
    modules = "sys, mutant.search.drawing_model, mutant.search.drawing_quality"
    code = f"import {modules}; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@st.composite
def columns(draw: st.DrawFn) -> list[Path]:
    """Paths that each take, slot by slot, a component of the root, of an earlier path, or one of their own."""
    root, _ = sample_root()
    paths: list[Path] = []
    for task in range(draw(st.integers(1, 6))):
        parts = []
        for part in root.parts:
            choice = draw(st.integers(-1, task))
            if choice == task:
                parts.append(replace(part, digest=f"{task}{part.slot}", task=f"task{task}"))
            elif choice >= 0 and part.slot in paths[choice].slots:
                parts.append(paths[choice].slots[part.slot])
            elif part.slot != "block_00" or draw(st.booleans()):
                parts.append(part)
        paths.append(replace(root, id=f"path{task}", task=f"task{task}", parts=tuple(parts)))
    return paths


@given(columns())
def test_each_part_of_each_path_is_in_one_box(paths: list[Path]) -> None:
    root, _ = sample_root()
    seen = [(row.slot, box.digest, column) for row in rows(root, paths) for box in row.boxes for column in box.columns]
    assert sorted(seen) == sorted((p.slot, p.digest, column) for column, path in enumerate(paths) for p in path.parts)


@given(columns())
def test_columns_are_reordered_and_none_is_lost(paths: list[Path]) -> None:
    ordered = neighbours_first(paths)
    assert sorted(path.id for path in ordered) == sorted(path.id for path in paths)
    assert ordered[0] == paths[0]


@given(st.integers(0, 10**13))
def test_counts_are_short_and_near(number: int) -> None:
    value, _, unit = count(number).partition(" ")
    assert len(value) <= 3 or unit == "G"
    assert abs(float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit] - number) <= 0.06 * number


def test_twelve_tasks_have_twelve_colours() -> None:
    assert len({colour(index) for index in range(12)}) == len(COLOURS) == 12


def test_a_removed_task_still_colours_what_others_use_of_it(tmp_path: FilePath, figures: list) -> None:
    with new_store(tmp_path, "birds", "fish") as store:
        run = store.begin_run({}, ["birds", "fish"])
        birds = grow_segment(store, run.segments[0].key, "birds", store.root())
        plan = planned("fish", birds, 0, mutations=(NewHead(3),))
        store.plan_generation(run.segments[1].key, 0, [plan])
        fish = with_new_head_only(trained(plan, birds), birds)
        store.commit_outcome(run.segments[1].key, 0, 0, fish)
        golden = sample_golden(fish.path, store.components(part.digest for part in fish.path.parts))
        store.finish_segment(run.segments[1].key, fish.path.id, golden)
        store.finish_run(run.id)
        remove(store, "birds", force=True)
        plot_model(store, tmp_path / "m.png")
        assert "trained by birds" in words(figures[0])
        plot_quality(store, tmp_path / "q.png")


def with_new_head_only(child: Trained, parent: Path) -> Trained:
    """The child, sharing everything but its head with its parent."""
    head = replace(child.path.slots["head"], trace=None)
    parts = tuple(head if part.slot == "head" else part for part in parent.parts)
    made = {head.digest: child.components[head.digest]}
    return replace(child, path=replace(child.path, parts=parts), components=made, traces={})
