"""Drive the system's Chromium with Playwright, without downloading a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

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
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


def collect_problems(page: Any) -> list[str]:
    """Return the list to which the page's errors, error messages and dialogs are added as they occur."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
    return problems


def machine_load() -> float:
    """Return how many processes want to run per core, at least 1. Time limits are multiplied by it."""
    waiting = os.getloadavg()[0]
    with suppress(OSError):  # the average over a minute follows a burst late; macOS has only the average
        waiting = max(waiting, float(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]))
    return max(1.0, waiting / (os.cpu_count() or 1))


def wait_until(page: Any, condition: str, timeout_s: float = 20.0) -> None:
    """Wait until a JavaScript condition holds. Playwright's own function for it is forbidden by the page's policy."""
    timeout_s *= machine_load()
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {condition}"
        page.wait_for_timeout(20)


def open_page(page: Any, url: str) -> None:
    """Open a page of the dashboard and wait until its charts are drawn."""
    page.goto(url)
    charts = page.locator("figure.chart").count()
    if charts:
        wait_until(page, f"document.querySelectorAll('.plot .main-svg').length >= {charts}")
