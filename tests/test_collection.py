"""The collector drops what only paths that lost need; every answer, every proof and every row of lineage stay."""

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text
from storage_samples import counts, forward, grow, grow_segment, new_store, sample_task
from tiny import world

from mutant.blueprint import blueprint, inheritable
from mutant.mutation import Clone, DropTopBlock, InsertAdapter, Mutation, NewHead, RemoveAdapter, RestoreTopBlock
from mutant.path import HEAD, Part, Path
from mutant.storage import collection, weights
from mutant.storage.collection import gc
from mutant.storage.digest import digest
from mutant.storage.importing import import_tasks
from mutant.storage.permit import collecting
from mutant.storage.records import SegmentKey
from mutant.storage.refusals import Collected, Conflict
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.tasks.errors import UserError


def answers(store: Store) -> dict[str, bytes]:
    """Every task's logits on its own golden images."""
    found: dict[str, bytes] = {}
    for task in store.tasks():
        path = store.best(task.name)
        if path is not None:
            golden = store.golden(path.id)
            assert golden is not None
            components = store.components(part.digest for part in path.parts)
            found[task.name] = forward(path, components, golden.images).tobytes()
    return found


def test_what_lost_goes_and_all_else_stays(database: str) -> None:
    with new_store(database, "a", "b") as store:
        a, b = grow(store, "a", "b", children=4)
        before, paths, rows = answers(store), store.paths(), counts(store)
        would = gc(store, dry_run=True)
        assert counts(store) == rows
        found = gc(store)
        assert (found.components, found.traces, found.goldens, found.paths) == (18, 18, 0, 6)
        assert (would.freed_bytes, would.kept_bytes) == (found.freed_bytes, found.kept_bytes)
        assert found.freed_bytes > 0
        after = counts(store)
        assert {name for name in rows if rows[name] != after[name]} == {"weights", "collected"}
        assert (rows["weights"] - after["weights"], after["collected"]) == (36, 36)
        assert (answers(store), store.paths()) == (before, paths)
        report = verify(store, forward, everything=True)
        assert report.ok
        assert (report.components_collected, report.paths_collected) == (18, 6)
        lost = next(path for path in paths if path.task == "a" and path.id != a.id)
        with pytest.raises(Collected, match="were collected on"):
            store.components(part.digest for part in lost.parts)
        assert store.ancestors(b.id) == (b, a, store.root())
        assert gc(store).dropped == 0


def test_weights_that_are_missing_though_nobody_collected_them_are_damage(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        (a,) = grow(store, "a")
        gc(store)
        with store.writing() as connection, collecting(connection):
            connection.execute(text("DELETE FROM weights WHERE digest = :d"), {"d": a.slots["norm"].digest})
        report = verify(store, forward)
        assert [damaged.reason for damaged in report.damaged] == ["missing"]
        assert not report.ok


def test_weights_that_come_again_are_not_collected_any_more(tmp_path: FilePath) -> None:
    (tmp_path / "a").mkdir()
    with new_store(tmp_path / "a", "a") as store, new_store(tmp_path, "x") as other:
        (a,) = grow(store, "a")
        import_tasks(store, other)
        remove(other, "a")
        assert gc(other).goldens == 1
        with pytest.raises(Collected):
            other.component(a.slots["norm"].digest)
        with pytest.raises(Collected, match="collected"):
            undo(other, "a")
        assert [task.name for task in other.tasks()] == ["x"]
        (again,) = import_tasks(store, other)
        assert (again.path, again.paths, again.components) == (a.id, 0, 3)
        assert verify(other, forward, everything=True).ok
        assert counts(other)["collected"] == 0


def test_a_collection_is_refused_while_a_run_is_unfinished(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        grow(store, "a")
        run = store.begin_run({}, ["a"])
        before = digest(store)
        for change in (lambda: gc(store), lambda: remove(store, "a"), lambda: import_tasks(store, store)):
            with pytest.raises(Conflict, match=r"Run 2 is not finished.*mutant resume"):
                change()
        would = gc(store, dry_run=True)
        assert would.dropped
        assert would.note.startswith("Not now: Run 2 is not finished")
        assert digest(store) == before
        store.abandon_run(run.id)
        assert gc(store).dropped


def test_an_interrupted_collection_changes_nothing(database: str) -> None:
    with new_store(database, "a") as store:
        grow(store, "a", children=4)
        before, remembered = digest(store), counts(store)
        reached: list[str] = []

        def stopping(connection: object, cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("DELETE FROM weights"):
                reached.append(statement)
                raise KeyboardInterrupt

        event.listen(Engine, "after_cursor_execute", stopping)
        try:
            with pytest.raises(KeyboardInterrupt):
                gc(store)
        finally:
            event.remove(Engine, "after_cursor_execute", stopping)
        assert reached
        assert (digest(store), counts(store)) == (before, remembered)
        assert gc(store).dropped == 18


def test_space_that_cannot_be_given_back_is_told(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> tuple[int, int]:
        raise UserError("There is no space left.")

    with new_store(tmp_path, "a") as store:
        grow(store, "a")
        monkeypatch.setattr(collection, "reclaim", full)
        found = gc(store)
        assert found.dropped
        assert "no space left" in found.note
        assert gc(store, dry_run=True).dropped == 0


def test_a_file_becomes_smaller(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "a") as store:
        with store.writing() as connection:
            weights.put(connection, [weights.Blob("0" * 64, bytes(3_000_000))])
        before, after = gc(store).database_bytes or (0, 0)
        assert before - after > 2_900_000
        assert (tmp_path / "mutant.db").stat().st_size == after


# What is kept is enough for every descendant: against `blueprint`, which says what a child takes.


def mutations(draw: Callable[..., Any], line: Sequence[Path], new_task: bool) -> tuple[Mutation, ...]:
    parent, root = line[0], line[-1]
    chosen: list[Mutation] = []
    depth = parent.depth
    move = draw(st.sampled_from(("stay", "drop", "restore")))
    if move == "drop" and depth > 0:
        depth -= 1
        chosen.append(DropTopBlock(depth))
    if move == "restore" and depth < root.depth:
        chosen.append(RestoreTopBlock(depth))
    for block in range(parent.depth):
        has = f"adapter_{block:02d}" in parent.slots
        if block < depth and draw(st.booleans()):
            chosen.append(RemoveAdapter(block) if has else InsertAdapter(block, draw(st.sampled_from((4, 8)))))
    kept = [part.slot for part in blueprint(line, [*chosen, NewHead(3)]).parts if part.source is not None]
    chosen += [Clone(slot) for slot in kept if draw(st.booleans())]
    if new_task or draw(st.booleans()):
        return (*chosen, NewHead(draw(st.sampled_from((2, 3)))))
    return (*chosen, Clone(HEAD))


def child(line: Sequence[Path], edits: Sequence[Mutation], task: str, name: str) -> Path:
    """A child as training would leave it: new digests for all that is trained."""
    plan = blueprint(line, edits)
    parts = tuple(
        Part(p.slot, p.spec, f"{name}/{p.slot}", 1, p.depth, name, task)
        if p.source is None or p.trainable
        else p.source
        for p in plan.parts
    )
    return Path(name, task, line[0].id, parts, plan.hyperparameters, tuple(edits))


@given(st.data())
def test_a_descendant_takes_nothing_but_what_is_kept(data: st.DataObject) -> None:
    """Some generations, a collection that leaves the last path active, and then more generations from it."""
    line: list[Path] = [world(3).root]
    at = data.draw(st.integers(0, 4))
    there: set[str] = set()
    for number in range(at + 4):
        if number == at:
            there = {part.digest for part in inheritable(line)}
        task = data.draw(st.sampled_from(("one", "two")))
        edits = mutations(data.draw, line, line[0].task != task)
        taken = {part.source.digest for part in blueprint(line, edits).parts if part.source is not None}
        line.insert(0, child(line, edits, task, f"path {number}"))
        if number >= at:
            assert taken <= there
            there |= {part.digest for part in line[0].trained_here()}


# Any order of growing, removing, collecting and importing


@pytest.mark.slow
@settings(max_examples=15)
@given(
    steps=st.lists(st.tuples(st.sampled_from(("add", "evolve", "rm", "gc", "import")), st.integers(0, 9)), max_size=9)
)
def test_whatever_happens_every_remaining_task_answers_as_before(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("systems")
    (directory / "other").mkdir()
    with new_store(directory) as store, new_store(directory / "other", "p", "q", "r") as other:
        grow(other, "p", "q", "r")
        expected: dict[str, bytes] = {}
        for number, (step, which) in enumerate(steps):
            names = list(expected)
            changed = apply(store, other, step, number, which, names)
            now = answers(store)
            unchanged = [name for name in names if name not in changed]
            assert {name: now.get(name) for name in unchanged} == {name: expected[name] for name in unchanged}
            expected = now
        report = verify(store, forward, everything=True)
        assert report.ok
        assert all(task.verdict == "identical" for task in report.tasks)


def apply(store: Store, other: Store, step: str, number: int, which: int, names: list[str]) -> set[str]:
    """Do a step; the tasks whose answers it may change."""
    name = names[which % len(names)] if names else None
    if step == "add" or (step == "evolve" and name is not None):
        task = f"t{number}" if step == "add" else name
        assert task is not None
        if step == "add":
            store.add_task(sample_task(task))
        parents = [store.root(), *(path for path in (store.best(n) for n in names) if path is not None)]
        run = store.begin_run({}, [task])
        grow_segment(store, SegmentKey(run.id, 0), task, parents[which % len(parents)], seed=number)
        store.finish_run(run.id)
        return {task}
    if step == "rm" and name is not None:
        remove(store, name, force=True)
        return {name}
    if step == "gc":
        gc(store)
    if step == "import":
        theirs = other.tasks()[which % 3].name
        if theirs not in names:
            import_tasks(other, store, [theirs])
    return set()
