"""The loop on a real store: resumed equals undisturbed, failures are kept, old tasks stay as they were."""

import runpy
from dataclasses import replace

import pytest
from growing import SMALL, go_on, grown, meaning, resumed, small_store, small_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mutant.activations.limits import CacheLimits
from mutant.blueprint import blueprint
from mutant.network import predict_logits
from mutant.outcome import Failed, Trained
from mutant.pool import Pool
from mutant.search.baselines import KINDS, Plan, train_baseline
from mutant.search.config import RunConfig
from mutant.search.evaluator import InProcessEvaluator, Work, unheard
from mutant.search.evolve import evolve
from mutant.search.growth import Engine, begin, check_workers, configure, reload, working
from mutant.search.progress import ChildFinished, SegmentFinished
from mutant.search.sampling import Parents
from mutant.search.supply import SearchData, StoreSupply
from mutant.search.workers import choose_workers
from mutant.storage.export import export_task
from mutant.storage.records import SegmentKey
from mutant.storage.verify import verify
from mutant.tasks.errors import UserError


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return small_tasks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tasks):
    with grown(tmp_path_factory.mktemp("undisturbed") / "m.db", tasks) as store:
        yield store


def test_every_task_ends_with_one_best_path_and_golden_outputs(undisturbed, tasks):
    pool = undisturbed.pool()
    assert [path.task for path in pool.paths] == list(tasks)
    for index, path in enumerate(pool.paths):
        records = undisturbed.candidates(SegmentKey(1, index))
        assert [(r.generation, r.child) for r in records] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
        assert path.id in {record.path for record in records}
        assert undisturbed.golden(path.id) is not None
        assert undisturbed.ancestors(path.id)[-1] == undisturbed.root()
    assert undisturbed.unfinished_run() is None
    assert verify(undisturbed, predict_logits).ok


def test_the_winner_has_the_best_score_of_what_was_retained(undisturbed):
    scale = configure(undisturbed, ("low",), SMALL).scale
    root = undisturbed.root()
    children = [undisturbed.path(r.path) for r in undisturbed.candidates(SegmentKey(1, 0))]
    best = Parents.of(Pool(root, tuple(children)), "low", scale).best
    assert undisturbed.best("low") == best


@pytest.mark.slow
@settings(max_examples=6)
@given(stop=st.integers(1, 10), again=st.integers(1, 10))
def test_interrupted_and_resumed_equals_undisturbed(tmp_path_factory, tasks, undisturbed, stop, again):
    with small_store(tmp_path_factory.mktemp("resumed") / "m.db") as store:
        begin(store, tuple(tasks), SMALL, new=[task.task for task in tasks.values()])
        resumed(store, tasks, (stop, again))
        assert meaning(store) == meaning(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "full"), [(0, False), (100_000, True), (1, False)])
def test_a_whole_run_means_the_same_with_the_cache_off_or_too_small(tmp_path, tasks, undisturbed, memory, full):
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, tuple(tasks), SMALL, new=[task.task for task in tasks.values()])
        with working(store, run, tasks, Engine(workers="1", cache=CacheLimits(memory, 0))) as search:
            evolve(search)
            assert isinstance(search.evaluator, InProcessEvaluator)
            cache = search.evaluator.cache
            assert (cache.evictions > 0) == full
            assert cache.held_bytes <= memory
        assert meaning(store) == meaning(undisturbed)


def test_a_failed_child_is_kept_with_its_reason_and_the_generation_goes_on(tmp_path, tasks):
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, tasks, Engine(workers="1")) as search:
            evolve(replace(search, evaluator=_FailsEverySecond()))
        records = store.candidates(SegmentKey(run.id, 0))
        assert [record.state for record in records] == ["DONE", "FAILED", "DONE", "FAILED", "DONE"]
        assert {record.reason for record in records if record.failure} == {"the loss was not finite at step 3"}
        assert store.best("low") is not None


class _FailsEverySecond(InProcessEvaluator):
    def train(self, work, supply, begun=unheard):
        for index, outcome in super().train(work, supply, begun):
            if index % 2:
                yield index, Failed(work[index].candidate.id, "not finite", "the loss was not finite at step 3")
            else:
                yield index, outcome


class _FailsAlways(InProcessEvaluator):
    def train(self, work, supply, begun=unheard):
        for index, item in enumerate(work):
            yield index, Failed(item.candidate.id, "out of memory", "asked for too much")


def test_a_task_none_of_whose_children_trained_ends_without_a_path(tmp_path, tasks):
    heard = []
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, tasks, Engine(workers="1", listener=heard.append)) as search:
            evolve(replace(search, evaluator=_FailsAlways()))
        assert store.best("low") is None
        assert store.unfinished_run() is None
    assert [event.winner for event in heard if isinstance(event, SegmentFinished)] == [None]
    assert sum(isinstance(event, ChildFinished) for event in heard) == 5


@pytest.mark.slow
def test_later_tasks_leave_the_outputs_of_old_ones_unchanged_to_the_bit(tmp_path, tasks):
    with grown(tmp_path / "m.db", {"low": tasks["low"]}) as store:
        old = store.best("low")
        assert old is not None
        images = tasks["low"].test.images(16)
        components = store.components(part.digest for part in old.parts)
        before = predict_logits(old, components, images).tobytes()
        begin(store, ("high", "high"), SMALL, new=[tasks["high"].task])
        go_on(store, tasks)
        assert store.best("low") == old
        components = store.components(part.digest for part in old.parts)
        assert predict_logits(old, components, images).tobytes() == before
        assert verify(store, predict_logits).ok


@pytest.mark.slow
def test_a_second_visit_starts_from_the_first_ones_best_path_and_draws_anew(tmp_path, tasks):
    with grown(tmp_path / "m.db", {"low": tasks["low"]}, replace(SMALL, visits=2)) as store:
        first, second = (store.candidates(SegmentKey(1, index)) for index in (0, 1))
        assert second[0].parent == store.runs()[0].segments[0].winner
        assert {r.candidate.seed for r in first}.isdisjoint(r.candidate.seed for r in second)


def test_the_search_has_no_way_to_the_test_split(tmp_path, tasks, monkeypatch):
    task = tasks["low"]
    forbidden = id(task.test)
    images, labels_read = type(task.test).images, []

    def watch(self, size):
        labels_read.append(id(self))
        return images(self, size)

    monkeypatch.setattr(type(task.test), "images", watch)
    with grown(tmp_path / "m.db", {"low": task}):
        pass
    assert labels_read
    assert forbidden not in labels_read
    assert not any(value is task.test for value in vars(SearchData.of(task)).values())


def test_one_run_at_a_time(tmp_path, tasks):
    with small_store(tmp_path / "m.db") as store:
        begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with pytest.raises(UserError, match=r"not finished.*mutant resume"):
            begin(store, ("high",), SMALL, new=[tasks["high"].task])
        assert [task.name for task in store.tasks()] == ["low"]


def test_changed_content_is_refused_on_resume(tmp_path, tasks):
    with small_store(tmp_path / "m.db") as store:
        changed = replace(tasks["low"].task, fingerprint="0" * 64)
        begin(store, ("low",), SMALL, new=[changed])
        with pytest.raises(UserError, match="has changed since it was added"):
            reload(store, ["low"])


def test_a_budget_of_time_ends_a_segment_after_a_generation(tmp_path, tasks):
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, tasks, Engine(workers="1", budget=0.0)) as search:
            evolve(search)
        assert len(store.candidates(SegmentKey(run.id, 0))) == SMALL.generation_size
        assert store.best("low") is not None


@pytest.mark.parametrize(
    "preset", ["mutant", *(pytest.param(paper, marks=pytest.mark.slow) for paper in ("munet", "mu2net", "mu2net-plus"))]
)
def test_every_preset_grows_a_task(tmp_path, tasks, preset):
    small = replace(SMALL, preset=preset, children=3, generation_size=3, reach=None, validations=1)
    with grown(tmp_path / "m.db", {"low": tasks["low"]}, small) as store:
        records = store.candidates(SegmentKey(1, 0))
        assert [record.state for record in records] == ["DONE"] * 3, [r.reason for r in records]
        assert verify(store, predict_logits).ok


def test_workers_are_chosen_by_predicted_cost_and_bad_numbers_are_refused():
    assert choose_workers("auto", 1e9).workers == 1
    assert choose_workers("3", 1e9).workers == 3
    assert "as asked" in choose_workers("3", 0).reason
    for bad in ("0", "-1", "two", ""):
        with pytest.raises(UserError, match="--workers"):
            choose_workers(bad, 0)


def test_a_stored_path_is_trained_again_from_the_root_to_the_same_bytes(undisturbed, tasks):
    """Lineage is complete: mutations, seeds and settings give back every component that the line trained."""
    supply = StoreSupply(undisturbed, {name: SearchData.of(task) for name, task in tasks.items()})
    training = RunConfig.from_dict(undisturbed.runs()[0].config).training
    records = {r.path: r for index in (0, 1) for r in undisturbed.candidates(SegmentKey(1, index))}
    best = undisturbed.best("high")
    assert best is not None
    line = [undisturbed.root()]
    for path in reversed(undisturbed.ancestors(best.id)[:-1]):
        candidate = records[path.id].candidate
        assert candidate.parent == line[0].id
        work = Work(candidate, blueprint(line, candidate.mutations), training)
        ((_, outcome),) = InProcessEvaluator().train([work], supply)
        assert isinstance(outcome, Trained)
        assert outcome.path == path
        assert set(outcome.components) == {part.digest for part in path.trained_here()}
        line.insert(0, outcome.path)
    assert line[0] == best


@pytest.mark.slow
def test_momentum_is_inherited_only_where_the_preset_does(tmp_path, tasks):
    def inherited(preset):
        small = replace(SMALL, preset=preset, children=6, generation_size=2, validations=1, mutable=("momentum",))
        with grown(tmp_path / f"{preset}.db", {"low": tasks["low"]}, small) as store:
            training = RunConfig.from_dict(store.runs()[0].config).training
            records = store.candidates(SegmentKey(1, 0))
            plans = [(r.candidate, blueprint(store.ancestors(r.parent), r.candidate.mutations)) for r in records]
            return {digest for candidate, plan in plans for digest in Work(candidate, plan, training).traces}

    assert inherited("mutant")
    assert not inherited("munet")


def test_data_that_does_not_fit_in_memory_fails_its_children_and_not_the_run(tmp_path, tasks, monkeypatch):
    def too_big(self, image_size):
        raise MemoryError("9 GiB")

    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with monkeypatch.context() as patched:
            patched.setattr(SearchData, "dataset", too_big)
            go_on(store, tasks)
        records = store.candidates(SegmentKey(run.id, 0))
        assert {(r.state, r.failure, r.reason) for r in records} == {
            ("FAILED", "out of memory", "preparing its data: 9 GiB")
        }
        assert store.unfinished_run() is None


def test_a_baseline_that_cannot_be_trained_is_left_out(tmp_path, tasks):
    with small_store(tmp_path / "m.db") as store:
        run = begin(store, ("low",), SMALL, new=[tasks["low"].task])
        with working(store, run, tasks, Engine(workers="1")) as search:
            training = search.config.training
            args = Plan(KINDS["head"], training), store.root(), tasks["low"]
            assert train_baseline(*args, _FailsAlways(), search.supply) is None
            assert train_baseline(*args, search.evaluator, search.supply) is not None


def test_a_probability_that_the_rule_could_not_keep_is_refused(tmp_path):
    with small_store(tmp_path / "m.db") as store:
        with pytest.raises(UserError, match=r"out of range: 0.02 to 0.3 with preset 'mutant'"):
            configure(store, ("low",), replace(SMALL, mutation_probability=1.0))
        constant = configure(store, ("low",), replace(SMALL, preset="munet", mutation_probability=1.0))
        assert constant.rules.start == 1.0


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "ray://127.0.0.1:x"])
def test_a_cluster_that_does_not_answer_is_told_before_a_run_begins(address):
    with pytest.raises(UserError, match="Ray"):
        check_workers(Engine(address=address))


def test_the_code_on_an_exports_card_runs(undisturbed, tasks, tmp_path, monkeypatch, capsys):
    directory = export_task(undisturbed, "low", tmp_path / "low")
    card = (directory / "README.md").read_text()
    (tmp_path / "use.py").write_text(card.split("```python\n")[1].split("```")[0])
    Image.fromarray(tasks["low"].test.images(16)[0]).save(directory / "image.png")
    monkeypatch.chdir(directory)
    runpy.run_path(str(tmp_path / "use.py"))
    said = capsys.readouterr().out
    assert undisturbed.best("low").version in said
    assert "Label(name='0'" in said
