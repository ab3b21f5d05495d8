"""The documentation builds without warnings, loads nothing from other hosts, and contains what it refers to."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import chromium, new_context

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site needs mkdocs-material and mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_reference_contains_the_docstrings(site: Path) -> None:
    text = (site / "reference/client/index.html").read_text()
    for name in ("get_token_cache_summary", "forecast_cost", "get_top_cache_savings"):
        assert f'id="rlm_cachetrack.client.facade.TimescaleDBClient.{name}"' in text
    assert "runs with the largest cache savings" in text


def test_every_install_line_works_before_a_release_too() -> None:
    """A page that names the package on PyPI also explains how to install a checkout, or links to such a page."""
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    naming = [page for page in pages if "pip install 'rlm_cachetrack" in page.read_text()]
    assert len(naming) > 10
    for page in naming:
        text = page.read_text()
        assert "pip install '.[" in text or "quick-start.md#install" in text, page


def test_every_linked_picture_and_page_exists(site: Path) -> None:
    for page in site.rglob("*.html"):
        for name in re.findall(r'(?:src|href)="([^"#?]+)', page.read_text()):
            if name.startswith("/") or ":" in name or page.name == "404.html":
                continue
            target = (page.parent / name).resolve()
            assert target.exists(), f"{page.relative_to(site)} names {name}"


def test_the_site_contains_the_pages_from_the_root_of_the_repository(site: Path) -> None:
    for name, words in (
        ("changelog", "Keep a Changelog"),
        ("contributing", "How to add"),
        ("architecture", "One call, from the SDK to SQL and back"),
    ):
        assert words in (site / name / "index.html").read_text()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Do not write to stderr."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Yield the address of a server for the site: browsers do not search a site that is opened as files."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_search_finds_the_page_for_a_word(address: str) -> None:
    with chromium() as browser, new_context(browser) as context:
        for words, expected in (("fastapi", "recipes/fastapi/"), ("langchain", "recipes/langchain/")):
            page = context.new_page()
            assert expected in first_result(page, address, words), words
            page.close()


def first_result(page: Any, address: str, words: str) -> str:
    """Return the address of the first page that the search finds.

    On a busy machine the search of a page sometimes does not load; the page is then loaded again.
    """
    found = page.locator(".md-search-result__link").first
    for _ in range(10):
        page.goto(address)
        page.locator(".md-search__input").fill(words)
        reload_at = time.monotonic() + 20
        while time.monotonic() < reload_at:
            if found.is_visible():
                return str(found.get_attribute("href"))
            page.wait_for_timeout(100)
    raise AssertionError(f"the search finds nothing for {words}")


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert re.findall(r'<script[^>]+src="https?:', text) == []
        assert re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="https?:', text) == []
        assert re.findall(r'<img[^>]+src="https?:', text) == []
