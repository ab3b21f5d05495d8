"""A browser, and a dashboard with stored runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import chromium, collect_problems, new_context
from tests.support.web import served, store_runs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return the URL of a database with the runs of :func:`.store_runs`."""
    store_runs(module_db_url)
    return module_db_url


@pytest.fixture(scope="module")
def address(stored: str) -> Iterator[str]:
    """Yield the address of a dashboard for ``stored``."""
    with served(stored) as address:
        yield address


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """Yield a browser context that the pages of a module share: its cache loads the scripts once."""
    with new_context(browser) as context:
        yield context


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    """Yield an empty page that collects its errors, error messages and dialogs in ``page.problems``."""
    with contextlib.closing(context.new_page()) as page:
        page.problems = collect_problems(page)
        yield page
