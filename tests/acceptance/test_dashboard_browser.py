"""The dashboard in a real browser: charts, filters, news without reload, keyboard, axe, and a database that dies.

``RLM_CACHETRACK_PICTURES=FOLDER`` makes the pictures of the documentation there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.store import embedded
from rlm_cachetrack.store.engine import detect
from tests.conftest import _database
from tests.support.browser import chromium
from tests.support.web import BEGUN, HOSTILE, LONG, record, served, store_missed, store_runs

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

PICTURES = os.environ.get("RLM_CACHETRACK_PICTURES")  # now: the suite hides such settings from its tests
BENCH = f"/run?{urlencode({'query_id': 'bench', 'run_id': BEGUN.isoformat()})}"
STRANGE = f"/run?{urlencode({'query_id': HOSTILE, 'run_id': BEGUN.isoformat()})}"
PAGES = {
    "overview": "/?range=24h",
    "models": "/models?range=all",
    "savings": "/savings",
    "runs": "/runs",
    "run": BENCH,
    "hostile": STRANGE,
    "forecast": "/forecast",
    "health": "/health",
    "api": "/api/docs",
    "problem": "/nothing",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def stored(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        with contextlib.contextmanager(_database)(server_url, template) as url:
            store_runs(url)
            yield url


@pytest.fixture(scope="module")
def address(stored: str) -> Iterator[str]:
    with served(stored) as address:
        yield address


@pytest.fixture(scope="module")
def missed(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a run whose calls missed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        with contextlib.contextmanager(_database)(server_url, template) as url:
            store_missed(url, run_id=BEGUN)
            with served(url) as address:
                yield f"{address}/run?{urlencode({'query_id': 'missed', 'run_id': BEGUN.isoformat()})}"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with contextlib.closing(browser.new_page()) as page:
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: page.problems.append(f"a dialog: {dialog.message}"))
        yield page


def shared() -> float:
    """By how much the machine has more to do than it can: what is promised of time is of one that has none else."""
    waiting = os.getloadavg()[0]
    with contextlib.suppress(OSError):  # the average of a minute knows late of a burst; macOS has only that
        waiting = max(waiting, float(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]))
    return max(1.0, waiting / (os.cpu_count() or 1))


def until(page: Any, condition: str, timeout_s: float = 20.0) -> None:
    """Wait for something to be true in the page. Playwright's own way is forbidden by the page's policy."""
    timeout_s *= shared()
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {condition}"
        page.wait_for_timeout(20)


def open_page(page: Any, url: str) -> None:
    page.goto(url)
    charts = page.locator("figure.chart").count()
    if charts:
        until(page, f"document.querySelectorAll('.plot .main-svg').length >= {charts}")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)])
def test_every_page_is_sound(scheme: str, width: int, browser: Any, address: str, missed: str) -> None:
    """No error, nothing serious for axe, nothing wider than the window, and no request to elsewhere."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    with contextlib.closing(context):
        page = context.new_page()
        problems: list[str] = []
        asked: set[str] = set()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: asked.add(request.url))
        for name, url in {**{name: address + path for name, path in PAGES.items()}, "missed": missed}.items():
            open_page(page, url)
            found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
            serious = [
                (rule["id"], node["target"], node["failureSummary"])
                for rule in found
                if rule["impact"] in ("serious", "critical")
                for node in rule["nodes"]
            ]
            assert not serious, f"{name}: {serious}"
            if name == "missed":
                assert "prompt changed" in page.locator("#misses").inner_text()
                assert page.locator("#advice li").count() == 1
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert page.title() != "owned"
        assert [problem for problem in problems if "404" not in problem] == []
        here = (address, missed.partition("/run")[0], "data:", "blob:")
        assert {url for url in asked if not url.startswith(here)} == set()


def test_charts_show_the_numbers_of_the_tables(page: Any, address: str) -> None:
    open_page(page, address + BENCH)
    drawn = page.evaluate("document.querySelector('[data-figure=evolution]').data.map(t => [t.name, Array.from(t.y)])")
    assert drawn[0] == ["cached", [0, 500, 500, 500, 500, 500]]
    assert drawn[1] == ["not cached", [1000, 500, 500, 500, 500, 500]]
    assert [name for name, _ in drawn] == ["cached", "not cached", "hit rate"]  # nothing was written
    bars = page.evaluate("document.querySelector('[data-figure=waterfall]').data.map(t => [t.name, Array.from(t.x)])")
    assert bars == [["depth 0", [400, 402, 404]], ["depth 1", [401, 403, 405]]]
    names = page.evaluate("document.querySelector('[data-figure=waterfall]').layout.yaxis.ticktext")
    assert [name.replace("\u00a0", " ").rstrip() for name in names] == ["tuned", "   └ tuned"] * 3
    open_page(page, address + STRANGE)
    told = page.evaluate("document.querySelector('[data-figure=waterfall]').data.map(t => [t.name, t.y.length])")
    assert told == [["depth 0", 1], ["failed", 1]]
    told = page.evaluate("document.querySelector('[data-figure=evolution]').data.map(t => [t.name, Array.from(t.y)])")
    assert told == [["not cached", [0, 10]], ["not reported", [10, 0]], ["hit rate", [None, 0]]]
    assert page.problems == []


def test_filters_are_kept_in_the_address(page: Any, address: str) -> None:
    open_page(page, address + "/")
    page.select_option("select[name=range]", "all")
    page.wait_for_url("**/?range=all")
    page.select_option("select[name=model]", "tuned")
    page.wait_for_url("**/?range=all&model=tuned")
    assert page.locator("dl.cards .card:has(dt:text-is('Calls')) data").get_attribute("value") == "46"
    page.select_option("select[name=provider]", "openai")
    page.wait_for_url("**/?range=all&model=tuned&provider=openai")
    page.reload()
    assert page.input_value("select[name=provider]") == "openai"
    page.go_back()
    page.wait_for_url("**/?range=all&model=tuned")
    page.go_back()
    page.wait_for_url("**/?range=all")
    assert page.input_value("select[name=model]") == ""  # what is shown, not what was chosen on the page left
    page.click("summary >> text=Dates")
    day = BEGUN.date()
    page.fill("input[name=since]", day.isoformat())
    page.fill("input[name=until]", (day + timedelta(days=1)).isoformat())
    page.click("text=Show >> visible=true")
    page.wait_for_url(f"**since={day.isoformat()}**")
    assert page.locator("dl.cards .card:has(dt:text-is('Calls')) data").get_attribute("value") == "8"
    page.goto(address + "/runs?status=completed")
    assert set(page.locator("tbody .status").all_inner_texts()) == {"completed"}
    page.goto(address + "/runs")
    page.fill("input[name=search]", "bench")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?search=bench**")
    assert page.locator("tbody tr").count() == 1
    page.select_option("select[name=sort]", "cost")
    page.wait_for_url("**sort=cost**")
    assert page.input_value("input[name=search]") == "bench"


def test_a_new_call_appears_within_two_seconds_without_reload(page: Any, address: str, stored: str) -> None:
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
        until(page, f"{both} && document.querySelector('dl.cards data').value === '0.5'", 2.0)  # 200 of 400
        assert page.evaluate("window.stayed")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Calls"
        drawn = "Array.from(document.querySelector('[data-figure=evolution]').data[0].y).length"
        until(page, f"{drawn} === 2", 2.0)
        db.delete(query_id="seen-live")
    assert page.problems == []


def test_more_pages_than_a_browser_has_connections_are_live(browser: Any, address: str, stored: str) -> None:
    """Browsers allow six connections to a server; a stream of events for each page would hold them all."""
    run = datetime.now(UTC)
    path = f"{address}/run?{urlencode({'query_id': 'many-pages', 'run_id': run.isoformat()})}"
    with TimescaleDBClient(stored) as db, contextlib.closing(browser.new_context()) as context:
        db.record_llm_interaction(record("many-pages", run, prompt_tokens=100, cached_tokens=0))
        db.flush()
        pages = [context.new_page() for _ in range(9)]
        for page in pages:
            page.goto(path, timeout=10_000 * shared())
        for number in (2, 3):  # also when the page that came first is closed
            db.record_llm_interaction(record("many-pages", run, number, prompt_tokens=100, cached_tokens=0))
            db.flush()
            for page in pages:
                until(page, f"document.querySelectorAll('#calls tbody tr').length === {number}", 8.0)
            pages.pop(0).close()
        db.delete(query_id="many-pages")


def test_news_is_seen_in_two_seconds_by_five_tabs_of_a_slow_database(
    browser: Any, server_url: str, template: str
) -> None:
    """Each tab's query takes 0.4 s, as at a million calls: an answer from memory must not outlive the news."""
    with contextlib.contextmanager(_database)(server_url, template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            if detect(connection).timescale:
                pytest.skip("the suite itself runs on TimescaleDB, whose hours are no view that can be made slow")
            connection.execute("ALTER VIEW cache_usage_hourly RENAME TO quick")
            connection.execute("CREATE VIEW cache_usage_hourly AS SELECT h.* FROM quick AS h, pg_sleep(0.4)")
        paths = ("/", "/?range=24h", "/?range=30d", "/models", "/?range=all&model=tuned")
        with TimescaleDBClient(url) as db, served(url) as address:
            db.record_llm_interaction(record("tabs", datetime.now(UTC), prompt_tokens=100, cached_tokens=0))
            db.flush()
            with contextlib.closing(browser.new_context()) as context:
                pages = [context.new_page() for _ in paths]
                for page, path in zip(pages, paths, strict=True):
                    page.goto(address + path)
                    assert page.evaluate("document.visibilityState") == "visible"
                took = []
                for number in range(2, 7):
                    db.record_llm_interaction(record("tabs", datetime.now(UTC), prompt_tokens=100, cached_tokens=0))
                    db.flush()
                    begun = time.monotonic()
                    calls = "Array.from(document.querySelectorAll('#content data'), one => one.value)"
                    for page in pages:
                        until(page, f"{calls}.includes('{number}')")
                    took.append((time.monotonic() - begun) / shared())
                # The first may wait for the browser, which draws five pages at once.
                assert sorted(took)[-2] < 2.0, took


def test_a_browser_without_shared_workers_is_live_too(browser: Any, address: str, stored: str) -> None:
    run = datetime.now(UTC)
    with TimescaleDBClient(stored) as db, contextlib.closing(browser.new_context()) as context:
        context.add_init_script("delete window.SharedWorker")
        db.record_llm_interaction(record("no-worker", run, prompt_tokens=100, cached_tokens=0))
        db.flush()
        page = context.new_page()
        page.goto(f"{address}/run?{urlencode({'query_id': 'no-worker', 'run_id': run.isoformat()})}")
        assert page.evaluate("window.SharedWorker") is None
        db.record_llm_interaction(record("no-worker", run, 1, prompt_tokens=100, cached_tokens=0))
        db.flush()
        until(page, "document.querySelectorAll('#calls tbody tr').length === 2", 8.0)
        db.delete(query_id="no-worker")


def test_runs_are_sorted_by_a_click_on_a_head(page: Any, address: str) -> None:
    page.goto(address + "/runs?search=old")
    page.click("thead >> text=Cost")
    page.wait_for_url("**/runs?search=old&sort=cost&order=desc")
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Cost")
    page.click("thead >> text=Cost")
    page.wait_for_url("**sort=cost&order=asc")
    costs = page.locator("tbody td:nth-child(8) data").evaluate_all("all => all.map(one => Number(one.value))")
    ended = [cost for cost in costs if cost]
    assert len(ended) > 10
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Cost")


def test_a_report_opens_from_its_file_alone(page: Any, stored: str, tmp_path: Path) -> None:
    for name, charts in (("bench", 3), (HOSTILE, 2)):  # where nothing has a price, no chart of costs
        file = tmp_path / "report.html"
        result = CliRunner().invoke(app, ["report", name, "--html", str(file), "--db-url", stored])
        assert result.exit_code == 0, result.stderr
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.context.set_offline(True)
        open_page(page, file.as_uri())
        assert page.locator("figure.chart").count() == charts
        assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}
        assert page.title() != "owned"
        assert page.problems == []


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
STRANGE_NAMES = (
    HOSTILE,
    LONG,
    "\u202e\u2066\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u2069 \u200f<b>",  # from right to left
    FAMILY * 40,
    "a\u0301" * 200 + "\u0000\u001b]0;x\u0007",
)


def test_no_name_whatever_it_is_does_harm_on_any_page(
    browser: Any, server_url: str, template: str, tmp_path: Path
) -> None:
    """As query, model, provider, tier, finish reason and error, as a filter and a search, and in a report."""
    with contextlib.contextmanager(_database)(server_url, template) as url:
        with TimescaleDBClient(url) as db:
            for number, name in enumerate(STRANGE_NAMES):
                for success in (True, False):
                    moment = BEGUN + timedelta(minutes=number)
                    more = {"provider": name, "service_tier": name, "finish_reason": name, "success": success}
                    call = record(name[:2000], moment, model=name, prompt_tokens=100, cached_tokens=50, **more)
                    call.error_type = call.error_message = None if success else name
                    db.record_llm_interaction(call)
                state = "completed" if number else name
                db.complete_query_run(name[:2000], BEGUN + timedelta(minutes=number), status=state)
            assert db.flush()
            with psycopg.connect(url) as connection:  # no record may be named so; what others stored may
                for table in ("llm_interactions", "query_run_summaries", "token_cache_optimization"):
                    change = f"UPDATE {table} SET query_id = %s WHERE query_id = %s"
                    assert connection.execute(change, (LONG, LONG[:2000])).rowcount
            db.set_budget(1.0, "day", HOSTILE, model=HOSTILE)
            runs = [(run["query_id"], run["run_id"].isoformat()) for run in db.list_query_runs()]
        assert len(runs) == len(STRANGE_NAMES)
        chosen = [{"model": name} for name in STRANGE_NAMES] + [{"provider": name} for name in STRANGE_NAMES]
        paths = ["/?range=24h", "/models?range=all", "/savings", "/runs", "/forecast", "/health", "/api/docs"]
        paths += [f"/?{urlencode({'range': 'all', **one})}" for one in chosen]
        paths += [f"/runs?{urlencode({'search': name, 'status': name})}" for name in STRANGE_NAMES]
        paths += [f"/forecast?{urlencode({'model': name})}" for name in STRANGE_NAMES]
        paths += [f"/run?{urlencode({'query_id': query, 'run_id': run})}" for query, run in runs]
        narrow = browser.new_context(viewport={"width": 400, "height": 900})
        with served(url) as address, contextlib.closing(narrow) as context:
            page, problems = context.new_page(), []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
            page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
            files = []
            for number, (query, _) in enumerate(runs):
                files.append(tmp_path / f"{number}.html")
                asked = ["report", query, "--html", str(files[-1]), "--db-url", url]
                assert CliRunner().invoke(app, asked).exit_code == 0
            for where in [address + path for path in paths] + [file.as_uri() for file in files]:
                open_page(page, where)
                shown = where[:120]
                assert page.title() != "owned", shown
                assert page.locator("main img, main script:not([type='application/json']), main b").count() == 0, shown
                assert page.evaluate("document.documentElement.scrollWidth") <= 400, shown
                text = page.inner_text("main")
                assert not {"\x1b", "\u202e", "\u2066", "\x00", "\x07"} & set(text), shown
            assert problems == []
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM llm_interactions").fetchone()
            assert row == (2 * len(STRANGE_NAMES),)


def test_it_works_with_the_keyboard_alone(page: Any, address: str) -> None:
    open_page(page, address + "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "range"
    for _ in range(9):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "Runs":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs")
    assert page.locator("nav a[aria-current=page]").inner_text() == "Runs"


# What somebody with a mouse can use; of radio buttons and the like there are none.
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"
VISIBLE = "one => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true })"
FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    const seen = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0
        && box.left < innerWidth;
    return {
        place: Array.from(document.querySelectorAll(CONTROLS)).indexOf(one),
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        seen, what: one.outerHTML.slice(0, 120),
    };
}""".replace("CONTROLS", json.dumps(CONTROLS))


@pytest.mark.parametrize("width", [1280, 400])
def test_every_control_is_reached_by_the_keyboard_and_shows_that_it_is(width: int, browser: Any, address: str) -> None:
    with contextlib.closing(browser.new_context(viewport={"width": width, "height": 900})) as context:
        page = context.new_page()
        for name, path in PAGES.items():
            open_page(page, address + path)
            for summary in page.locator("main summary").all():
                summary.click()  # what is folded can be reached once it is open, as below
            page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
            there = page.evaluate(
                f"Array.from(document.querySelectorAll({json.dumps(CONTROLS)}), "
                f"(one, place) => ({VISIBLE})(one) ? place : -1).filter(place => place >= 0)"
            )
            reached: list[int] = []
            for _ in range(4 * len(there) + 10):  # a date is several stops
                page.keyboard.press("Tab")
                now = page.evaluate(FOCUSED)
                if now["place"] < 0:
                    continue  # the browser's own
                if reached and now["place"] == reached[0] != reached[-1]:
                    break
                assert now["marked"], f"{name}: {now['what']} does not show that it has the focus"
                assert now["seen"], f"{name}: {now['what']} has the focus and is not in sight"
                reached.append(now["place"])
            assert set(reached) == set(there), f"{name}: {set(there) ^ set(reached)} of {len(there)}"
            order = list(dict.fromkeys(reached))
            first = order.index(min(order))  # it began at what was clicked
            assert order[first:] + order[:first] == sorted(order), f"{name}: not in order"


def test_the_look_can_be_chosen_and_stays(page: Any, address: str) -> None:
    page.emulate_media(color_scheme="light")
    open_page(page, address + "/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    assert page.inner_text("#theme") == "Light mode"


def kill(folder: Path) -> None:
    """SIGKILL for the server, as the system does when memory ends."""
    pid = int(next(folder.glob("postgres-*/**/postmaster.pid")).read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("dies", [embedded.stop, kill], ids=["stopped", "killed"])
def test_a_database_that_dies_is_said_and_comes_back(dies: Callable[[Path], object], page: Any, browser: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rlmct-web-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        url = embedded.ensure_running(folder)
        store_runs(url)
        with served(url) as address:
            open_page(page, address + "/?range=24h")
            shown = page.inner_text("dl.cards")
            dies(folder)
            until(page, "document.getElementById('notice').textContent.includes('does not answer')")
            assert page.inner_text("dl.cards") == shown
            with contextlib.closing(browser.new_page()) as other:
                other.goto(address + "/models")
                assert "The database does not answer" in other.inner_text("h1")
                assert embedded.ensure_running(folder) == url
                until(page, "document.getElementById('notice').textContent === ''")
                other.wait_for_selector("text=By model, most prompt tokens first")
            with TimescaleDBClient(url) as db:
                db.record_llm_interaction(record("after", datetime.now(UTC), prompt_tokens=1, cached_tokens=0))
            until(page, "document.body.innerText.includes('after')")
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_database_that_says_nothing_is_said_and_comes_back(page: Any) -> None:
    """As one whose machine hangs, or whose network swallows what is sent: neither an answer nor an error."""
    folder = Path(tempfile.mkdtemp(prefix="rlmct-web-", dir="/tmp"))
    folder.chmod(0o711)
    stopped: list[int] = []
    try:
        url = embedded.ensure_running(folder)
        store_runs(url)
        with served(url) as address, psycopg.connect(url, autocommit=True) as connection:
            open_page(page, address + "/?range=24h")
            shown = page.inner_text("dl.cards")
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            stopped = [pid for (pid,) in connection.execute(query)]
            stopped.append(int(next(folder.glob("postgres-*/**/postmaster.pid")).read_text().split()[0]))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            until(page, "document.getElementById('notice').textContent.includes('said nothing for 5 seconds')")
            assert page.inner_text("dl.cards") == shown
            resume(stopped)
            until(page, "document.getElementById('notice').textContent === ''")
    finally:
        resume(stopped)
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def resume(stopped: list[int]) -> None:
    while stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped.pop(), signal.SIGCONT)


@pytest.mark.skipif(PICTURES is None, reason="the pictures of the documentation: make docs")
def test_the_pictures_of_the_documentation(browser: Any, db_url: str) -> None:
    """Three weeks of two agents, whose fourth iteration begins with another prefix."""
    folder = Path(str(PICTURES))
    newest = datetime.now(UTC) - timedelta(seconds=40)  # it ends when it is stored
    with TimescaleDBClient(db_url) as db:
        for day in range(21):
            for place, query in enumerate(("benchmark-001", "deep-research")):
                begun = newest - timedelta(days=day, hours=5 * place)
                for call in range(12):
                    iteration, depth = call // 2, call % 2
                    prompt = 3000 + 700 * iteration + 113 * (day % 5)
                    cached = 0 if iteration in (0, 3) and not depth else int(prompt * (0.62 + 0.04 * iteration))
                    moment = begun + timedelta(seconds=3 * call)
                    db.record_llm_interaction(
                        LLMInteractionRecord(
                            query,
                            begun,
                            ("gpt-5", "gpt-5-mini")[depth],
                            provider="openai",
                            prompt_tokens=prompt,
                            cached_tokens=cached,
                            completion_tokens=240 + 31 * call,
                            iteration=iteration + 1,
                            current_depth=depth,
                            start_time=moment,
                            duration_ms=2900 - 150 * iteration - 1200 * depth,
                            time_to_first_token_ms=400,
                        )
                    )
                db.complete_query_run(query, begun)
    run = f"/run?{urlencode({'query_id': 'benchmark-001', 'run_id': newest.isoformat()})}"
    with served(db_url) as address:
        for name, path, scheme, width, height in (
            ("overview-light", "/", "light", 1280, 1000),
            ("run-dark", run, "dark", 1280, 1000),
            ("run-narrow", run, "light", 400, 1100),
        ):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            with contextlib.closing(context):
                page = context.new_page()
                open_page(page, address + path)
                page.screenshot(path=str(folder / f"{name}.png"))
