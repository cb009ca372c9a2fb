"""The proof of no forgetting tells what changed, and only that."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from storage_samples import forward, grow, grow_segment, new_store, sample_golden

from mutant.component import Component
from mutant.path import Path
from mutant.storage.collection import gc
from mutant.storage.importing import import_tasks
from mutant.storage.permit import collecting
from mutant.storage.refusals import Damaged
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.weights import encode
from mutant.tasks.errors import UserError


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with new_store(database, "a", "b", "c") as opened:
        yield opened


def overwrite(store: Store, digest: str, data: bytes | None) -> None:
    with store.writing() as connection, collecting(connection):
        if data is None:
            connection.execute(text("DELETE FROM weights WHERE digest = :digest"), {"digest": digest})
        else:
            change = text("UPDATE weights SET data = :data WHERE digest = :digest")
            connection.execute(change, {"data": data, "digest": digest})


def changed(component: Component, name: str = "kernel") -> bytes:
    """The component's weights, one number of one array moved by the last bit."""
    values = component.arrays[name].copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
    return encode({**component.arrays, name: values})


def test_an_untouched_system_is_identical(store: Store) -> None:
    grow(store, "a", "b")
    report = verify(store, forward)
    assert report.ok
    assert [(t.task, t.verdict) for t in report.tasks] == [
        ("a", "identical"),
        ("b", "identical"),
        ("c", "not comparable"),
    ]
    assert report.tasks[0].values == 20
    assert report.tasks[0].largest_difference == 0
    assert "finished" in report.tasks[2].reason
    assert report.components_checked == 3 + 2 * 3
    assert verify(store, forward, everything=True).components_checked == 3 + 4 * 3


def test_only_the_asked_tasks(store: Store) -> None:
    grow(store, "a", "b")
    assert [task.task for task in verify(store, forward, tasks=["b", "b"]).tasks] == ["b"]
    with pytest.raises(UserError, match="Unknown task"):
        verify(store, forward, tasks=["q"])


def test_a_changed_bit_names_the_task_and_the_component(store: Store) -> None:
    a, b = grow(store, "a", "b")
    head = b.slots["head"]
    overwrite(store, head.digest, changed(store.component(head.digest)))
    report = verify(store, forward)
    assert not report.ok
    one, other, _ = report.tasks
    assert one.verdict == "identical"
    assert other.verdict == "different"
    assert other.component == "head: toy/head (changed)"
    assert other.largest_difference is not None
    assert [d.digest for d in report.damaged] == [head.digest]
    assert a.id == one.path


def test_a_shared_component_breaks_all_that_share_it(store: Store) -> None:
    a, _ = grow(store, "a", "b")
    shared = a.slots["embedding"]
    overwrite(store, shared.digest, changed(store.component(shared.digest)))
    report = verify(store, forward)
    assert [t.verdict for t in report.tasks] == ["different", "different", "not comparable"]
    assert {t.component for t in report.tasks[:2]} == {"embedding: toy/embedding (changed)"}
    assert len(report.damaged) == 1


@pytest.mark.parametrize("data", [None, b"", b"rubbish", b"\xff" * 100])
def test_weights_that_are_missing_or_rubbish(store: Store, data: bytes | None) -> None:
    (a,) = grow(store, "a")
    overwrite(store, a.slots["norm"].digest, data)
    report = verify(store, forward, tasks=["a"])
    assert report.tasks[0].verdict == "different"
    assert report.tasks[0].largest_difference is None
    assert str(report.tasks[0].component).startswith(
        "norm: toy/norm (missing" if data is None else "norm: toy/norm (unr"
    )


def test_a_program_that_computes_otherwise(store: Store) -> None:
    grow(store, "a")

    def other(path: Any, components: Any, images: Any) -> Any:
        logits = forward(path, components, images).copy()
        logits[1, 2] += np.float32(0.25)
        return logits

    report = verify(store, other, tasks=["a"])
    found = report.tasks[0]
    assert (found.verdict, found.component, found.differing) == ("different", None, 1)
    assert found.largest_difference == pytest.approx(0.25, abs=1e-6)
    assert "computes otherwise" in found.reason
    elsewhere = verify(store, other, tasks=["a"], backend="tpu")
    assert elsewhere.tasks[0].verdict == "not comparable"
    assert "the back end was cpu, here it is tpu" in elsewhere.tasks[0].reason
    assert elsewhere.ok
    assert verify(store, forward, tasks=["a"], backend="tpu").tasks[0].verdict == "identical"


def test_another_number_of_images_at_a_time_is_no_difference_but_said(store: Store) -> None:
    grow(store, "a")

    def other(path: Any, components: Any, images: Any) -> Any:
        return -forward(path, components, images)

    (golden,) = [store.golden(str(task.path)) for task in verify(store, forward, tasks=["a"]).tasks]
    assert golden is not None
    then = golden.batch_shape[0]
    assert verify(store, other, tasks=["a"], batch=then).tasks[0].verdict == "different"
    found = verify(store, other, tasks=["a"], batch=2 * then).tasks[0]
    assert (found.verdict, found.differing) == ("not comparable", found.values)
    assert found.reason == f"{then} images were computed at a time, here it is {2 * then}"
    assert verify(store, forward, tasks=["a"], batch=2 * then).tasks[0].verdict == "identical"


def test_signs_of_zero_and_shapes_count(store: Store) -> None:
    grow(store, "a")

    def fewer(path: Any, components: Any, images: Any) -> Any:
        return forward(path, components, images)[:, :3]

    assert "(5, 3)" in verify(store, fewer, tasks=["a"]).tasks[0].reason


def test_other_library_versions_are_said(store: Store) -> None:
    run = store.begin_run({}, ["a"])
    (winner,) = [grow_segment(store, run.segments[0].key, "a", store.root())]
    with store.writing() as connection, collecting(connection):
        connection.execute(text("""UPDATE goldens SET versions = '{"numpy":"0.1","no-such-package":"2"}'"""))

    def other(path: Any, components: Any, images: Any) -> Any:
        return -forward(path, components, images)

    found = verify(store, other, tasks=["a"]).tasks[0]
    assert found.verdict == "not comparable"
    assert "numpy was 0.1, here it is" in found.reason
    assert "no-such-package was 2, here it is missing" in found.reason
    assert winner.id == found.path


def test_golden_outputs_that_changed_and_paths_that_were_rewired(store: Store) -> None:
    a, b = grow(store, "a", "b")
    with store.reading() as connection:
        digest = connection.scalar(text("SELECT digest FROM goldens ORDER BY path_key LIMIT 1"))
    overwrite(store, str(digest), b"")
    with store.writing() as connection, collecting(connection):
        connection.execute(
            text(
                "UPDATE path_parts SET component_key = (SELECT key FROM components WHERE digest = :of_a)"
                " WHERE slot = 'head' AND path_key = (SELECT key FROM paths WHERE id = :b)"
            ),
            {"of_a": a.slots["head"].digest, "b": b.id},
        )
    report = verify(store, forward)
    assert [t.verdict for t in report.tasks[:2]] == ["different", "different"]
    assert "golden outputs cannot be read" in report.tasks[0].reason
    assert "not the ones" in report.tasks[1].reason


def test_a_damaged_component_of_a_path_that_lost_is_found_when_asked(store: Store) -> None:
    grow(store, "a")
    winner = store.best("a")
    (loser,) = [path for path in store.paths(task="a") if path != winner]
    overwrite(store, loser.slots["head"].digest, None)
    assert verify(store, forward).ok
    report = verify(store, forward, everything=True)
    assert not report.ok
    assert [d.reason for d in report.damaged] == ["missing"]


def test_everything_recomputes_the_outputs_of_paths_that_are_not_best_any_more(store: Store) -> None:
    (before,), (now,), (gone,) = grow(store, "a"), grow(store, "a"), grow(store, "b")
    remove(store, "b")
    assert verify(store, forward).earlier == ()
    report = verify(store, forward, everything=True)
    assert [(p.task, p.path, p.verdict) for p in report.earlier] == [
        ("a", before.id, "identical"),
        ("b", gone.id, "identical"),
    ]
    assert report.tasks[0].path == now.id
    head = before.slots["head"]
    overwrite(store, head.digest, changed(store.component(head.digest)))
    assert verify(store, forward).ok
    report = verify(store, forward, everything=True)
    assert not report.ok
    assert [p.verdict for p in report.earlier] == ["different", "identical"]
    assert report.earlier[0].component == "head: toy/head (changed)"
    gc(store)
    report = verify(store, forward, everything=True)
    assert report.ok
    assert report.earlier == ()


@pytest.mark.parametrize("how", ["missing", "changed", "unreadable"])
def test_everything_hashes_the_momentum(store: Store, how: str) -> None:
    grow(store, "a")
    assert verify(store, forward).traces_checked == 0
    assert verify(store, forward, everything=True).traces_checked == 2 * 3
    loser = next(path for path in store.paths(task="a") if path != store.best("a"))
    digest = str(loser.slots["norm"].trace)
    moved = {name: array + array.dtype.type(1) for name, array in store.trace(digest).items()}
    overwrite(store, digest, {"missing": None, "changed": encode(moved), "unreadable": b"rubbish"}[how])
    assert verify(store, forward).ok
    report = verify(store, forward, everything=True)
    assert not report.ok
    (found,) = report.damaged
    assert (found.digest, found.spec) == (digest, "trace()")
    assert found.reason.startswith(how)


@pytest.mark.slow
@settings(max_examples=10)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
def test_whatever_is_added_the_old_tasks_stay_identical(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[str]
) -> None:
    with new_store(tmp_path_factory.mktemp("system"), "a", "b", "c") as store:
        golden: dict[str, bytes] = {}
        for task in tasks:
            (winner,) = grow(store, task)
            report = verify(store, forward)
            assert report.ok
            for path_id, logits in golden.items():
                path = store.path(path_id)
                components = store.components(part.digest for part in path.parts)
                assert forward(path, components, sample_golden(path, components).images).tobytes() == logits
            kept = store.golden(winner.id)
            assert kept is not None
            golden[winner.id] = kept.logits.tobytes()


def lose_golden(store: Store, path: Path) -> None:
    with store.writing() as connection, collecting(connection):
        delete = text("DELETE FROM goldens WHERE path_key = (SELECT key FROM paths WHERE id = :id)")
        connection.execute(delete, {"id": path.id})


def test_golden_outputs_that_are_missing_are_damage(store: Store) -> None:
    """No segment ends without them; of an earlier winner it is told with everything."""
    (first,) = grow(store, "a")
    run = store.begin_run({}, ["a"])
    second = grow_segment(store, run.segments[0].key, "a", first, seed=7)
    store.finish_run(run.id)
    lose_golden(store, first)
    assert verify(store, forward).ok
    report = verify(store, forward, everything=True)
    assert [(p.path, p.verdict, p.reason) for p in report.earlier] == [
        (first.id, "different", "its golden outputs are missing")
    ]
    assert not report.ok
    lose_golden(store, second)
    report = verify(store, forward, tasks=["a"])
    assert [(p.path, p.verdict, p.reason) for p in report.tasks] == [
        (second.id, "different", "its golden outputs are missing")
    ]
    assert not report.ok


def test_golden_outputs_that_were_collected_are_not(store: Store) -> None:
    grow(store, "a")
    with store.writing() as connection, collecting(connection):
        golden = "SELECT digest FROM goldens"
        connection.execute(text(f"INSERT INTO collected SELECT digest, 1, CURRENT_TIMESTAMP FROM ({golden}) AS g"))
        connection.execute(text(f"DELETE FROM weights WHERE digest IN ({golden})"))
    report = verify(store, forward, tasks=["a"])
    assert [(p.verdict, p.reason) for p in report.tasks] == [("not comparable", "its golden outputs were collected")]
    assert report.ok


def test_a_task_that_lost_its_golden_outputs_is_not_imported(store: Store, new_database: Callable[[], str]) -> None:
    a, _ = grow(store, "a", "b")
    lose_golden(store, a)
    with new_store(new_database()) as target:
        with pytest.raises(Damaged, match=r"'a'.* lost its golden outputs"):
            import_tasks(store, target, ["a"])
        assert import_tasks(store, target, ["b"])[0].new
        assert verify(target, forward, everything=True).ok


def test_a_best_path_of_another_task_is_told(store: Store) -> None:
    grow(store, "a", "b")
    with store.writing() as connection, collecting(connection):
        connection.execute(text("UPDATE segments SET winner_key = (SELECT min(winner_key) FROM segments)"))
    report = verify(store, forward, tasks=["a", "b"])
    assert [task.verdict for task in report.tasks] == ["identical", "different"]
    assert report.tasks[1].reason == "its best path belongs to the task 'a'"
    with pytest.raises(Damaged, match=r"best path of task 'b' belongs to another task"):
        store.pool()


def test_logits_that_are_no_numbers_leave_no_nan_in_the_report(store: Store) -> None:
    grow(store, "a")

    def broken(path: Any, components: Any, images: np.ndarray) -> np.ndarray:
        return np.full_like(forward(path, components, images), np.nan)

    report = verify(store, broken, tasks=["a"])
    assert (report.tasks[0].verdict, report.tasks[0].differing) == ("different", 20)
    assert report.tasks[0].largest_difference is None
