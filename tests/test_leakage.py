"""Test images that trained what a path is made of are found, counted and told; others are not."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from cli_calls import ALIKE, QUICK, call, done
from PIL import Image
from sklearn.datasets import load_digits
from sqlalchemy import text
from storage_samples import grow, new_store, sample_images
from tiny import world

from mutant.cli.leaking import leakage_facts, show_leaks
from mutant.mutation import Clone, NewHead
from mutant.origins import origins
from mutant.storage.export import export_system, export_task
from mutant.storage.importing import import_tasks
from mutant.storage.leakage import leakage
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.whole import open_source
from mutant.tasks.errors import UserError
from mutant.tasks.perceptual import FLAT, count_near, perceptual_hashes, thumbnail


def hashes(images: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.frombuffer(b"".join(perceptual_hashes([thumbnail(image) for image in images])), np.uint64).reshape(-1, 4)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray[Any, Any]]:
    """Patches of scikit-learn's two photographs that do not overlap."""
    from sklearn.datasets import load_sample_images

    found: Any = load_sample_images().images
    return [i[y : y + 96, x : x + 96] for i in found for y in range(0, 384, 96) for x in range(0, 576, 96)]


def as_jpeg(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    data = BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=80)
    return np.asarray(Image.open(data).convert("RGB"))


def smaller(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))


def brighter(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.clip(image.astype(int) * 1.05 + 3, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [as_jpeg, smaller, brighter])
def test_copies_are_near_duplicates(photographs: list[np.ndarray[Any, Any]], change: Any) -> None:
    textured = [image for image in photographs if np.abs(np.diff(image[..., 1].astype(int), axis=1)).mean() > 8]
    assert len(textured) > 15
    found = count_near(hashes([change(image) for image in textured]), hashes(textured))
    assert found >= 0.9 * len(textured)


def test_different_pictures_are_not(photographs: list[np.ndarray[Any, Any]]) -> None:
    half = len(photographs) // 2
    assert count_near(hashes(photographs[:half]), hashes(photographs[half:])) == 0
    digits: Any = load_digits()
    glyphs = [np.repeat((image * 15).astype(np.uint8)[..., None], 3, axis=2) for image in digits.images[:600]]
    assert count_near(hashes(glyphs[:100]), hashes(glyphs[100:])) <= 1


def test_flat_and_striped_pictures_are_near_to_nothing() -> None:
    grey = np.full((20, 30, 3), 128, np.uint8)
    stripes = np.repeat((np.arange(64) % 8 * 30).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    for image in (grey, grey + 90, stripes):
        assert hashes([image]).tobytes() == FLAT
    assert count_near(hashes([grey]), hashes([grey])) == 0


def test_the_hash_is_the_same_everywhere() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert hashes([image]).tobytes().hex() == "e34f174111bd542005cbde865528b83f1524df235ca9b75c962456c5de2b996f"


@pytest.mark.slow
def test_origins_follow_clones_of_clones_and_leave_out_what_is_not_on_the_path() -> None:
    here = world(2)
    a = here.train(here.root, (Clone("norm"), NewHead(3)), task="a").path
    b = here.train(a, (Clone("norm"), Clone("block_01"), NewHead(3)), task="b").path
    c = here.train(b, (Clone("norm"), NewHead(3)), task="c").path
    found = {(o.slot, o.ancestor.task) for o in origins(here.ancestry(c))}
    assert found == {("norm", "c"), ("norm", "b"), ("norm", "a"), ("block_01", "b"), ("head", "c")}
    d = here.train(a, (NewHead(3),), task="d").path
    assert {(o.slot, o.ancestor.task) for o in origins(here.ancestry(d))} == {("norm", "a"), ("head", "d")}


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with new_store(database, "a", "b", "c") as opened:
        yield opened


def kept(store: Store, task: str, train: Sequence[int], test: Sequence[int]) -> None:
    images = [sample_images(task, "train", train), sample_images(task, "test", test)]
    run = store.begin_run({}, [], images=images)
    store.finish_run(run.id)


def test_counts_are_of_test_images_and_only_tasks_on_the_path_count(store: Store) -> None:
    kept(store, "a", range(100, 200), range(5))
    kept(store, "b", range(300, 400), (*range(190, 210), 210))
    kept(store, "c", range(190, 210), range(6))
    winner = grow(store, "a", "b", "c")[1]
    found = leakage(store, winner)
    makers = {part.task for part in winner.parts if part.task}
    assert {leak.task for leak in found.trained_by} >= makers
    assert "c" not in {leak.task for leak in found.trained_by}
    assert not found.unknown
    by_task = {leak.task: (leak.exact, leak.near) for leak in found.trained_by}
    assert by_task["b"] == (0, 0)
    assert by_task["a"] == (10, 0)


def test_hashes_that_were_not_kept_are_unknown_and_damaged_ones_are_told(store: Store) -> None:
    winner = grow(store, "a")[0]
    assert leakage(store, winner).unknown == ("a",)
    kept(store, "a", range(10), range(20, 30))
    assert not leakage(store, winner).unknown
    with store.writing() as connection:
        connection.execute(text("UPDATE task_images SET content = :short"), {"short": b"123"})
    with pytest.raises(UserError, match=r"image hashes of task 'a'.* damaged"):
        leakage(store, winner)


def test_leaks_stay_known_where_a_task_goes(database: str, tmp_path: FilePath, new_database: Callable[[], str]) -> None:
    """By import under its own and another name, by export, and when the task that trained its components is removed."""
    with new_store(database, "a", "b") as store:
        kept(store, "a", range(100, 200), range(5))
        kept(store, "b", range(300, 400), range(190, 210))
        before = leakage(store, grow(store, "a", "b")[1])
        assert {leak.task: leak.exact for leak in before.trained_by} == {"a": 10, "b": 0}
        export_task(store, "b", tmp_path / "task")
        export_system(store, tmp_path / "whole")
        remove(store, "a", force=True)
        best = store.best("b")
        assert best is not None
        assert leakage(store, best) == before
    for place in ("task", "whole"):
        with open_source(str(tmp_path / place)) as source, new_store(new_database()) as target:
            assert leakage(source, best) == before
            import_tasks(source, target, ["b"])
            assert leakage(target, best) == before
            import_tasks(source, target, ["b"], name="other")
            other = target.best("other")
            assert other is not None
            assert {leak.task: leak.exact for leak in leakage(target, other).trained_by} == {"a": 10, "other": 0}


def test_why_leaks_are_unknown_is_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    show_leaks(leakage_facts(store, grow(store, "a")[0]))
    said = " ".join(capsys.readouterr().out.split())
    assert "Leakage: unknown for a: an older version of mutant, which kept no hashes" in said
    assert "added or imported a or what trained its path" in said


def arrays(file: FilePath, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], test: int) -> str:
    """The first `test` images to test on, the next ten to validate on, and the others to train on."""
    first = test + 10
    np.savez(
        file,
        train_images=images[first:],
        train_labels=labels[first:],
        validation_images=images[test:first],
        validation_labels=labels[test:first],
        test_images=images[:test],
        test_labels=labels[:test],
    )
    return f"arrays:{file}"


CLONED_NORM = ("--preset", "mu2net-plus", *QUICK, *ALIKE)
"""Every child trains a clone of the encoder's norm."""
ON_THE_OTHER = ("--preset", "munet", *QUICK, *ALIKE, "--children", 1, "--generation-size", 1)
"""The one child starts from the other task's best path, as muNet's first children do."""


def added_on_another(directory: FilePath, first: str, second: str) -> tuple[list[str], Any]:
    """What `add` and `show` tell of `second`, whose path builds on what `first` trained, and its leakage as JSON."""
    db = directory / "m.db"
    done("init", "--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16, "--db", db)
    for_all = ("--no-baseline", "--db", db)
    assert "Leakage" not in done("add", first, *CLONED_NORM, *for_all, "--name", "first").out
    added = done("add", second, *ON_THE_OTHER, *for_all, "--name", "second").out
    assert call("show", "first", "--db", db).code == 0
    return [added, done("show", "second", "--db", db).out], done("show", "second", "--db", db, "--json").json["leakage"]


@pytest.mark.slow
def test_a_leak_is_told_on_add_and_in_show(tmp_path: FilePath) -> None:
    digits: Any = load_digits()
    images, labels = (digits.images[:200] * 15).astype(np.uint8), digits.target[:200] % 2
    first = arrays(tmp_path / "first.npz", images[:120], labels[:120], 20)
    second = arrays(tmp_path / "second.npz", images[70:200], labels[70:200], 60)  # 50 of its 60 trained the first
    told, facts = added_on_another(tmp_path, first, second)
    assert facts["test_images"] == 60
    assert "first" in facts["checked"]
    (leak,) = facts["leaks"]
    assert (leak["task"], leak["identical"]) == ("first", 50)
    assert leak["components"]
    for out in told:
        assert "Leakage: 50 of 60 test images of second (50 identical, 0 near duplicates)" in out


@pytest.mark.slow
def test_near_duplicates_are_told_on_add_and_in_show(
    tmp_path: FilePath, photographs: list[np.ndarray[Any, Any]]
) -> None:
    """Of the first task's training images, the second tests brighter ones and such as were saved as JPEG again."""
    half = len(photographs) // 2
    of_each = [photographs[start : start + half] for start in (0, half)]  # the one photograph, and the other
    for label, patches in enumerate(of_each):
        changed = [*map(brighter, patches[:6]), *patches[6:12]]
        splits = {"train": patches[:12], "validation": patches[12:14], "test": patches[14:16]}
        for split, chosen in splits.items():  # all are given, so that none is held out of those to train on
            write(tmp_path / "first" / split / str(label), chosen, "png")
        write(tmp_path / "second/train" / str(label), patches[16:], "png")
        write(tmp_path / "second/test" / str(label), changed, "jpg")
    told, facts = added_on_another(tmp_path, f"folder:{tmp_path / 'first'}", f"folder:{tmp_path / 'second'}")
    (leak,) = facts["leaks"]
    assert (leak["task"], leak["identical"]) == ("first", 0)
    near = leak["near_duplicates"]
    assert 12 <= near <= facts["test_images"] == 24  # flat patches of sky are near to nothing
    for out in told:
        assert f"Leakage: {near} of 24 test images of second (0 identical, {near} near duplicates)" in out


def write(directory: FilePath, images: Sequence[np.ndarray[Any, Any]], suffix: str) -> None:
    directory.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(directory / f"{number}.{suffix}")
