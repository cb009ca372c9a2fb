"""What the page shows, as values and over HTTP: complete, true to the store, else an error with the nearest."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_server import serving_page
from PIL import Image
from storage_samples import grow, grow_segment, new_store, planned, sample_task, trained

from mutant.outcome import Failed
from mutant.palette import COLOURS
from mutant.pool import accounted_parameters
from mutant.serving.assets import assets
from mutant.serving.views.component import component_view
from mutant.serving.views.model import model_view
from mutant.serving.views.runs import find_run, run_view, runs_view
from mutant.serving.views.tasks import tasks_view
from mutant.storage.pulse import pulse
from mutant.storage.records import Baseline, Evaluation
from mutant.storage.removal import remove, undo
from mutant.storage.store import Store

LIVE = ("/api/tasks", "/api/model", "/api/runs", "/api/runs/1", "/api/samples")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("views"), "birds", "fish", "ants") as store:
        grow(store, "birds", "fish", "ants")
        store.record_evaluation(Evaluation(best(store, "birds"), "birds", "test", 0.75, 10, "0" * 64))
        store.record_baseline(Baseline("head-only", "birds", 0.5, 0.5, 100))
        yield store


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[httpx.Client]:
    with serving_page(str(store.url.database)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def best(store: Store, task: str) -> str:
    path = store.best(task)
    assert path is not None
    return path.id


# Values


def test_tasks_tell_what_each_reached_and_costs(store: Store) -> None:
    view, pool = tasks_view(store), store.pool()
    assert [task.task for task in view.tasks] == ["birds", "fish", "ants"]
    birds = view.tasks[0]
    (path,) = pool.of_task("birds")
    assert (birds.path, birds.version) == (path.id, path.version)
    assert (birds.test_accuracy, birds.head_only_test_accuracy) == (0.75, 0.5)
    assert birds.accounted_parameters == accounted_parameters(path.parts, "birds", pool)
    assert birds.classes == ["birds 0", "birds 1", "birds 2"]
    assert birds.energy_joules is None
    assert view.tasks[1].test_accuracy is None
    used = {part.digest: part.n_parameters for path in pool.paths for part in path.parts}
    assert view.system.parameters_used == sum(used.values())
    assert view.system.parameters_used <= view.system.parameters < view.system.parameters_apart


def test_the_model_has_every_part_of_every_path_once(store: Store) -> None:
    view = model_view(store)
    drawn = {
        (view.columns[column].task, row.slot, box.digest)
        for row in view.rows
        for box in row.boxes
        for first, last in box.runs
        for column in range(first, last + 1)
    }
    assert drawn == {(path.task, part.slot, part.digest) for path in store.pool().paths for part in path.parts}
    for column in view.columns:
        path = store.path(column.path)
        assert {view.rows[row].slot for row in column.rows} == set(path.slots)


def test_a_component_tells_who_made_it_and_who_needs_it(store: Store) -> None:
    (path,) = store.pool().of_task("birds")
    head = component_view(store, path.slots["head"].digest[:16])
    assert (head.blame.task, head.blame.path) == ("birds", path.id)
    assert [(user.task, user.slot) for user in head.impact.users] == [("birds", "head")]
    trunk = component_view(store, path.slots["embedding"].digest)
    assert trunk.blame.task is None
    assert trunk.blame.licence == "Apache-2.0"
    assert [user.slot for user in trunk.impact.users] == ["embedding"] * 3


def test_runs_have_every_child(store: Store) -> None:
    summary = runs_view(store).runs[0]
    view = run_view(store, run := find_run(store, 1), run.segments)
    children = [child for segment in view.segments for each in segment.generations for child in each.children]
    assert len(children) == sum(sum(segment.states.values()) for segment in summary.segments) == 6
    assert {child.id for child in children if child.won} == {path.id for path in store.pool().paths}
    assert all(child.own_parameters and child.own_parameters < (child.parameters or 0) for child in children)
    assert [len(run_view(store, run, run.segments[i : i + 1]).segments) for i in range(3)] == [1, 1, 1]


def test_a_system_without_tasks_shows_its_root(tmp_path: FilePath) -> None:
    with new_store(tmp_path) as store:
        assert tasks_view(store).tasks == []
        assert [row.slot for row in model_view(store).rows] == ["embedding", "block_00", "norm"]
        assert model_view(store).columns == []
        assert runs_view(store).runs == []


def test_an_open_run_shows_what_waits_and_why_one_failed(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "birds") as store:
        run = store.begin_run({"children": 3}, ["birds"])
        plans = [planned("birds", store.root(), child) for child in range(3)]
        store.plan_generation(run.segments[0].key, 0, plans)
        store.commit_outcome(run.segments[0].key, 0, 0, trained(plans[0], store.root(), quality=0.5))
        store.commit_outcome(run.segments[0].key, 0, 1, Failed(plans[1].candidate.id, "error", "made to fail"))
        assert runs_view(store).open == run.id
        (segment,) = run_view(store, run, run.segments).segments
        first, second, third = segment.generations[0].children
        assert (first.state, first.quality, first.won) == ("DONE", 0.5, False)
        assert (second.state, second.reason) == ("FAILED", "made to fail")
        assert (third.state, third.quality, third.accounted_parameters) == ("QUEUED", None, None)
        assert tasks_view(store).tasks[0].path is None


def test_a_removed_task_keeps_its_number_and_can_be_asked_back(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "birds", "fish") as store:
        grow(store, "birds", "fish")
        remove(store, "birds", force=True)
        view = tasks_view(store)
        assert [(task.task, task.number, task.colour) for task in view.tasks] == [("fish", 2, COLOURS[1])]
        assert view.removed == ["birds"]
        undo(store, "birds")
        assert tasks_view(store).removed == []


def test_the_pulse_follows_every_change(tmp_path: FilePath) -> None:
    with new_store(tmp_path, "birds") as store:
        seen = [pulse(store)]

        def beats(*, learnt: bool) -> None:
            now = pulse(store)
            assert now == pulse(store)
            assert now.all not in [each.all for each in seen]
            assert (now.learnt != seen[-1].learnt) is learnt
            seen.append(now)

        run = store.begin_run({"children": 2}, ["birds"])
        beats(learnt=True)
        plans = [planned("birds", store.root(), child) for child in range(2)]
        store.plan_generation(run.segments[0].key, 0, plans)
        beats(learnt=False)
        store.commit_outcome(run.segments[0].key, 0, 0, trained(plans[0], store.root()))
        beats(learnt=False)
        store.commit_outcome(run.segments[0].key, 0, 1, Failed(plans[1].candidate.id, "error", "no"))
        beats(learnt=False)
        store.abandon_run(run.id)
        beats(learnt=False)
        again = store.begin_run({"children": 2}, ["birds"])
        beats(learnt=True)
        grow_segment(store, again.segments[0].key, "birds", store.root(), seed=7)
        beats(learnt=True)
        store.record_evaluation(Evaluation(best(store, "birds"), "birds", "test", 0.5, 10, "0" * 64))
        beats(learnt=True)
        store.record_evaluation(Evaluation(best(store, "birds"), "birds", "test", 0.6, 10, "0" * 64))
        beats(learnt=True)
        store.finish_run(again.id)
        beats(learnt=False)
        store.add_task(sample_task("fish"))
        beats(learnt=True)
        remove(store, "birds", force=True)
        beats(learnt=True)
        undo(store, "birds")
        beats(learnt=True)


# HTTP


@pytest.mark.parametrize("url", LIVE)
def test_what_has_not_changed_is_not_sent_again(client: httpx.Client, url: str) -> None:
    first = client.get(url)
    again = client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert first.json()


def test_samples_are_the_golden_images(client: httpx.Client, store: Store) -> None:
    sets = client.get("/api/samples").json()["samples"]
    assert [(each["task"], each["images"]) for each in sets] == [("birds", 5), ("fish", 5), ("ants", 5)]
    got = client.get("/api/samples/fish/3")
    golden = store.golden(best(store, "fish"))
    assert golden is not None
    assert got.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(got.content))), golden.images[3])
    assert client.get("/api/samples/fish/3", headers={"If-None-Match": got.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("/api/components/zzz", 422, ""),
        (f"/api/components/{'0' * 65}", 422, ""),
        ("/api/components/abcdef012345", 404, "abcdef012345"),
        ("/api/runs/2", 404, "Nearest: 1"),
        ("/api/runs/0", 422, ""),
        ("/api/runs/99999999999999999999", 422, ""),
        ("/api/runs/1?segment=9", 404, "Nearest: 2"),
        ("/api/samples/fisch/0", 404, "Nearest: 'fish'"),
        ("/api/samples/fish/5", 404, "Nearest: 4"),
        ("/api/samples/fish/-1", 422, ""),
        ("/api/samples/fish/99999999999999999999", 422, ""),
        ("/api/samples/%00/0", 404, ""),
        ("/assets/basee.css", 404, "Nearest: 'base.css'"),
        ("/assets/..%2Fpages.py", 404, ""),
    ],
)
def test_what_there_is_not_is_told_with_the_nearest(client: httpx.Client, url: str, status: int, told: str) -> None:
    got = client.get(url)
    assert got.status_code == status
    assert told in got.text


@given(st.text(max_size=300), st.text(alphabet="0123456789abcdef", max_size=70), st.integers(-(2**70), 2**70))
def test_no_input_is_an_error_of_the_server(client: httpx.Client, text: str, digest: str, number: int) -> None:
    urls = [f"/api/samples/{_quoted(text)}/0", f"/api/components/{digest or '0'}", f"/api/runs/{number}"]
    urls += [f"/api/runs/1?segment={number}", f"/api/samples/fish/{number}", f"/assets/{_quoted(text)}"]
    for url in urls:
        assert client.get(url, headers={"If-None-Match": '"x"'}).status_code in (200, 404, 422)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", errors="replace")) or "x"


def test_the_page_and_its_files_allow_nothing_from_elsewhere(client: httpx.Client) -> None:
    for url in ("/", *(f"/assets/{name}" for name in assets())):
        got = client.get(url)
        assert got.status_code == 200
        policy = got.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert client.get(url, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert "<script>" not in page
    assert " style=" not in page


def test_the_schema_describes_what_is_sent(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for url in ("/api/tasks", "/api/model", "/api/runs", "/api/runs/{run}", "/api/components/{digest}"):
        answers = paths[url]["get"]["responses"]
        assert answers["200"]["content"]["application/json"]["schema"]["$ref"]
    assert "image/png" in paths["/api/samples/{task}/{index}"]["get"]["responses"]["200"]["content"]


def test_the_views_load_neither_jax_nor_search(repository: FilePath) -> None:
    heavy = ("jax", "ray", "tensorflow_datasets", "matplotlib", "mutant.search")
    code = f"import sys, json, mutant.serving.pages; print(json.dumps([n for n in {heavy!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
