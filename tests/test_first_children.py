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
    settings = config(children=most)
    deeper = replace(settings, start={**settings.start, "trained_blocks": 1})
    drawn = children(Pool(ROOT), deeper, 4)
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


def of_generation(number: int, own: tuple[Path, ...], **settings: object) -> tuple[Child, ...]:
    pool = Pool(ROOT, own)
    here = Position(0, "new", 0, number)
    return plan_generation(
        pool, Lines(pool.paths), config(**settings), here, classes=CLASSES, size=4, given={ROOT.id: 4 * number}
    )


def cloned_blocks(child: Child) -> list[str]:
    return [e.slot for e in child.candidate.mutations if isinstance(e, Clone) and e.slot.startswith("block_")]


@pytest.mark.parametrize(("generation", "deep"), [(1, True), (2, False), (3, True)])
def test_every_second_generation_begins_with_a_deep_child_of_the_best(generation: int, deep: bool) -> None:
    good, bad = trained("new", 1), replace(trained("new", 2), quality=0.4)
    first, *others = of_generation(generation, (bad, good), deep_blocks=4, reach=2, scale_factor=1.0)
    blocks = [f"block_{block:02d}" for block in range(2, 6)]
    assert (cloned_blocks(first) == blocks) == deep
    if deep:
        assert first.candidate.parent == good.id
        assert "trained_blocks" not in {getattr(edit, "name", "") for edit in first.candidate.mutations}
    for child in others:
        assert len(cloned_blocks(child)) <= 2


def test_without_a_path_of_the_task_no_child_is_deep() -> None:
    assert len(cloned_blocks(of_generation(1, (), deep_blocks=4, reach=2, first_children="sampled")[0])) <= 2


def test_deep_children_can_be_left_out() -> None:
    assert len(cloned_blocks(of_generation(1, (trained("new", 1),), deep_every=0, deep_blocks=4, reach=2)[0])) <= 2


def test_a_deep_child_of_every_generation_but_the_first() -> None:
    own = (trained("new", 1),)
    deep = [len(cloned_blocks(of_generation(n, own, deep_every=1, deep_blocks=4, reach=2)[0])) for n in (1, 2, 3)]
    assert deep == [4, 4, 4]
