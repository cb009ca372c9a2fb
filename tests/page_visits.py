"""A browser for the page: pages of any size and mode, and what the browser and axe-core find wrong with them."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, DESK = (360, 740), (1440, 900)
Open = Callable[..., Any]


def chromium() -> str:
    """The browser of $MUTANT_CHROMIUM or on the PATH; skips the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("MUTANT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("needs a Chromium on the PATH, or its path in $MUTANT_CHROMIUM")
    return found


@contextmanager
def browsing() -> Iterator[Any]:
    """A headless Chromium; skips the test where Playwright or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = chromium()
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Any, faults: list[str]) -> Iterator[Open]:
    """Opens pages of the browser; at the end none may have met an error, or have asked another host.

    What the browser complains about goes to `faults`; a test that makes it complain takes that out.
    """
    contexts: list[Any] = []

    def opened(url: str, size: tuple[int, int] = DESK, **settings: Any) -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith((url, "blob:")) else faults.append(sent.url))
        page.goto(url)
        page.wait_for_selector("#pulse[data-state]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def looked_at(
    page: Any, sizes: Sequence[tuple[int, int]] = (PHONE, DESK), schemes: Sequence[str] = ("light", "dark")
) -> list[Any]:
    """What axe-core finds serious in the page as it stands, at each size and in each mode.

    The page must have been opened with `bypass_csp=True`, since axe-core is put into it, and `reduced_motion="reduce"`,
    so that no colour is on its way to another.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core").Axe()
    serious: list[Any] = []
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            serious += [
                (
                    width,
                    scheme,
                    fault["id"],
                    [node["target"] for node in fault["nodes"]][:3],
                    fault["nodes"][0]["failureSummary"],
                )
                for fault in axe.run(page).response["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
    return serious


def answered(page: Any, tasks: int) -> None:
    """Wait until so many tasks have answered."""
    page.wait_for_selector(f":nth-match(.answer .top-label, {tasks})")


def tabbed_to(page: Any, selector: str, most: int = 90) -> None:
    """Press Tab until what has the focus matches the selector."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"The Tab key does not lead to {selector}.")
