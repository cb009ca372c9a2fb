"""The page in a real browser: it answers, shows the model and the runs, follows what changes, and anyone can use it."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path as FilePath
from typing import Any

import pytest
from page_server import ADMIN, KEYS, serving_page
from page_visits import DESK, PHONE, Open, answered, browsing, looked_at, visiting
from PIL import Image
from served import grow_two, running
from storage_samples import grow, grow_segment, new_store, planned, sample_golden, sample_task, trained

from mutant.outcome import Failed
from mutant.storage.records import SegmentKey
from mutant.storage.store import Store

pytestmark = pytest.mark.slow
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the page of a database until all that was opened of it is closed."""
    with ExitStack() as servers:
        yield lambda database, keys={}: servers.enter_context(serving_page(database, keys))


@pytest.fixture
def faults() -> list[str]:
    """What the browser complained about; a test that makes it complain takes that out."""
    return []


@pytest.fixture
def visit(browser: Any, serve: Serve, faults: list[str]) -> Iterator[Open]:
    with visiting(browser, faults) as opened:
        yield opened


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole server of two tasks of digits that a tiny network has learnt."""
    with running(grow_two(tmp_path_factory.mktemp("real"))) as server:
        yield server.url


@pytest.fixture
def toy(tmp_path: FilePath, serve: Serve) -> Iterator[tuple[Store, str]]:
    """A system of three tasks made by hand, open for writing, and its page."""
    with new_store(tmp_path, "birds", "fish", "ants") as store:
        grow(store, "birds", "fish", "ants")
        yield store, serve(tmp_path / "mutant.db")


@pytest.fixture
def many(tmp_path: FilePath, serve: Serve) -> str:
    names = [f"task_number_{number}" for number in range(40)]
    with new_store(tmp_path, *names) as store:
        grow(store, *names)
    return serve(tmp_path / "mutant.db")


def png(colour: str = "white", size: int = 16) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(written, "PNG")
    return written.getvalue()


def widest(page: Any) -> int:
    """How many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


# Asking


def test_an_image_that_is_chosen_is_answered_by_every_task(visit: Open, real: str) -> None:
    page = visit(real)
    page.set_input_files("#file", {"name": "white.png", "mimeType": "image/png", "buffer": png()})
    answered(page, 2)
    for task in ("low", "high"):
        card = page.locator(f".answer[data-task={task}]")
        first = float(card.locator(".sure span").inner_text().rstrip("%"))
        rest = [float(text.rstrip("%")) for text in card.locator(".rest span:last-child").all_inner_texts()]
        assert abs(first + sum(rest) - 100) < 0.3
        assert first >= max(rest)
    assert "2 tasks answered" in page.inner_text("#outcome")


def test_a_sample_is_answered_as_the_network_does(visit: Open, real: str) -> None:
    page = visit(real)
    page.click(".thumb[data-key='2 of high']")
    answered(page, 2)
    shown = page.inner_text(".answer[data-task=high] .top-label b")
    png = page.request.get(f"{real}/api/samples/high/1").body()
    told = page.request.post(
        f"{real}/predict", multipart={"image": {"name": "a", "mimeType": "image/png", "buffer": png}}
    )
    labels = {each["task"]: each["labels"] for each in told.json()["answers"]}
    assert shown == labels["high"][0]["label"]
    assert page.get_attribute(".thumb[data-key='2 of high']", "aria-pressed") == "true"


def test_a_sample_that_did_not_come_is_asked_for_again(visit: Open, real: str, faults: list[str]) -> None:
    page = visit(real)
    page.wait_for_selector(".thumb img[src^=blob]")
    page.route("**/api/samples/low/*", lambda route: route.abort())
    with page.expect_event("requestfailed") as failed:
        page.click("[data-key=more]")
    page.unroute("**/api/samples/low/*")
    index = int(failed.value.url.rpartition("/")[2])
    page.click(f".thumb[data-key='{index + 1} of low']")
    answered(page, 2)
    assert all("Failed to load" in fault for fault in faults)
    faults.clear()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(visit: Open, real: str, event: str) -> None:
    page = visit(real)
    page.evaluate(
        """async ([event, numbers]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(numbers)], "image.png", { type: "image/png" }));
            document.dispatchEvent(event === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        [event, list(png("black"))],
    )
    answered(page, 2)


def test_what_is_no_image_is_refused_in_words(visit: Open, real: str, faults: list[str]) -> None:
    page = visit(real)
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.wait_for_selector("#outcome.fault")
    assert "image" in page.inner_text("#outcome")
    assert page.locator(".answer .top-label").count() == 0
    assert all("422" in fault for fault in faults)
    faults.clear()


# The model


def test_hovering_a_task_lights_its_path(visit: Open, toy: tuple[Store, str]) -> None:
    store, url = toy
    page = visit(url)
    page.hover(".heads button[data-task=fish]")
    page.wait_for_selector("#picture.lit[data-lit=fish]")
    lit = set(page.eval_on_selector_all(".box.on", "nodes => nodes.map(node => node.dataset.digest)"))
    path = store.best("fish")
    assert path is not None
    assert lit == {part.digest for part in path.parts}
    assert page.eval_on_selector_all(".route.on", "nodes => nodes.map(node => node.dataset.task)") == ["fish"]
    page.mouse.move(5, 5)
    page.wait_for_selector("#picture:not(.lit)")


def test_a_component_shows_blame_and_impact(visit: Open, toy: tuple[Store, str]) -> None:
    store, url = toy
    page = visit(url)
    path = store.best("fish")
    assert path is not None
    page.click(f".box[data-digest='{path.slots['head'].digest}']", position={"x": 6, "y": 6})
    page.wait_for_selector("[data-part=blame]")
    assert "Trained by 2 fish in run 1" in " ".join(page.inner_text("[data-part=blame]").split())
    assert "1 of 3 tasks breaks without it" in page.inner_text("[data-part=impact]")
    page.click(f".box[data-digest='{path.slots['embedding'].digest}']", position={"x": 6, "y": 6})
    page.wait_for_selector("[data-part=impact]:has-text('3 of 3 tasks break')")
    assert "Pretrained" in page.inner_text("[data-part=blame]")
    page.click("#component .close")
    page.wait_for_selector("#component .blank", state="attached")


def test_the_keyboard_alone_is_enough(visit: Open, toy: tuple[Store, str]) -> None:
    _, url = toy
    page = visit(url)
    page.wait_for_selector(".heads button")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.heads') !== null"):
            break
    first = page.evaluate("document.activeElement.dataset.task")
    page.wait_for_selector(f"#picture.lit[data-lit={first}]")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.task")
    assert second != first
    page.wait_for_selector(f"#picture.lit[data-lit={second}]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-part=blame]")
    ring = page.evaluate("getComputedStyle(document.activeElement.querySelector('.ring')).opacity")
    assert float(ring) > 0
    page.keyboard.press("Escape")
    page.wait_for_selector("#component .blank", state="attached")
    page.focus(".plot")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".tip:not([hidden])")
    assert "generation 1" in page.inner_text(".tip:not([hidden])")


def test_what_has_the_focus_is_not_under_the_names_of_the_rows(visit: Open, many: str) -> None:
    page = visit(many, PHONE)
    page.wait_for_selector(".heads button")
    page.focus(".heads button")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.task") == "task_number_39"
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
        left = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert left >= page.evaluate("document.querySelector('.names').getBoundingClientRect().right") - 5


# The runs


def test_winners_of_one_quality_stand_side_by_side(visit: Open, serve: Serve, tmp_path: FilePath) -> None:
    with new_store(tmp_path, "birds", "fish") as store:
        run, root = store.begin_run({"children": 2}, ["birds", "fish"]), store.root()
        for segment in run.segments:
            plans = [planned(segment.task, root, child) for child in range(2)]
            store.plan_generation(segment.key, 0, plans)
            outcomes = [trained(plan, root, quality=quality) for plan, quality in zip(plans, (0.9, 0.95), strict=True)]
            for plan, outcome in zip(plans, outcomes, strict=True):
                store.commit_outcome(segment.key, 0, plan.child, outcome)
            path = outcomes[0].path
            golden = sample_golden(path, store.components(part.digest for part in path.parts))
            store.finish_segment(segment.key, path.id, golden)
        store.finish_run(run.id)
    page = visit(serve(tmp_path / "mutant.db"))
    page.wait_for_selector(".chart:last-child .crown")
    first, second = (crown.bounding_box() for crown in page.locator(".chart:last-child .crown rect").all())
    assert second["x"] - first["x"] >= 17  # as wide as a badge
    assert first["y"] == pytest.approx(second["y"])
    dot = page.locator(".chart:last-child .dot[data-task=fish]").last.bounding_box()
    assert dot["x"] + dot["width"] / 2 == pytest.approx(first["x"] + first["width"] / 2, abs=1)
    assert [text.split()[0] for text in page.locator(".segment .told").all_inner_texts()] == ["90.0%", "90.0%"]


# Live


def test_a_new_task_and_a_finished_child_appear_without_reload(visit: Open, toy: tuple[Store, str]) -> None:
    store, url = toy
    page = visit(url)
    page.wait_for_selector(".cell")
    page.evaluate("window.same = true")
    store.add_task(sample_task("cars"))
    run = store.begin_run({"children": 2}, ["cars"])
    page.wait_for_selector("#pulse[data-state=live]")
    page.wait_for_selector(".segment[data-task=cars] .cell.later")
    key, root = SegmentKey(run.id, 0), store.root()
    plans = [planned("cars", root, child) for child in range(2)]
    store.plan_generation(key, 0, plans)
    page.wait_for_selector(".segment[data-task=cars] .cell.QUEUED")
    store.commit_outcome(key, 0, 0, trained(plans[0], root, quality=0.625))
    page.wait_for_selector(".segment[data-task=cars] .cell.DONE")
    assert "62.5%" in page.inner_text(".segment[data-task=cars]")
    store.commit_outcome(key, 0, 1, Failed(plans[1].candidate.id, "error", "made to fail"))
    page.wait_for_selector(".segment[data-task=cars] .cell.FAILED")
    store.abandon_run(run.id)
    again = store.begin_run({"children": 2}, ["cars"])
    grow_segment(store, SegmentKey(again.id, 0), "cars", root, seed=9)
    store.finish_run(again.id)
    page.wait_for_selector(".heads button[data-task=cars]")
    page.wait_for_selector("#table tr[data-task=cars]")
    page.wait_for_selector("#news:not(:empty)")
    assert page.evaluate("window.same")


def test_a_server_that_goes_away_is_told(visit: Open, tmp_path: FilePath, faults: list[str]) -> None:
    with new_store(tmp_path, "birds") as store:
        grow(store, "birds")
    with serving_page(tmp_path / "mutant.db") as url:
        page = visit(url)
        page.wait_for_selector(".box")
    page.wait_for_selector("#pulse[data-state=down]")
    assert page.locator(".box").count() > 0
    faults.clear()


# Energy


def with_energy(page: Any, joules: dict[str, float]) -> None:
    """Open the page anew, with what the training of some tasks drew."""

    def answer(route: Any) -> None:
        response = route.fetch()
        view = response.json()
        for task in view["tasks"]:
            task["energy_joules"] = joules.get(task["task"])
        route.fulfill(response=response, body=json.dumps(view))

    page.route("**/api/tasks", answer)
    page.reload()
    page.wait_for_selector("#table tr[data-task=ants]")


def test_energy_has_a_column_only_where_it_was_measured(visit: Open, toy: tuple[Store, str]) -> None:
    _, url = toy
    page = visit(url, PHONE)
    with_energy(page, {})
    assert "Energy" not in page.locator("#table thead th").all_text_contents()
    assert page.locator("#table [data-label=Energy]").count() == 0
    page.unroute_all()
    with_energy(page, {"birds": 5400.0, "fish": 812.4})
    assert "Energy" in page.locator("#table thead th").all_text_contents()
    cells = "#table tr[data-task={}] [data-label=Energy] span"
    shown = {task: page.inner_text(cells.format(task)) for task in ("birds", "fish", "ants")}
    assert shown == {"birds": "5.40 kJ", "fish": "812 J", "ants": "–"}
    assert page.locator("#table tbody tr:first-child > *").count() == page.locator("#table thead th").count()
    assert widest(page) <= 0
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    assert page.locator("#table thead th:has-text('Energy')").is_visible()
    assert widest(page) <= 0


# Every size, mode and visitor


@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_a_phone_has_no_scroll_to_the_side(visit: Open, serve: Serve, tmp_path: FilePath, tasks: int) -> None:
    names = ["birds", "a_task_with_a_name_that_is_as_long_as_names_may_be_x" + "y" * 10, "ants"][:tasks]
    with new_store(tmp_path, *names) as store:
        if names:
            grow(store, *names)
    url = serve(tmp_path / "mutant.db")
    page = visit(url, PHONE)
    page.wait_for_selector(".box")
    assert widest(page) <= 0
    assert page.locator("#run .empty").count() == (tasks == 0)


def test_many_tasks_scroll_inside_the_picture_only(visit: Open, many: str) -> None:
    for size in (PHONE, DESK):
        page = visit(many, size)
        page.wait_for_selector(".heads button")
        assert widest(page) <= 0
        assert page.evaluate("(one => one.scrollWidth > one.clientWidth)(document.querySelector('.scroll'))")
        assert page.locator(".heads button").count() == page.locator(".answer").count() == 40


def test_axe_finds_nothing_serious(visit: Open, real: str) -> None:
    page = visit(real, reduced_motion="reduce", bypass_csp=True)
    page.click(".thumb")
    answered(page, 2)
    page.click(".box", position={"x": 4, "y": 4})
    page.wait_for_selector("[data-part=impact]")
    page.click(".every summary")
    assert looked_at(page) == []


def test_an_empty_system_passes_axe_too(visit: Open, serve: Serve, tmp_path: FilePath) -> None:
    with new_store(tmp_path):
        pass
    url = serve(tmp_path / "mutant.db")
    page = visit(url, reduced_motion="reduce", bypass_csp=True)
    page.wait_for_selector(".box")
    assert looked_at(page, sizes=[DESK]) == []


def test_an_admin_removes_a_task_and_brings_it_back(
    visit: Open, serve: Serve, tmp_path: FilePath, faults: list[str]
) -> None:
    with new_store(tmp_path, "birds", "fish") as store:
        grow(store, "birds", "fish")
    url = serve(tmp_path / "mutant.db", KEYS)
    page = visit(url)
    page.fill("dialog input", ADMIN)
    page.click("dialog .strong")
    page.click("[data-key='remove birds']")
    page.click("dialog[aria-label='Remove birds?'] .strong")
    page.click("dialog[aria-label='Remove birds all the same?'] .strong")
    page.wait_for_selector("#table tr[data-task=birds]", state="detached")
    assert all("409" in fault for fault in faults)
    faults.clear()
    assert [task.name for task in store_tasks(tmp_path)] == ["fish"]
    page.click("[data-key='restore birds']")
    page.wait_for_selector("#table tr[data-task=birds]")
    assert [task.name for task in store_tasks(tmp_path)] == ["birds", "fish"]


def store_tasks(where: FilePath) -> tuple[Any, ...]:
    with Store.open(str(where / "mutant.db"), read_only=True) as store:
        return store.tasks()
