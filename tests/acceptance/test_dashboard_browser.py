"""The dashboard in a real browser: charts, filters, keyboard, accessibility (axe), and hostile names.

``RLM_CACHETRACK_PICTURES=FOLDER`` writes the pictures of the documentation to that folder.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from tests.support.browser import collect_problems, drawn, new_context, open_page, wait_until
from tests.support.web import BEGUN, HOSTILE, LONG, record, served, store_missed

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

PICTURES = os.environ.get(
    "RLM_CACHETRACK_PICTURES"
)  # read at import, because the suite hides such settings from its tests
BENCH = f"/run?{urlencode({'query_id': 'bench', 'run_id': BEGUN.isoformat()})}"
STRANGE = f"/run?{urlencode({'query_id': HOSTILE, 'run_id': BEGUN.isoformat()})}"
PAGES = {
    "overview": "/?range=24h",
    "queries": "/queries?range=all",
    "losses": "/losses?range=all",
    "failed": "/failed?range=all",
    "experiments": "/experiments",
    "models": "/models?range=all",
    "savings": "/savings",
    "runs": "/runs",
    "run": BENCH,
    "hostile": STRANGE,
    "forecast": "/forecast",
    "alerts": "/alerts",
    "health": "/health",
    "api": "/api/docs",
    "problem": "/nothing",
}


# Without the content of style sheets, which no enabled rule needs.
ALL_RULES = {"resultTypes": ["violations"], "preload": False}
# The rules whose result depends on the colours, and on the width of the window.
COLOUR_RULES = {**ALL_RULES, "runOnly": ["color-contrast", "link-in-text-block"]}
LAYOUT_RULES = {**ALL_RULES, "runOnly": [*COLOUR_RULES["runOnly"], "scrollable-region-focusable"]}
# All rows of a table have the same markup; axe would check each of them for a second.
ENOUGH_ROWS = {"exclude": [["tbody tr:nth-child(n+4)"]]}
SERIOUS = """async ([context, options]) => (await axe.run(context, options)).violations
    .filter(rule => ["serious", "critical"].includes(rule.impact))
    .flatMap(rule => rule.nodes.map(node => [rule.id, node.target, node.failureSummary]))"""
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 400, "height": 900}
# The controls that a mouse user can use. The pages have no other kinds, such as radio buttons.
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"
VISIBLE = "one => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true })"
FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    const shown = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0
        && box.left < innerWidth;
    return {
        index: Array.from(document.querySelectorAll(CONTROLS)).indexOf(one),
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        inView: shown, what: one.outerHTML.slice(0, 120),
    };
}""".replace("CONTROLS", json.dumps(CONTROLS))


def assert_accessible(page: Any, options: dict[str, Any], name: str) -> None:
    assert page.evaluate(SERIOUS, [ENOUGH_ROWS, options]) == [], name


def choose(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    other = {"light": "Dark mode", "dark": "Light mode"}[scheme]
    wait_until(page, f"document.getElementById('theme').textContent === '{other}'")


def assert_keyboard_reaches_every_control(page: Any, name: str) -> None:
    """The Tab key reaches every control in document order; the focused control is in view and marked."""
    # The content of a closed <details> cannot have the focus.
    page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    controls = page.evaluate(
        f"Array.from(document.querySelectorAll({json.dumps(CONTROLS)}), "
        f"(one, index) => ({VISIBLE})(one) ? index : -1).filter(index => index >= 0)"
    )
    reached: list[int] = []
    for _ in range(4 * len(controls) + 10):  # a date input has several tab stops
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUSED)
        if now["index"] < 0:
            continue  # a control of the browser itself
        if reached and now["index"] == reached[0] != reached[-1]:
            break
        assert now["marked"], f"{name}: {now['what']} does not show that it has the focus"
        assert now["inView"], f"{name}: {now['what']} has the focus but is outside of the viewport"
        reached.append(now["index"])
    assert set(reached) == set(controls), f"{name}: {set(controls) ^ set(reached)} of {len(controls)}"
    order = list(dict.fromkeys(reached))
    first = order.index(min(order))  # the focus started at the last clicked element
    assert order[first:] + order[:first] == sorted(order), f"{name}: the tab order differs from the document's"


def test_every_page_has_no_problems_in_light_and_dark_mode(browser: Any, address: str, db_url: str) -> None:
    """Each page works by keyboard, fits the window, contacts no other server, and has no errors or axe violations.

    One load per page, in a wide and then in a narrow window, because loading the pages takes most of the time.
    """
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe is not installed").AXE_SCRIPT
    store_missed(db_url, run_id=BEGUN)
    missed = f"/run?{urlencode({'query_id': 'missed', 'run_id': BEGUN.isoformat()})}"
    with served(db_url) as other, new_context(browser, viewport=WIDE, color_scheme="light") as context:
        page = context.new_page()
        problems = collect_problems(page)
        requested: set[str] = set()
        page.on("request", lambda request: requested.add(request.url))
        for name, url in {**{name: address + path for name, path in PAGES.items()}, "missed": other + missed}.items():
            page.set_viewport_size(WIDE)
            page.emulate_media(color_scheme="light")
            open_page(page, url)
            # A page whose losses are still being explained replaces its content.
            wait_until(page, "!document.querySelector('#content[data-again]')")
            page.evaluate(axe)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                where = f"{name}, {size['width']} px"
                choose(page, "light")
                assert_accessible(page, ALL_RULES if size is WIDE else LAYOUT_RULES, f"{where}, light")
                assert_keyboard_reaches_every_control(page, where)
                choose(page, "dark")
                assert_accessible(page, COLOUR_RULES, f"{where}, dark")
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], where
            if name == "missed":
                assert "prompt changed" in page.locator("#misses").inner_text()
                assert page.locator("#advice li").count() == 1
            assert page.title() != "owned"
        assert [problem for problem in problems if "404" not in problem] == []
        assert {url for url in requested if not url.startswith((address, other, "data:", "blob:"))} == set()


def test_charts_show_the_numbers_of_the_tables(page: Any, address: str) -> None:
    open_page(page, address + BENCH)
    cached, uncached, rate = page.evaluate(drawn("evolution"))  # no text was entered
    assert cached == ["cached", [1, 2, 3, 4, 5, 6], [0, 500, 500, 500, 500, 500]]
    assert uncached == ["not cached", [1, 2, 3, 4, 5, 6], [1000, 500, 500, 500, 500, 500]]
    assert rate[0] == "hit rate"
    spans = [[name, [end - begin for begin, end in x], rows] for name, x, rows in page.evaluate(drawn("waterfall"))]
    assert spans == [["depth 0", [400, 402, 404], [0, 2, 4]], ["depth 1", [401, 403, 405], [1, 3, 5]]]
    assert [name.replace("\u00a0", " ") for name in tick_labels(page, "waterfall", "y")] == ["tuned", "   └ tuned"] * 3
    open_page(page, address + STRANGE)
    assert [[name, rows] for name, _, rows in page.evaluate(drawn("waterfall"))] == [["depth 0", [0]], ["failed", [1]]]
    tokens = [[name, y] for name, _, y in page.evaluate(drawn("evolution"))]
    assert tokens == [["not cached", [0, 10]], ["not reported", [10, 0]], ["hit rate", [None, 0]]]
    assert page.problems == []


def tick_labels(page: Any, figure: str, axis: str) -> list[Any]:
    """Return the labels that a chart shows on an axis."""
    labels: list[Any] = page.evaluate(
        f"document.querySelector('[data-figure={figure}]').chart.scales.{axis}.ticks.map(tick => tick.label)"
    )
    return labels


def hover(page: Any, figure: str, series: str, index: int) -> list[str]:
    """Move the pointer to a point of a chart; returns the lines that the chart shows for it."""
    plot = f"document.querySelector('[data-figure={figure}]')"
    page.locator(f"[data-figure={figure}]").scroll_into_view_if_needed()
    x, y = page.evaluate(
        f"""(() => {{
            const {{ chart }} = {plot}, set = chart.data.datasets.findIndex(one => one.label === {series!r});
            const {{ x, y }} = chart.getDatasetMeta(set).data[{index}].getCenterPoint();
            const box = chart.canvas.getBoundingClientRect();
            return [box.x + x, box.y + y];
        }})()"""
    )
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    wait_until(page, f"{plot}.chart.tooltip.opacity === 1")
    lines: list[str] = page.evaluate(
        f"[...{plot}.chart.tooltip.title, ...{plot}.chart.tooltip.body.flatMap(part => part.lines)]"
    )
    page.mouse.move(0, 0)
    return lines


def test_a_chart_tells_the_numbers_at_the_pointer_as_the_tables_do(page: Any, address: str) -> None:
    open_page(page, address + BENCH)
    shown = hover(page, "evolution", "cached", 1)
    assert shown == ["iteration 2", "cached: 500", "not cached: 500", "hit rate: 50.0%"]
    row = page.locator("table", has=page.locator("th", has_text="Iteration")).locator("tbody tr").nth(1).inner_text()
    costs = hover(page, "cost-by-iteration", "with cache", 1)
    assert costs[0] == "iteration 2"
    for line in costs[1:]:
        assert line.partition(": ")[2] in row
    assert hover(page, "waterfall", "depth 0", 0) == ["tuned", "prompt 1,000, cached 0", "completion 100", "400 ms"]
    assert page.problems == []


@pytest.mark.parametrize(("path", "figure"), [(BENCH, "evolution"), ("/?range=all", "cost")])
def test_a_series_that_is_hidden_stays_hidden_and_the_mode_changes_the_colours(
    page: Any, address: str, path: str, figure: str
) -> None:
    open_page(page, address + path)
    chart = f"document.querySelector('[data-figure={figure}]').chart"
    drawn = f"{chart}.getDatasetMeta(0).data.at(-1).options.backgroundColor"
    page.evaluate(f"{chart}.hide(1)")
    before = page.evaluate(drawn)
    page.locator("#theme").click()
    page.locator(f"#figure-{figure}").scroll_into_view_if_needed()
    wait_until(page, f"{drawn} !== '{before}'")
    assert page.evaluate(f"{chart}.isDatasetVisible(1)") is False
    page.locator("#theme").click()


def test_a_narrow_window_keeps_the_names_of_models(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 400, "height": 700})
    open_page(page, f"{address}/models?range=all")
    labels = tick_labels(page, "cost-by-model", "y")
    assert ["tuned", "openai"] in labels
    assert all(len(line) <= 22 for label in labels for line in label)
    page.set_viewport_size({"width": 1280, "height": 720})
    wait_until(page, "document.querySelector('[data-figure=cost-by-model]').chart.width > 400")
    assert "tuned · openai" in tick_labels(page, "cost-by-model", "y")


def test_a_click_on_a_bar_opens_its_day(page: Any, address: str) -> None:
    open_page(page, f"{address}/?range=all")
    plot = page.locator("[data-figure=cost]")
    plot.scroll_into_view_if_needed()
    at = page.evaluate(
        """(() => {
            const { chart } = document.querySelector('[data-figure=cost]'), sets = chart.data.datasets;
            const index = sets[0].data.findLastIndex(point => point.y), bar = chart.getDatasetMeta(0).data[index];
            const day = new Date(sets[0].data[index].x).toISOString().slice(0, 10);
            return { x: bar.x, y: (bar.y + bar.base) / 2, day };
        })()"""
    )
    plot.click(position={"x": at["x"], "y": at["y"]})
    page.wait_for_url(f"**since={at['day']}&until=**")


def test_charts_are_drawn_when_they_come_into_view_or_are_printed(page: Any, address: str) -> None:
    """Drawing takes more time than the rest of a page, so charts below the window wait."""
    page.set_viewport_size({"width": 400, "height": 300})
    figures, count = page.locator("figure.chart"), "document.querySelectorAll('figure.chart:has(canvas)').length"
    page.goto(address + BENCH)
    figures.first.scroll_into_view_if_needed()
    wait_until(page, f"{count} > 0")
    assert page.evaluate(count) < figures.count()
    figures.last.scroll_into_view_if_needed()
    wait_until(page, "!!Array.from(document.querySelectorAll('figure.chart')).at(-1).querySelector('canvas')")
    page.goto(address + BENCH)
    page.pdf()
    assert page.evaluate(count) == figures.count()


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
    assert page.input_value("select[name=model]") == ""  # the filter of the shown page, not that of the previous one
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
    page.click("thead >> text=Cost")
    page.wait_for_url("**sort=cost**")
    assert page.input_value("input[name=search]") == "bench"


def test_a_click_on_a_header_sorts_the_runs(page: Any, address: str) -> None:
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


def test_a_narrow_window_shows_the_change_and_the_cost_of_a_success(page: Any, db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for days, prompt_tokens in ((16, 1), (9, 1_000), (2, 2_000)):  # the first: the data covers both periods
            begun = BEGUN - timedelta(days=days)
            db.initialize_query_run("task", begun)
            db.record_llm_interaction(record("task", begun, prompt_tokens=prompt_tokens, completion_tokens=0))
            db.record_outcome("task", begun, success=True)
        assert db.flush()
    with served(db_url) as address:
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            open_page(page, f"{address}/queries")
            row, caption = page.locator("table.queries tbody tr").inner_text(), page.locator("caption").inner_text()
            assert "+$0.01" in row, size  # $0.01 before, now $0.02
            assert ("per success" in row) == (size is NARROW)
            assert ("A wider window also shows" in caption) == (size is NARROW)
            assert row.count("$0.02") == 2  # the cost, and the cost of a success
            # Read at once: the page may replace its table between two steps.
            right_edges = page.locator("table.queries td").evaluate_all(
                "all => all.filter(one => one.offsetParent).map(one => one.getBoundingClientRect().right)"
            )
            last = right_edges[3 if size is NARROW else -1]
            assert last <= size["width"], "the change of the hit rate is outside of the window"


def test_a_report_opens_offline_from_one_file(page: Any, stored: str, tmp_path: Path) -> None:
    page.context.set_offline(True)
    for name, charts in (("bench", 3), (HOSTILE, 2)):  # without priced calls there is no chart of costs
        file = tmp_path / "report.html"
        result = CliRunner().invoke(app, ["report", name, "--html", str(file), "--db-url", stored])
        assert result.exit_code == 0, result.stderr
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        open_page(page, file.as_uri())
        assert page.locator("figure.chart").count() == charts
        assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}
        assert page.title() != "owned"
        assert page.problems == []
    page.context.set_offline(False)


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FROM_RIGHT_TO_LEFT = "\u202e\u2066\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u2069 \u200f<b>"
STRANGE_NAMES = (HOSTILE, LONG, FROM_RIGHT_TO_LEFT + FAMILY * 40, "a\u0301" * 200 + "\u0000\u001b]0;x\u0007")


def test_hostile_names_are_shown_as_text_on_every_page(browser: Any, db_url: str, tmp_path: Path) -> None:
    """The names are a query, model, provider, tier, finish reason and error, a filter and a search, and in a report."""
    with TimescaleDBClient(db_url) as db:
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
        with psycopg.connect(
            db_url
        ) as connection:  # the library rejects such a name, but other software may have stored it
            for table in ("llm_interactions", "query_run_summaries", "token_cache_optimization"):
                change = f"UPDATE {table} SET query_id = %s WHERE query_id = %s"
                assert connection.execute(change, (LONG, LONG[:2000])).rowcount
        db.set_budget(1.0, "day", HOSTILE, model=HOSTILE)
        runs = [(run["query_id"], run["run_id"].isoformat()) for run in db.list_query_runs()]
    assert len(runs) == len(STRANGE_NAMES)
    paths = ["/?range=24h", "/queries", "/failed", "/models?range=all", "/savings", "/forecast", "/health", "/api/docs"]
    for name in STRANGE_NAMES:
        filters = {"model": name, "provider": name, "query": name, "tag": f"a={name}"}
        paths.append(f"/runs?{urlencode({'search': name, 'status': name, **filters})}")
    paths += [f"/run?{urlencode({'query_id': query, 'run_id': run})}" for query, run in runs]
    with served(db_url) as address, new_context(browser, viewport=NARROW) as context:
        page = context.new_page()
        problems = collect_problems(page)
        files = []
        for number, (query, _) in enumerate(runs[:2]):
            files.append(tmp_path / f"{number}.html")
            asked = ["report", query, "--html", str(files[-1]), "--db-url", db_url]
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
    with psycopg.connect(db_url) as connection:
        row = connection.execute("SELECT count(*) FROM llm_interactions").fetchone()
        assert row == (2 * len(STRANGE_NAMES),)


def test_navigation_works_with_the_keyboard(page: Any, address: str) -> None:
    open_page(page, address + "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "range"
    for _ in range(10):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "Runs":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs")
    assert page.locator("nav a[aria-current=page]").inner_text() == "Runs"


def test_dark_mode_can_be_chosen_and_persists(page: Any, address: str) -> None:
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
    page.evaluate("localStorage.clear()")  # the other tests share the browser's storage


@pytest.mark.skipif(PICTURES is None, reason="the pictures of the documentation: make docs")
def test_the_pictures_of_the_documentation(browser: Any, db_url: str) -> None:
    """Show three weeks of two agents whose fourth iteration begins with another prefix."""
    folder = Path(str(PICTURES))
    newest = datetime.now(UTC) - timedelta(seconds=40)  # the call's end is the time at which it is recorded
    with TimescaleDBClient(db_url) as db:
        for day in range(21):
            for index, query in enumerate(("benchmark-001", "deep-research")):
                begun = newest - timedelta(days=day, hours=5 * index)
                for call in range(12):
                    iteration, depth = call // 2, call % 2
                    prompt = 3000 + 700 * iteration + 113 * (day % 5)
                    cached = 0 if iteration in (0, 3) and not depth else int(prompt * (0.62 + 0.04 * iteration))
                    moment = begun + timedelta(seconds=3 * call)
                    db.record_llm_interaction(
                        LLMInteractionRecord(
                            query,
                            begun,
                            ("gpt-5.4", "gpt-5.4-mini")[depth],
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
        db.set_budget(8.0)
    run = f"/run?{urlencode({'query_id': 'benchmark-001', 'run_id': newest.isoformat()})}"
    with served(db_url) as address:
        for name, path, scheme, width, height in (
            ("overview-light", "/", "light", 1280, 1000),
            ("run-dark", run, "dark", 1280, 1000),
            ("run-narrow", run, "light", 400, 1100),
        ):
            size = {"width": width, "height": height}
            with new_context(browser, viewport=size, color_scheme=scheme) as context:
                page = context.new_page()
                open_page(page, address + path)
                page.screenshot(path=str(folder / f"{name}.png"))
