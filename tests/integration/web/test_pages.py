"""The pages of the dashboard over real HTTP: leading figures, losses, filters, numbers, time zones, weight."""

from __future__ import annotations

import gzip
import html
import json
import re
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.formatting.text import usd
from tests.support.web import BEGUN, record, served, store_missed

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

NOW = datetime.now(UTC)


def fetch(url: str, **headers: str) -> tuple[bytes, dict[str, str]]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def text_of(address: str, path: str, **query: str) -> str:
    """Return the words of a page's content."""
    page = fetch(f"{address}{path}?{urlencode(query)}")[0].decode()
    content = page[page.index('<div id="content"') :]
    without_data = re.sub(r"<script.*?</script>", "", content, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", without_data)).split())


def api(address: str, path: str, **query: str) -> Any:
    return json.loads(fetch(f"{address}/api/{path}?{urlencode(query)}")[0])


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database with two weeks of two agents.

    A call has 1,000 prompt tokens. "steady" has 800 of them cached; "worse" had 800, and since a week 0. A call costs
    0.012 without the cache, 0.0048 with 800 tokens cached. Each agent makes one call a day; one call a day fails.
    """
    with TimescaleDBClient(module_db_url) as db:
        for day in range(14):
            begun = NOW - timedelta(days=day, hours=1)
            for name, cached in (("steady", 800), ("worse", 0 if day < 7 else 800)):
                call = record(name, begun, prompt_tokens=1000, cached_tokens=cached, model=f"model-{name}")
                call.tags = {"team": name}
                db.record_llm_interaction(call)
                db.initialize_query_run(name, begun, metadata={"agent": name[0]})
                db.record_outcome(name, begun, success=day % 2 == 0)
                db.complete_query_run(name, begun)
            failed = LLMInteractionRecord(
                "broken", begun, "model-broken", provider="other", success=False, start_time=begun, cached_tokens=None
            )
            failed.error_type = "RateLimitError"
            db.record_llm_interaction(failed)
        db.set_budget(100.0, "month")
        assert db.flush()
    return module_db_url


def test_an_empty_database_shows_the_code_to_paste(db_url: str) -> None:
    with served(db_url) as address:
        words = text_of(address, "/")
        assert "Waiting for the first call" in words
        assert "from rlm_cachetrack import instrument client = instrument(client)" in words


def test_the_overview_compares_with_the_period_before(address: str) -> None:
    # This week: 7 x (0.0048 + 0.012) = 0.1176; the week before: 14 x 0.0048 = 0.0672.
    words = text_of(address, "/")
    assert "Cost $0.0672 in the 7 days before, now $0.1176: +$0.0504" in words
    assert "Hit rate 80.0% 40.0% +$0.0504" in words  # volume and prices are the same: the hit rate explains it all
    assert "Saved by the cache $0.0504" in words
    assert "-50.0% from $0.1008 in the 7 days before" in words
    assert "of $100.00" in words
    assert "33.3% 7 failed calls" in words


def test_a_period_before_with_data_of_a_few_days_is_not_compared(db_url: str) -> None:
    """Nine days after the first call, the 7 days before have data of two days only."""
    with TimescaleDBClient(db_url) as db:
        for day in range(9):
            cached = 0 if day < 7 else 800
            begun = NOW - timedelta(days=day, hours=1)
            db.record_llm_interaction(record("worse", begun, prompt_tokens=1000, cached_tokens=cached))
        assert db.flush()
    with served(db_url) as address:
        words = text_of(address, "/")
        assert "What changed No comparison: the 7 days before have data for only 2 days." in words
        assert "from $" not in words.split("Saved by the cache")[1]
        words = text_of(address, "/queries")
        assert "Got worse" not in words
        assert "No comparison: the 7 days before have data for only 2 days." in words
        row = api(address, "queries")[0]
        assert (row["cost_before"], row["cost_change"], row["hit_rate_change"]) == (None, None, None)
        words = text_of(address, "/", range="24h")  # the 24 hours before are covered
        assert "in the 24 hours before, now $0.0120" in words
        words = text_of(address, "/", range="30d")  # no call lies in the 30 days before
        assert "No comparison" not in words


def test_every_panel_of_the_overview_obeys_the_filters(address: str) -> None:
    words = text_of(address, "/", model="model-steady")
    assert "worse" not in words.split("Newest runs")[1]
    assert "no failed call" in words
    assert "Cost $0.0336 in the 7 days before, now $0.0336" in words
    month = api(address, "month", model="model-steady")
    assert month["spent"] == pytest.approx(sum(0.0048 for day in range(14) if is_this_month(day)))
    assert month["budget"] is None  # the budget is for all models
    assert api(address, "month")["budget"] == 100.0


PAGES = ("/", "/queries", "/models", "/runs", "/savings", "/experiments", "/failed", "/losses", "/forecast")


@pytest.mark.parametrize(
    "chosen",
    [{"query": "steady"}, {"tag": "team=steady"}, {"model": "model-steady"}, {"tag": "team=steady", "range": "1h"}],
    ids=["query", "tag", "model", "minutes"],
)
def test_every_page_has_the_same_filters(chosen: dict[str, str], address: str) -> None:
    for path in PAGES:
        page = fetch(f"{address}{path}?{urlencode(chosen)}")[0].decode()
        content = page[page.index('<div id="content"') :]
        assert not re.findall(r"\b(?:model-)?(?:worse|broken)\b(?! the)", content), path
        for name in ("model", "provider", "query", "tag"):
            assert f'name="{name}"' in page, path
        for link in ("/models?", "/runs?"):  # the pages keep them for each other
            assert f"{link}{html.escape(urlencode({'range': '1h', **chosen} if 'range' in chosen else chosen))}" in page
        assert "Clear filters" in page
    days = 1 if "range" in chosen else 14
    total = api(address, "usage", **{"range": "30d", **chosen})["total"]
    if days > 1:
        assert (total["total_interactions"], total["cache_hit_rate"]) == (days, pytest.approx(0.8))
        assert total["total_cost"] == pytest.approx(days * 0.0048)
    filters = {name: value for name, value in chosen.items() if name != "range"}
    month, forecast = api(address, "month", **filters), api(address, "forecast", **filters)["forecast"]
    assert month["spent"] == pytest.approx(sum(0.0048 for day in range(14) if is_this_month(day)))
    assert month["budget"] is None
    assert forecast["expected_cost"] == pytest.approx(30 * 0.0048)
    assert {run["query_id"] for run in api(address, "runs", **filters)["runs"]} == {"steady"}


def test_a_part_of_a_query_lists_the_ids_that_contain_it(address: str) -> None:
    page = fetch(f"{address}/runs?query=TEAD&range=30d")[0].decode()
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
    assert "The filter takes the whole id of a query. Ids that contain “TEAD”: steady." in words
    assert 'href="/runs?range=30d&amp;query=steady"' in page
    for path in PAGES:  # a whole id needs no hint, and no id contains this text
        for given in ("steady", "nobody"):
            assert "whole id" not in fetch(f"{address}{path}?query={given}")[0].decode(), (path, given)


def test_a_filter_by_provider_leaves_out_the_other_calls(address: str) -> None:
    assert "model-broken" not in text_of(address, "/", provider="openai")
    assert "No finished runs in this range match the filters" in text_of(address, "/experiments", provider="other")
    assert api(address, "usage", provider="other", query="steady")["total"]["total_interactions"] == 0


def is_this_month(day: int) -> bool:
    begun = NOW - timedelta(days=day, hours=1)
    return (begun.year, begun.month) == (datetime.now(UTC).year, datetime.now(UTC).month)


def test_failed_calls_are_not_calls_that_did_not_report(address: str) -> None:
    total = api(address, "usage", range="7d", provider="other")["total"]
    assert (total["total_interactions"], total["failed_interactions"]) == (7, 7)
    assert total["interactions_not_reported"] == 0
    assert total["total_cached_tokens"] is None
    words = text_of(address, "/failed", provider="other")
    assert "7 failed calls of 7" in words
    assert words.count("RateLimitError") == 7


@pytest.mark.parametrize(("by", "names"), [("query", ["worse", "steady"]), ("tag:team", ["worse", "steady"])])
def test_queries_show_what_got_worse(by: str, names: list[str], address: str) -> None:
    rows = [row for row in api(address, "queries", by=by) if row["group"] in names]
    assert [row["group"] for row in rows] == names
    worse, steady = rows
    assert (worse["cache_hit_rate"], worse["hit_rate_change"]) == (pytest.approx(0), pytest.approx(-0.8))
    assert worse["cost_change"] == pytest.approx(7 * (0.012 - 0.0048))
    assert (steady["cache_hit_rate"], steady["hit_rate_change"]) == (pytest.approx(0.8), pytest.approx(0))
    words = text_of(address, "/queries", by=by)
    assert "Got worse worse : hit rate 80.0% in the 7 days before, now 0.0% ; cost $0.0336, now $0.0840" in words
    first = words.index("worse $0.0840"), words.index("steady $0.0336")
    assert first == tuple(sorted(first))
    reverse = text_of(address, "/queries", by=by, sort="cost", order="asc")
    assert reverse.index("steady $0.0336") < reverse.index("worse $0.0840")


def test_the_trend_shows_the_rise_without_the_day_that_is_not_over(address: str) -> None:
    page = fetch(f"{address}/queries")[0].decode()
    trends = {
        name: [[float(point.split(",")[1]) for point in line.split()] for line in lines]
        for name, row in re.findall(r'<th scope="row"><a[^>]*><bdi>(\w+)</bdi>(.*?)</tr>', page, re.DOTALL)
        if (lines := re.findall(r'<polyline(?: class="earlier")? points="([^"]*)"', row))
    }
    # y grows downwards: 23 is nothing, 1 the most expensive day
    earlier, now = trends["worse"]
    assert earlier[1] > 2 * min(now)  # 0.0048 a day, then 0.012
    assert now[-1] == min(now)  # no fall at the end
    assert "Trend: cost by day, complete days only; paler: the 7 days before" in text_of(address, "/queries")


def test_what_a_success_costs_by_metadata(address: str) -> None:
    rows = {row["group"]: row for row in api(address, "queries", by="metadata.agent", range="all")}
    # 14 runs, of which 7 succeeded; the cost of the others is part of the cost per success.
    assert rows["s"]["cost_per_success"] == pytest.approx(14 * 0.0048 / 7)
    filtered = api(address, "queries", by="metadata.agent", range="all", model="model-steady")
    assert [row["cost_per_success"] for row in filtered] == [None]
    groups = {row["group"]: row for row in api(address, "experiments", by="metadata.agent")}
    assert groups["w"]["cost_per_success"] == pytest.approx((7 * 0.0048 + 7 * 0.012) / 7)
    assert "Success rate over cost" in text_of(address, "/experiments", by="metadata.agent")


def test_a_run_shows_its_outcome(address: str) -> None:
    for days, words in ((0, "Outcome: succeeded"), (1, "Outcome: failed")):
        run_id = (NOW - timedelta(days=days, hours=1)).isoformat()
        assert words in text_of(address, "/run", query_id="steady", run_id=run_id)
        assert "Outcome" not in text_of(address, "/run", query_id="broken", run_id=run_id)


def test_the_cost_without_a_cache_is_beside_the_cost_of_a_group(address: str) -> None:
    # worse: 7 runs at $0.0048 and 7 at $0.012, all $0.012 with nothing cached
    assert re.search(r"w 14 .* \$0\.0084 \$0\.012\d* ", text_of(address, "/experiments", by="metadata.agent"))


def test_a_report_compares_groups_of_runs(stored: str, tmp_path: Path) -> None:
    file = tmp_path / "agents.html"
    asked = ["report", "--experiments", "metadata.agent", "--html", str(file), "--md", "--db-url", stored]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.stderr
    each = usd((7 * 0.0048 + 7 * 0.012) / 7)
    assert re.search(rf"\| `w` \| 14 \| 50\.0% \| . \| {re.escape(each)} \| \$0", result.stdout)
    assert "| `s` ★ | 14 |" in result.stdout
    page = file.read_text()
    assert "Success rate over cost" in page
    assert each in page
    assert len(page) < 1_500_000
    nobody = CliRunner().invoke(app, ["report", "nobody", "--experiments", "model", "--db-url", stored])
    assert (nobody.exit_code, "no finished run matches" in nobody.stderr) == (1, True)


def test_models_name_the_provider_and_sort(address: str) -> None:
    words = text_of(address, "/models", range="30d", sort="price", order="asc")
    assert words.index("model-steady openai") < words.index("model-worse openai")
    # steady: 14 x 0.0048 of 14 x 1,100 tokens
    assert "$4.36" in words
    share = 14 * 0.0048 / (14 * 0.0048 + 7 * 0.0048 + 7 * 0.012)
    assert f"{share:.1%}" in words


def test_models_sort_by_every_column(address: str) -> None:
    page = fetch(f"{address}/models")[0].decode()
    headers = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page[: page.index("<tbody>")], re.DOTALL)
    assert len(headers) == 14
    keys = [re.search(r"[?&;]sort=(\w+)", header) for header in headers]
    for key in keys:
        assert key is not None
        fetch(f"{address}/models?sort={key[1]}")  # an unknown key would be refused


def test_columns_show_no_digits_that_are_not_known(db_url: str) -> None:
    """Amounts of one column have the same number of decimals, and these are digits of the amount, not added zeros."""
    with TimescaleDBClient(db_url) as db, served(db_url) as address:
        for name, prompt in (("large", 123_456), ("small", 1_230)):
            db.record_llm_interaction(record(name, NOW, prompt_tokens=prompt, cached_tokens=0, completion_tokens=0))
        db.flush()
        words = text_of(address, "/runs")
        assert "$1.2346" in words
        assert "$0.0123" in words
        losses = api(address, "losses")  # calls without fingerprint: the losses are not known, which is not zero
        assert (losses["usd_lost"], losses["unknown_interactions"]) == (None, 2)


def test_runs_are_filtered_and_counted(address: str) -> None:
    def names(**query: str) -> set[str]:
        return {run["query_id"] for run in api(address, "runs", limit="100", **query)["runs"]}

    assert names(range="all") == {"steady", "worse", "broken"}
    assert names(model="model-worse") == {"worse"}
    assert names(provider="other") == {"broken"}
    assert names(tag="team=steady") == {"steady"}
    assert names(tag="team=nobody") == set()
    assert "14 runs" in text_of(address, "/runs", model="model-worse")
    assert "7 runs" in text_of(address, "/runs", model="model-worse", range="7d")


def test_losses_name_the_reason_the_advice_and_the_amount(db_url: str) -> None:
    store_missed(db_url)
    with served(db_url) as address:
        found = api(address, "losses")
        explained = api(address, "run/explain", query_id="missed", run_id=api(address, "runs")["runs"][0]["run_id"])
        assert found["usd_lost"] == pytest.approx(explained["usd_lost"])
        (loss,) = found["losses"]
        assert (loss["verdict"], loss["part"], loss["calls"]) == ("prefix_changed", "system prompt", 5)
        words = text_of(address, "/losses")
        assert "missed : prompt changed system prompt The system prompt changes from call to call" in words
        assert api(address, "losses", model="another")["losses"] == []
        # The overview does not wait for explanations: it shows them once they are known.
        assert "avoidable misses of 1 run. Why, and what to do" in text_of(address, "/")


def test_the_time_zone_decides_where_days_begin_and_is_kept(address: str) -> None:
    zone = "America/New_York"
    page = fetch(f"{address}/?{urlencode({'range': '30d', 'tz': zone})}")[0].decode()
    assert "/runs?range=30d&amp;tz=America%2FNew_York" in page
    assert "Times are America/New_York" in page
    first = re.search(r'<th scope="row"><time datetime="[^"]*">([^<]*)</time>', page)
    assert first is not None
    assert first[1].endswith("00:00:00")  # midnight in New York


def test_sums_of_a_range_are_read_again_only_after_a_change(db_url: str) -> None:
    from rlm_cachetrack.analytics import span
    from rlm_cachetrack.web.cached_queries import CachedQueries
    from rlm_cachetrack.web.source import DashboardStore

    queries, week = CachedQueries(DashboardStore(db_url)), span("7d")

    def is_kept() -> bool:
        first = queries.usage(week, {})
        time.sleep(0.6)
        return queries.usage(week, {}) is first

    with TimescaleDBClient(db_url) as db:
        for calls in (1, 2):
            db.record_llm_interaction(record("kept", datetime.now(UTC), prompt_tokens=10, cached_tokens=0))
            db.flush()
            time.sleep(0.6)  # the marker is at most half a second old
            assert queries.usage(week, {})["total"]["total_interactions"] == calls
            deadline = time.monotonic() + 120
            while not is_kept():  # the marker contains PostgreSQL's row counters, which follow within ten seconds
                assert time.monotonic() < deadline
    queries.close()


def test_static_files_are_compressed_and_cached_by_content(address: str) -> None:
    page = fetch(f"{address}/")[0].decode()
    for name in ("app.css", "app.js", "live.js", "charts.js", "chart.umd.min.js"):
        url = re.search(rf'"(/static/{name}\?v=[0-9a-f]+)"', page)
        assert url is not None, name
        body, headers = fetch(address + url[1], Accept_Encoding="gzip")
        assert "max-age=31536000, immutable" in headers["cache-control"]
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == fetch(address + url[1])[0]
        assert fetch(f"{address}/static/{name}?v=old")[1]["cache-control"] == "no-cache"
        assert len(body) < 80_000


@pytest.mark.parametrize("path", ["/", "/runs", "/models", "/queries", "/losses", "/experiments", "/forecast"])
def test_pages_are_small_and_have_no_inline_script(path: str, address: str) -> None:
    body, headers = fetch(f"{address}{path}", Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert len(body) < 100_000
    for tag in re.findall(r"<script[^>]*>", gzip.decompress(body).decode()):
        assert "src=" in tag or 'type="application/json"' in tag
    assert not re.search(r'\son\w+="', gzip.decompress(body).decode())


def test_a_run_says_first_why_calls_missed_and_folds_long_tables(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db, served(db_url) as address:
        for number in range(41):
            db.record_llm_interaction(record("long", BEGUN, number, prompt_tokens=1000, cached_tokens=0))
        db.record_llm_interaction(record("short", BEGUN, prompt_tokens=1000, cached_tokens=0))
        db.flush()
        key = {"query_id": "long", "run_id": BEGUN.isoformat()}
        page = fetch(f"{address}/run?{urlencode(key)}")[0].decode()
        assert page.index("Why calls missed the cache") < page.index("<figure")
        assert page.count('<details class="folded">') == 2
        assert "Show 41 calls" in page
        page = fetch(f"{address}/run?{urlencode({**key, 'query_id': 'short'})}")[0].decode()
        assert "folded" not in page


def test_health_shows_activity_and_dead_letters(address: str) -> None:
    found = api(address, "health")
    newest = NOW - timedelta(hours=1)
    assert abs(datetime.fromisoformat(found["activity"]["last_call"]) - newest) < timedelta(seconds=1)
    assert found["activity"]["database_bytes"] > 1_000_000
    words = text_of(address, "/health")
    assert re.search(r"Last call received 1 h \d+ min ago", words)
    assert "Dead letters in order none" in words


def test_the_month_before_is_compared_only_if_its_days_have_data(db_url: str, today: datetime) -> None:
    month = today.replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    period = min(datetime.now(UTC) - month, month - before)
    if period < timedelta(hours=3):
        pytest.skip("the month began less than three hours ago")
    with TimescaleDBClient(db_url) as db:
        for begun in (before + period - timedelta(minutes=90), datetime.now(UTC)):
            db.record_llm_interaction(record("late", begun, prompt_tokens=1000))
        assert db.flush()
    with served(db_url) as address:
        words = text_of(address, "/")
        assert "No comparison: the same days of the month before have data for only" in words
        assert "in the same days of the month before" not in words
        with TimescaleDBClient(db_url) as db:
            db.record_llm_interaction(record("early", before - timedelta(days=1), prompt_tokens=1000))
            assert db.flush()
    with served(db_url) as address:
        assert "in the same days of the month before" in text_of(address, "/")
