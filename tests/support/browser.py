"""Drive the system's Chromium with Playwright, without downloading a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_PATIENCE_MS = 180_000
"""How long the browser may take for a step on a machine under load."""

_CHOSEN = os.environ.get("RLM_CACHETRACK_TEST_CHROMIUM")


def executable() -> str | None:
    """Return the path of the browser; None if it is not installed."""
    return _CHOSEN or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser; skip the test with the reason if it is not installed."""
    path = executable()
    if path is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(_NAMES)} is on the PATH")
    api = pytest.importorskip("playwright.sync_api", reason="the tests of the pages need playwright")
    # Chromium has no sandbox for root, and /dev/shm of a container is too small for it.
    with api.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = started.chromium.launch(executable_path=path, args=arguments, timeout=_PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_context(browser: Any, **options: Any) -> Iterator[Any]:
    """Open a browser context whose steps may take as long as a machine under load needs; takes Playwright's options."""
    with closing(browser.new_context(**options)) as context:
        context.set_default_timeout(_PATIENCE_MS)
        yield context


def collect_problems(page: Any) -> list[str]:
    """Return the list to which the page's errors, error messages and dialogs are added as they occur."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
    return problems


def wait_until(page: Any, condition: str) -> None:
    """Wait until a JavaScript condition holds. Playwright's own function for it is forbidden by the page's policy."""
    deadline = time.monotonic() + _PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {_PATIENCE_MS / 1000:g} s: {condition}"
        page.wait_for_timeout(20)


_NEXT_CHART = """(() => {
    const missing = Array.from(document.querySelectorAll("figure.chart")).find(one => !one.querySelector("canvas"));
    missing?.scrollIntoView();
    return !missing;
})()"""


def open_page(page: Any, url: str) -> None:
    """Open a page of the dashboard, scroll to each chart until it is drawn, and scroll back."""
    page.goto(url)
    wait_until(page, _NEXT_CHART)
    page.evaluate("scrollTo(0, 0)")


def drawn(figure: str) -> str:
    """Return the JavaScript expression of the drawn data sets of a chart: name, and x and y of each point."""
    plot = f"document.querySelector('[data-figure={figure}]')"
    return f"{plot}.chart.data.datasets.map(set => [set.label, set.data.map(p => p.x), set.data.map(p => p.y)])"
