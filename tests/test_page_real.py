"""The page on a real server with keys: what each may do, lineage by mouse and by keyboard, and a run that goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import pytest
from growing import digits_file, go_on
from page_visits import Open, answered, browsing, looked_at, tabbed_to, visiting
from served import PNG, QUICK, Running, best, eventually, grow_two, running

from mutant.path import Path
from mutant.search.growth import begin
from mutant.search.progress import ChildBegun, Progress
from mutant.storage import keys
from mutant.storage.removal import remove
from mutant.storage.store import Store
from mutant.tasks.load import load

pytestmark = pytest.mark.slow
STILL = {"reduced_motion": "reduce", "bypass_csp": True}
"""What axe-core needs of a page."""


@dataclass(frozen=True)
class System:
    """A server of the tasks low and high, its database, and a key of each scope."""

    here: Running
    database: FilePath
    read: str
    admin: str

    def path(self, task: str) -> Path:
        with Store.open(str(self.database), read_only=True) as store:
            return best(store, task)

    def tasks(self) -> list[str]:
        with Store.open(str(self.database), read_only=True) as store:
            return [task.name for task in store.tasks()]

    def answer(self, task: str) -> Any:
        """What a task answers to an image: its version and labels with probabilities."""
        headers = {"Authorization": f"Bearer {self.read}"}
        told = self.here.client.post(f"/tasks/{task}/predict", content=PNG, headers=headers)
        assert told.status_code == 200
        return told.json()["answers"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[System]:
    del browser  # without one, nothing has to be grown
    database = grow_two(tmp_path_factory.mktemp("real"))
    with Store.open(str(database)) as store:
        read, admin = keys.make(store, "reader"), keys.make(store, "owner", "admin")
    with running(database) as here:
        yield System(here, database, read, admin)


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    with visiting(browser, []) as opened:
        yield opened


def entered(page: Any, key: str) -> None:
    """Give the key that the dialog asks for, and wait for the model's picture."""
    page.fill("dialog input", key)
    page.click("dialog .strong")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector(".heads button")
    page.wait_for_selector("#table tbody tr")


def status(page: Any, method: str, url: str) -> int:
    """How the server answers the page when it asks with the key that it holds; not through the page's own code."""
    key = page.evaluate("sessionStorage.getItem('mutant-api-key') ?? ''")
    return page.request.fetch(url, method=method, headers={"Authorization": f"Bearer {key}"}).status


# Keys


def test_without_an_admin_key_the_page_only_reads(visit: Open, system: System) -> None:
    page = visit(system.here.url, **STILL)
    page.wait_for_selector("dialog input")
    assert "Needs a key" in page.inner_text("#pulse")
    assert page.locator("#table tr, .box, .thumb").count() == 0
    assert status(page, "DELETE", f"{system.here.url}/tasks/high") == 401
    assert looked_at(page) == []
    page.fill("dialog input", "wrong")
    page.click("dialog .strong")
    page.wait_for_selector("dialog:has-text('does not know')")
    entered(page, system.read)
    page.click(".thumb")
    answered(page, 2)
    assert page.locator("#table .danger").count() == 0
    assert status(page, "DELETE", f"{system.here.url}/tasks/high") == 403
    assert system.tasks() == ["low", "high"]
    page.reload()
    page.wait_for_selector(".box")
    assert page.locator("dialog").count() == 0
    assert page.evaluate("localStorage.length") == 0


def test_an_admin_removes_a_task_and_brings_it_back_by_mouse(visit: Open, system: System) -> None:
    def press(query: str) -> None:
        page.click(query)

    page = visit(system.here.url)
    entered(page, system.admin)
    assert page.inner_text("#key") == "Admin key"
    removed_and_restored(page, system, press)


def test_an_admin_removes_a_task_and_brings_it_back_by_keyboard(visit: Open, system: System) -> None:
    def press(query: str) -> None:
        tabbed_to(page, query)
        page.keyboard.press("Enter")

    page = visit(system.here.url)
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type(system.admin)
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-key='remove high']")
    removed_and_restored(page, system, press)


def removed_and_restored(page: Any, system: System, press: Callable[[str], None]) -> None:
    """Take the task high out through the page and bring it back, while low does not notice."""
    before = {task: page.inner_text(f"#table tr[data-task={task}]") for task in ("low", "high")}
    answers = {task: system.answer(task) for task in ("low", "high")}
    press("[data-key='remove high']")
    page.wait_for_selector("dialog[aria-label='Remove high?']")
    press("dialog .strong")
    page.wait_for_selector("#table tr[data-task=high]", state="detached")
    page.wait_for_selector(".heads button[data-task=high]", state="detached")
    page.wait_for_selector(".answer[data-task=high]", state="detached")
    page.wait_for_selector("#news:has-text('high removed')")
    assert system.tasks() == ["low"]
    eventually(lambda: "high" not in system.here.service.snapshot.served)
    assert system.answer("low") == answers["low"]
    assert page.locator(".heads button[data-task=low]").count() == 1
    press("[data-key='restore high']")
    page.wait_for_selector("#table tr[data-task=high]")
    page.wait_for_selector(".heads button[data-task=high]")
    assert system.tasks() == ["low", "high"]
    eventually(lambda: "high" in system.here.service.snapshot.served)
    assert {task: system.answer(task) for task in ("low", "high")} == answers
    assert {task: page.inner_text(f"#table tr[data-task={task}]") for task in ("low", "high")} == before


def test_axe_finds_nothing_serious_in_what_an_admin_sees(visit: Open, system: System) -> None:
    page = visit(system.here.url, **STILL)
    entered(page, system.admin)
    page.wait_for_selector("#table .danger")
    assert looked_at(page) == []
    page.click("[data-key='remove high']")
    page.wait_for_selector("dialog[aria-label='Remove high?']")
    assert looked_at(page) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert system.tasks() == ["low", "high"]


# Lineage


def test_a_path_lights_up_and_a_component_tells_its_lineage_by_mouse(visit: Open, system: System) -> None:
    page = visit(system.here.url)
    entered(page, system.read)
    page.hover(".heads button[data-task=high]")
    lit_up(page, system)
    page.mouse.move(5, 5)
    page.wait_for_selector("#picture:not(.lit)")
    head = system.path("high").slots["head"].digest
    page.click(f".box[data-digest='{head}']", position={"x": 6, "y": 6})
    lineage_is_shown(page)
    page.click("#component .close")
    page.wait_for_selector("#component .blank", state="attached")


def test_a_path_lights_up_and_a_component_tells_its_lineage_by_keyboard(visit: Open, system: System) -> None:
    page = visit(system.here.url)
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type(system.read)
    page.keyboard.press("Enter")
    page.wait_for_selector(".heads button")
    tabbed_to(page, ".heads button")
    page.keyboard.press("End")
    lit_up(page, system)
    page.keyboard.press("ArrowDown")
    head = system.path("high").slots["head"].digest
    assert page.evaluate("document.activeElement.dataset.digest") == head
    page.keyboard.press("Enter")
    lineage_is_shown(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#component .blank", state="attached")


def lit_up(page: Any, system: System) -> None:
    page.wait_for_selector("#picture.lit[data-lit=high]")
    lit = set(page.eval_on_selector_all(".box.on", "nodes => nodes.map(node => node.dataset.digest)"))
    assert lit == {part.digest for part in system.path("high").parts}
    assert page.eval_on_selector_all(".route.on", "nodes => nodes.map(node => node.dataset.task)") == ["high"]


def lineage_is_shown(page: Any) -> None:
    """The head of high, which that task trained and which it alone needs."""
    page.wait_for_selector("[data-part=blame]")
    told = " ".join(page.inner_text("[data-part=blame]").split())
    assert "Trained by 2 high in run 1, generation 1, child" in told
    assert "1 of 2 tasks breaks without it" in page.inner_text("[data-part=impact]")
    assert page.locator("[data-part=impact] .users li").count() == 1


# A run that goes on


@dataclass
class Held:
    """A listener that lets a run go on by one child each time it is told to, so that a page can be looked at."""

    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    waits: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Progress) -> None:
        if isinstance(event, ChildBegun):
            self.waits.set()
            assert self.turn.acquire(timeout=120), "nobody let the run go on"


@contextmanager
def growing_middle(database: FilePath, files: FilePath) -> Iterator[tuple[Held, threading.Thread]]:
    """A real run of two children on a new task, middle, held before each; at the end the system is as it was."""
    held, loaded = Held(), load(f"arrays:{digits_file(files, (3, 4, 5))}", name="middle")
    with Store.open(str(database)) as store:
        begin(store, ("middle",), QUICK, new=[loaded.task])
        thread = threading.Thread(target=go_on, args=(store, {"middle": loaded}), kwargs={"listener": held})
        thread.start()
        try:
            yield held, thread
        finally:
            held.turn.release(100)
            thread.join()
            remove(store, "middle", force=True)


def test_a_run_is_followed_while_it_goes_on(visit: Open, system: System, tmp_path: FilePath) -> None:
    page = visit(system.here.url, **STILL)
    entered(page, system.admin)
    page.wait_for_selector("#pulse[data-state=up]")
    page.evaluate("window.same = true")
    with growing_middle(system.database, tmp_path) as (held, thread):
        assert held.waits.wait(60)
        page.wait_for_selector("#pulse[data-state=live]:has-text('goes on')")
        page.wait_for_selector(".run-head .state.open:has-text('going on')")
        page.wait_for_selector(".segment[data-task=middle] .cell.RUNNING")
        assert points(page) == 0
        held.turn.release()
        page.wait_for_function(f"({POINTS}) === 1")
        assert page.locator("#pulse[data-state=live]").count() == 1
        assert page.locator(".heads button[data-task=middle]").count() == 0
        assert looked_at(page) == []
        held.turn.release()
        page.wait_for_selector("#pulse[data-state=up]")
        page.wait_for_selector("#news:has-text('has ended; middle answers now')")
        page.wait_for_selector(".run-head .state.finished")
        assert points(page) == 2
        for place in (".heads button", "#table tr", ".answer", ".segment.finished"):
            page.wait_for_selector(f"{place}[data-task=middle]")
        thread.join(60)
        assert not thread.is_alive()
        eventually(lambda: "middle" in system.here.service.snapshot.served)
        page.click(".thumb")
        answered(page, 3)
        assert page.evaluate("window.same")


POINTS = "document.querySelectorAll('.chart:first-child .dot[data-task=middle], .chart:first-child .crown').length"


def points(page: Any) -> int:
    """Children in the first chart of the run that is shown, the winner among them."""
    return page.evaluate(POINTS)
