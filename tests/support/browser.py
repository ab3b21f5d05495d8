"""The system's Chromium, driven by Playwright; none is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_CHOSEN = os.environ.get("RLM_CACHETRACK_TEST_CHROMIUM")


def executable() -> str | None:
    """Where it is, None where there is none."""
    return _CHOSEN or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips the test with the reason where there is none."""
    path = executable()
    if path is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(_NAMES)} is on the PATH")
    api = pytest.importorskip("playwright.sync_api", reason="the tests of the pages need playwright")
    # Root has no sandbox; a container's /dev/shm is too small for the browser.
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()
