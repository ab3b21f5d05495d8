"""The dashboard in a real browser: new calls appear without a reload, and database outages are shown."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.store import embedded
from rlm_cachetrack.store.engine import detect
from tests.support.browser import drawn, new_context, open_page, wait_until
from tests.support.servers import own_server_folder
from tests.support.web import record, served, store_runs

pytest.importorskip("fastapi", reason="the dashboard needs its extra")


def test_a_new_call_appears_without_reload(page: Any, address: str, stored: str) -> None:
    run = datetime.now(UTC)
    with TimescaleDBClient(stored) as db:
        db.record_llm_interaction(record("seen-live", run, prompt_tokens=100, cached_tokens=0))
        db.flush()
        open_page(page, f"{address}/run?{urlencode({'query_id': 'seen-live', 'run_id': run.isoformat()})}")
        page.evaluate("window.stayed = true")
        page.locator(".scroll").last.focus()
        db.record_llm_interaction(record("seen-live", run, 1, prompt_tokens=300, cached_tokens=200))
        db.flush()
        both = "document.querySelectorAll('#calls tbody tr').length === 2"
        wait_until(page, f"{both} && document.querySelector('dl.cards data').value === '0.5'")  # 200 of 400
        assert page.evaluate("window.stayed")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Calls"
        page.locator("#figure-evolution").scroll_into_view_if_needed()
        wait_until(page, f"{drawn('evolution')}[0][2].length === 2")
        db.delete(query_id="seen-live")
    assert page.problems == []


def test_more_pages_than_browser_connections_are_live(browser: Any, address: str, stored: str) -> None:
    """Browsers allow six connections to a server, which one event stream per page would exhaust."""
    run = datetime.now(UTC)
    path = f"{address}/runs?search=many-pages"  # a page without charts, which is drawn quickly
    with TimescaleDBClient(stored) as db, new_context(browser) as context:
        db.record_llm_interaction(record("many-pages", run, prompt_tokens=100, cached_tokens=0))
        db.flush()
        pages = [context.new_page() for _ in range(8)]
        for page in pages:
            page.goto(path)
        for number in (2, 3):  # also after the first page is closed
            db.record_llm_interaction(record("many-pages", run, number, prompt_tokens=100, cached_tokens=0))
            db.flush()
            numbers = "Array.from(document.querySelectorAll('tbody data'), one => one.value)"
            for page in pages:
                wait_until(page, f"{numbers}.includes('{number}')")
            pages.pop(0).close()
        db.delete(query_id="many-pages")


def test_five_tabs_over_a_slow_database_show_a_new_call(browser: Any, db_url: str) -> None:
    """Each tab's query takes 0.25 s, as at a million calls; cached responses must expire when a call is stored."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        if detect(connection).timescale:
            pytest.skip("the suite itself runs on TimescaleDB, whose hours are no view that can be made slow")
        connection.execute("ALTER VIEW cache_usage_hourly RENAME TO quick")
        connection.execute("CREATE VIEW cache_usage_hourly AS SELECT h.* FROM quick AS h, pg_sleep(0.25)")
    paths = ("/", "/?range=24h", "/?range=30d", "/models", "/?range=all&model=tuned")
    with TimescaleDBClient(db_url) as db, served(db_url) as address:
        db.record_llm_interaction(record("tabs", datetime.now(UTC), prompt_tokens=100, cached_tokens=0))
        db.flush()
        with new_context(browser) as context:
            pages = [context.new_page() for _ in paths]
            for page, path in zip(pages, paths, strict=True):
                page.goto(address + path)
                assert page.evaluate("document.visibilityState") == "visible"
            for number in (2, 3):
                db.record_llm_interaction(record("tabs", datetime.now(UTC), prompt_tokens=100, cached_tokens=0))
                db.flush()
                calls = "Array.from(document.querySelectorAll('#content data'), one => one.value)"
                for page in pages:
                    wait_until(page, f"{calls}.includes('{number}')")


def test_a_browser_without_shared_workers_is_live_too(browser: Any, address: str, stored: str) -> None:
    run = datetime.now(UTC)
    with TimescaleDBClient(stored) as db, new_context(browser) as context:
        context.add_init_script("delete window.SharedWorker")
        db.record_llm_interaction(record("no-worker", run, prompt_tokens=100, cached_tokens=0))
        db.flush()
        page = context.new_page()
        page.goto(f"{address}/run?{urlencode({'query_id': 'no-worker', 'run_id': run.isoformat()})}")
        assert page.evaluate("window.SharedWorker") is None
        db.record_llm_interaction(record("no-worker", run, 1, prompt_tokens=100, cached_tokens=0))
        db.flush()
        wait_until(page, "document.querySelectorAll('#calls tbody tr').length === 2")
        db.delete(query_id="no-worker")


@pytest.fixture(scope="module")
def server_folder() -> Iterator[Path]:
    """Return the data folder of a PostgreSQL server that a test may stop, with the runs of ``store_runs``."""
    with own_server_folder() as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RLM_CACHETRACK_STATE_DIR", str(folder / "state"))
            store_runs(embedded.ensure_running(folder))
        yield folder


@pytest.fixture(scope="module")
def unsteady_address(server_folder: Path) -> Iterator[str]:
    """Yield the address of a dashboard for that server."""
    with served(embedded.ensure_running(server_folder)) as address:
        yield address


def postmaster(folder: Path) -> int:
    return int(next(folder.glob("postgres-*/**/postmaster.pid")).read_text().split()[0])


def kill(folder: Path) -> None:
    """Kill the server with SIGKILL, as the system does when memory runs out."""
    os.kill(postmaster(folder), signal.SIGKILL)


SUMS = "dl.cards:not(.lead)"
"""Cards that change with the stored calls only, neither with the time nor while runs are being explained."""


def open_overview(page: Any, address: str) -> str:
    """Open the overview of a day and return the text of its sums."""
    open_page(page, address + "/?range=24h")
    return str(page.inner_text(SUMS))


@pytest.mark.parametrize("end", [embedded.stop, kill], ids=["stopped", "killed"])
def test_the_page_reports_a_stopped_database_and_recovers(
    end: Callable[[Path], object], page: Any, server_folder: Path, unsteady_address: str
) -> None:
    url = embedded.ensure_running(server_folder)
    shown = open_overview(page, unsteady_address)
    end(server_folder)
    wait_until(page, "document.getElementById('notice').textContent.includes('not responding')")
    assert page.inner_text(SUMS) == shown
    with contextlib.closing(page.context.new_page()) as other:
        other.goto(unsteady_address + "/models")
        assert "The database is not responding" in other.inner_text("h1")
        assert embedded.ensure_running(server_folder) == url
        wait_until(page, "document.getElementById('notice').textContent === ''")
        other.wait_for_selector("text=USD per million prompt and completion tokens")
    query_id = f"after-{end.__name__}"
    assert query_id not in page.inner_text("body")
    with TimescaleDBClient(url) as db:
        db.record_llm_interaction(record(query_id, datetime.now(UTC), prompt_tokens=1, cached_tokens=0))
    wait_until(page, f"document.body.innerText.includes('{query_id}')")


def test_the_page_reports_a_hanging_database_and_recovers(
    page: Any, server_folder: Path, unsteady_address: str
) -> None:
    """If the server's machine hangs or the network drops all packets, a query gets neither a result nor an error."""
    stopped: list[int] = []
    try:
        with psycopg.connect(embedded.ensure_running(server_folder), autocommit=True) as connection:
            shown = open_overview(page, unsteady_address)
            stopped.append(postmaster(server_folder))  # first, so that no other connection is accepted
            os.kill(stopped[0], signal.SIGSTOP)
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            for (pid,) in connection.execute(query).fetchall():
                stopped.append(pid)
                os.kill(pid, signal.SIGSTOP)
            wait_until(page, "document.getElementById('notice').textContent.includes('no response for 5 seconds')")
            assert page.inner_text(SUMS) == shown
            resume(stopped)
            wait_until(page, "document.getElementById('notice').textContent === ''")
    finally:
        resume(stopped)


def resume(stopped: list[int]) -> None:
    while stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped.pop(), signal.SIGCONT)
