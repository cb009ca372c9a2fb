"""The engine: shared components run once, and every row's answer is the one it would have alone, to the bit."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SIZE, conv_chain, world

from mutant.assignment import Training
from mutant.mutation import Clone, InsertAdapter, NewHead
from mutant.network import predict_logits
from mutant.path import Path
from mutant.serving.engine import Job, chain, run
from mutant.serving.ladder import CALL, pieces, rungs
from mutant.serving.programs import Programs
from mutant.serving.served import Loaded, Served
from mutant.serving.trie import grow
from mutant.tasks.task import Task

QUICK = Training(32, 1, 16)
HEAD = NewHead(3)
LADDER = rungs(16)


@given(st.integers(1, 200))
def test_pieces_hold_all_rows_and_cost_no_more_than_one_shape_alone(rows: int) -> None:
    found = pieces(rows, LADDER)
    assert set(found) <= set(LADDER)
    assert list(found) == sorted(found, reverse=True)
    assert sum(found) >= rows > sum(found[:-1])
    cost = sum(piece + CALL for piece in found)
    assert all(cost <= -(-rows // rung) * (rung + CALL) for rung in LADDER)


class Grown:
    """Five tasks that leave the trunk at different depths, on a tiny root, with their answers to some images."""

    def __init__(self, kind: str) -> None:
        here = world(3, None if kind == "vit" else conv_chain(3))
        first = here.train(here.root, [Clone("block_01"), HEAD], task="a", training=QUICK).path
        edits = [(first, [HEAD]), (first, [Clone("block_02"), HEAD]), (here.root, [HEAD])]
        edits += [(here.root, [InsertAdapter(1, 4), HEAD])]
        paths = [first]
        for number, (parent, mutations) in enumerate(edits):
            paths.append(here.train(parent, mutations, task="bcde"[number], seed=number, training=QUICK).path)
        from mutant.network import on_device

        loaded = {
            digest: Loaded(digest, component.spec, on_device([component.arrays])[0], component.n_bytes)
            for digest, component in here.components.items()
        }
        self.served = tuple(_served(path, loaded) for path in paths)
        self.images = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
        self.expected = {path.version: predict_logits(path, here.components, self.images) for path in paths}
        self.programs = Counting()
        for one in self.served:
            self.programs.prepare(one)


class Counting(Programs):
    """Programs that count the rows of each component."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def run(self, loaded, x):
        self.calls[loaded.digest] += 1
        return super().run(loaded, x)


def _served(path: Path, loaded: dict[str, Loaded]) -> Served:
    task = Task(path.task or "", "arrays:none", ("x", "y", "z"), (), "")
    return Served(task, path, path.version, tuple(loaded[part.digest] for part in path.parts))


@pytest.fixture(scope="module", params=["vit", "efficientnet"])
def five(request: pytest.FixtureRequest) -> Grown:
    return Grown(request.param)


Asked = list[tuple[list[int], int, int]]
TASKS = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)


@settings(max_examples=40)
@given(asked=st.lists(st.tuples(TASKS, st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=6))
def test_any_mix_of_requests_gives_each_row_the_bits_it_has_alone(five: Grown, asked: Asked) -> None:
    jobs = [
        Job(tuple(five.served[i] for i in tasks), {SIZE: five.images[start : start + n]}) for tasks, start, n in asked
    ]
    outputs, work = run(jobs, five.programs)
    for (tasks, start, n), logits in zip(asked, outputs, strict=True):
        assert set(logits) == {five.served[i].version for i in tasks}
        for version, found in logits.items():
            assert found.tobytes() == five.expected[version][start : start + n].tobytes()
    needed: dict[str, float] = {}
    for tasks, _, n in asked:
        for i in tasks:
            name, row = five.served[i].task.name, sum(five.programs.path_flops(five.served[i]))
            needed[name] = needed.get(name, 0.0) + n * row
    assert work.needed == pytest.approx(needed)
    assert all(0 < work.spent[task] <= work.needed[task] * (1 + 1e-9) for task in work.needed)


def test_a_component_runs_once_for_all_tasks_of_an_image(five: Grown) -> None:
    five.programs.calls.clear()
    _, work = run([Job(five.served, {SIZE: five.images[:1]})], five.programs)
    # The same component behind another one is another node: what it gets is different.
    chains = [[loaded.digest for loaded in one.chain] for one in five.served]
    nodes = {tuple(digests[:n]) for digests in chains for n in range(1, len(digests) + 1)}
    assert sum(five.programs.calls.values()) == len(nodes)
    assert set(five.programs.calls) == {digest for digests in chains for digest in digests}
    assert sum(work.spent.values()) < 0.6 * sum(work.needed.values())


def test_the_trie_has_one_node_for_what_paths_share(five: Grown) -> None:
    (root,) = grow(five.served)[SIZE]
    assert sorted(root.paths) == [0, 1, 2, 3, 4]
    assert not root.ends
    seen = Counter(end for node in _all(root) for end in node.ends)
    assert seen == dict.fromkeys(range(5), 1)


def _all(node):
    yield node
    for child in node.children:
        yield from _all(child)


def test_paths_of_several_image_sizes_are_answered_together(five: Grown) -> None:
    one = five.served[0]
    larger = replace(one.path, hyperparameters=replace(one.path.hyperparameters, image_size=SIZE + 8))
    other = Served(one.task, larger, larger.version, one.chain)
    five.programs.prepare(other)
    big = np.random.default_rng(1).integers(0, 256, (3, SIZE + 8, SIZE + 8, 3), dtype=np.uint8)
    jobs = [Job((one, other), {SIZE: five.images[:3], SIZE + 8: big}), Job((one,), {SIZE: five.images[3:5]})]
    (both, alone), _ = run(jobs, five.programs)
    assert both[one.version].tobytes() == five.expected[one.version][:3].tobytes()
    assert alone[one.version].tobytes() == five.expected[one.version][3:5].tobytes()
    expected, _ = chain(other.chain, big, five.programs)
    assert both[other.version].tobytes() == expected.tobytes()


def test_programs_go_with_the_last_path_that_uses_them(five: Grown) -> None:
    import gc

    import jax

    def counted() -> tuple[int, int]:
        gc.collect()
        return len(five.programs), len(jax.devices()[0].client.live_executables())

    def larger() -> Served:
        one = five.served[0]
        path = replace(one.path, hyperparameters=replace(one.path.hyperparameters, image_size=SIZE + 8))
        return Served(one.task, path, path.version, one.chain)

    first = larger()
    five.programs.prepare(first)
    with_it, _ = counted()
    del first
    kept, executables = counted()
    assert kept < with_it
    second = larger()
    five.programs.prepare(second)
    job = Job((second,), {SIZE + 8: np.zeros((3, SIZE + 8, SIZE + 8, 3), np.uint8)})
    del second
    assert counted()[0] == with_it  # a request still asks it
    run([job], five.programs)
    del job
    assert counted() == (kept, executables)


def test_a_shape_with_other_bits_is_not_used(five: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a back end sums small products in another order: the row is computed in a shape that is right."""
    from mutant.serving import programs as module

    real = module.program

    class Wrong:
        def __init__(self, spec):
            self._real = real(spec)

        def lower(self, arrays, x):
            rows, lowered = len(x), self._real.lower(arrays, x)
            return lowered if rows == 16 else Wronged(lowered, rows)

    class Wronged:
        def __init__(self, lowered, rows):
            self._compiled, self._rows = lowered.compile(), rows

        def compile(self):
            return lambda arrays, x: np.asarray(self._compiled(arrays, x)) + (self._rows == 1)

    monkeypatch.setattr(module, "program", Wrong)
    programs = Programs()
    programs.prepare(five.served[0])
    assert programs.refused >= len({one.spec for one in five.served[0].chain})
    for n in (1, 3, 5, 16, 21):
        (logits,), _ = run([Job((five.served[0],), {SIZE: five.images[:n]})], programs)
        version = five.served[0].version
        assert logits[version].tobytes() == five.expected[version][:n].tobytes()
