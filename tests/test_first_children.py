"""The first children of a segment: sampled, muNet's, or every depth and path in turn."""

from dataclasses import replace

import pytest
from tiny import CLASSES, world

from mutant.mutation import Clone, DropTopBlock, NewHead
from mutant.path import Path
from mutant.pool import Pool
from mutant.position import Position
from mutant.search.config import RunConfig, Settings, run_config
from mutant.search.generation import LADDER, Child, plan_generation

HERE = world(6)
ROOT = HERE.root


def trained(task: str, number: int) -> Path:
    return replace(ROOT, id=f"{number:064x}", task=task, parent=ROOT.id, quality=0.5)


class Lines:
    """Every path is a child of the root, or the root itself."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = {path.id: path for path in (*paths, ROOT)}

    def ancestors(self, path_id: str) -> tuple[Path, ...]:
        path = self.paths[path_id]
        return (path,) if path.parent is None else (path, ROOT)


def config(**settings: object) -> RunConfig:
    chosen = Settings(preset="mutant", **settings)  # type: ignore[arg-type]
    return run_config(chosen, ("new",), reference_parameters=1.0, reference_flops=1.0)


def children(pool: Pool, settings: RunConfig, size: int) -> tuple[Child, ...]:
    lines = Lines(pool.paths)
    return plan_generation(pool, lines, settings, Position(0, "new"), classes=CLASSES, size=size, given={})


def dropped(child: Child) -> int:
    return sum(isinstance(edit, DropTopBlock) for edit in child.candidate.mutations)


def test_the_first_task_begins_with_the_root_at_every_depth() -> None:
    first = children(Pool(ROOT), config(children=20), 4)
    assert [dropped(child) for child in first] == list(LADDER)
    for child in first:
        assert child.candidate.parent == ROOT.id
        assert NewHead(CLASSES) in child.candidate.mutations
        assert {part.slot for part in child.blueprint.parts if part.trainable} <= {"norm", "head"}


def test_other_tasks_paths_come_in_turn_newest_first() -> None:
    others = (trained("old", 1), trained("newer", 2))
    first = children(Pool(ROOT, others), config(children=20), 6)
    parents = [child.candidate.parent for child in first]
    assert parents == [ROOT.id, others[1].id, ROOT.id, others[0].id, ROOT.id, ROOT.id]
    assert [dropped(child) for child in first] == [3, 0, 0, 0, 1, 5]
    alone = children(Pool(ROOT, others), config(children=20, cross_task=False), 4)
    assert {child.candidate.parent for child in alone} == {ROOT.id}


@pytest.mark.parametrize(("most", "first"), [(4, 2), (5, 3), (1, 1)])
def test_at_most_half_of_the_children_are_first_ones(most: int, first: int) -> None:
    drawn = children(Pool(ROOT), config(children=most), 4)
    trains_a_block = [
        any(isinstance(edit, Clone) and edit.slot.startswith("block_") for edit in child.candidate.mutations)
        for child in drawn
    ]
    assert trains_a_block[:first] == [False] * first
    assert all(trains_a_block[first:])


def test_no_more_blocks_are_dropped_than_may_be() -> None:
    assert [dropped(child) for child in children(Pool(ROOT), config(children=20, reach=1), 2)] == [0, 1]


def test_a_second_visit_samples_at_once() -> None:
    own = trained("new", 3)
    assert children(Pool(ROOT, (own,)), config(children=20), 1)[0].candidate.parent == own.id
