"""The dashboard over real HTTP and PostgreSQL: consistent numbers, access control, and invalid requests."""

from __future__ import annotations

import html
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.formatting.text import usd
from rlm_cachetrack.store.engine import detect
from tests.support.web import BEGUN, HOSTILE, LONG, record, served, store_missed, store_runs

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

PAGES = (
    "/",
    "/queries",
    "/losses",
    "/savings",
    "/models",
    "/runs",
    "/failed",
    "/experiments",
    "/forecast",
    "/health",
    "/api/docs",
)
TOKEN = "correct horse"
SORTS = ("start", "duration", "calls", "tokens", "cost", "saved", "hit_rate")


class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def get(address: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(address + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return send(request)


def send(request: urllib.request.Request) -> tuple[int, str, dict[str, str]]:
    try:
        with urllib.request.build_opener(Redirects).open(request, timeout=180) as answer:
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode(), {k.lower(): v for k, v in exc.headers.items()}


def api(address: str, path: str, **query: Any) -> Any:
    status, text, _ = get(address, f"/api/{path}?{urlencode(query)}")
    assert status == 200, text
    return json.loads(text)


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    store_runs(module_db_url)
    return module_db_url


@pytest.fixture(scope="module")
def reader(stored: str) -> Iterator[str]:
    """Return the URL for a database user with read-only rights."""
    name = f"reader_{time.time_ns()}"
    with psycopg.connect(stored, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        yield make_conninfo(stored, user=name)
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def address(reader: str) -> Iterator[str]:
    with served(reader) as address:
        yield address


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_complete_without_javascript(path: str, address: str) -> None:
    status, text, headers = get(address, path)
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "<h1>" in text
    assert "None" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_the_numbers_are_the_same_on_the_page_in_the_api_and_in_sql(address: str, stored: str) -> None:
    total = api(address, "usage", range="24h", model="tuned")["total"]
    assert (total["total_interactions"], total["total_prompt_tokens"], total["total_cached_tokens"]) == (6, 6000, 2500)
    assert total["total_cost"] == pytest.approx(0.0495, abs=1e-12)
    assert total["cost_savings"] == pytest.approx(0.0225, abs=1e-12)
    assert total["cache_hit_rate"] == pytest.approx(2500 / 6000, abs=1e-12)
    _, page, _ = get(address, "/?range=24h&model=tuned")
    shown = dict(re.findall(r'<dt>([^<]*)</dt>\s*<dd>\s*<data value="([^"]*)"', page))
    assert [float(shown[name]) for name in ("Cost", "Saved by the cache", "Hit rate", "Calls")] == [
        total["total_cost"],
        total["cost_savings"],
        total["cache_hit_rate"],
        total["total_interactions"],
    ]
    with psycopg.connect(stored) as connection:
        row = connection.execute(
            "SELECT count(*), sum(total_cost), sum(original_cost - total_cost) FROM llm_interactions "
            "WHERE model = 'tuned' AND time > now() - interval '1 day'"
        ).fetchone()
    assert row == (6, pytest.approx(total["total_cost"]), pytest.approx(total["cost_savings"]))


@pytest.mark.parametrize("range_", ["all", "24h"])
def test_models_are_those_of_the_client(range_: str, address: str, stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        since = None if range_ == "all" else datetime.now(UTC) - timedelta(days=1)
        wanted = {row["model"]: row for row in db.get_cache_effectiveness_by_model(since)}
    found = {row["model"]: row for row in api(address, "usage", range=range_)["models"]}
    assert set(found) == set(wanted) == {"tuned", HOSTILE, f"{LONG[:499]}…"}  # names have at most 500 characters
    for model, row in wanted.items():
        mine = found[model]
        for name in ("total_interactions", "total_prompt_tokens", "unpriced_interactions"):
            assert mine[name] == row[name]
        assert mine["total_cached_tokens"] == (
            None if row["avg_cache_hit_rate"] is None else row["total_cached_tokens"]
        )
        for name in ("total_cost", "original_cost", "cost_savings", "avg_duration_ms"):
            assert mine[name] == (None if row[name] is None else pytest.approx(row[name], rel=1e-12))
        rate = row["avg_cache_hit_rate"]
        assert mine["cache_hit_rate"] == (None if rate is None else pytest.approx(rate, rel=1e-12))


def test_buckets_add_up_to_the_total(address: str) -> None:
    for range_, provider in (("all", None), ("7d", "openai")):
        found = api(address, "usage", range=range_, **({"provider": provider} if provider else {}))
        for name in ("total_interactions", "total_prompt_tokens", "failed_interactions"):
            assert sum(row[name] for row in found["buckets"]) == found["total"][name]
            assert sum(row[name] for row in found["models"]) == found["total"][name]


def test_a_range_between_two_dates_is_exact(address: str) -> None:
    first = (BEGUN - timedelta(days=40, hours=3)).isoformat()
    last = (BEGUN - timedelta(days=40, hours=1)).isoformat()
    # Runs begin at whole hours, two at a time: 3 and 2 hours before lie within.
    assert api(address, "usage", since=first, until=last)["total"]["total_interactions"] == 4


def test_a_run_has_its_totals_iterations_and_calls(address: str, stored: str) -> None:
    key = {"query_id": "bench", "run_id": BEGUN.isoformat()}
    found = api(address, "run", **key)
    with TimescaleDBClient(stored) as db:
        summary = db.get_token_cache_summary("bench", BEGUN)
        optimization = db.get_token_cache_optimization("bench", BEGUN)
    assert summary is not None
    assert optimization is not None
    assert found["summary"]["total_cost"] == summary["total_cost"]
    assert [
        {name: step[name] for name in ("iteration", "prompt_tokens", "cached_tokens", "cache_hit_rate")}
        for step in found["iterations"]
    ] == optimization["cache_evolution"]
    steps = found["iterations"]
    assert [step["uncached_tokens"] for step in steps] == [1000, 500, 500, 500, 500, 500]
    assert steps[1]["cost_savings"] == pytest.approx(0.0045, abs=1e-12)
    first = api(address, "run/calls", limit=4, **key)
    rest = api(address, "run/calls", limit=4, after=first["next"], **key)
    assert [call["iteration"] for call in first["calls"] + rest["calls"]] == [1, 2, 3, 4, 5, 6]
    assert rest["next"] is None
    _, page, _ = get(address, f"/run?{urlencode(key)}")
    assert page.count('<th scope="row"><time') == 6


def test_a_run_explains_its_misses_and_updates_the_explanation(db_url: str) -> None:
    store_missed(db_url)
    with TimescaleDBClient(db_url) as db, served(db_url) as address:
        run_id = db.list_query_runs()[0]["run_id"]
        key = {"query_id": "missed", "run_id": run_id.isoformat()}
        found = api(address, "run/explain", **key)
        same = json.dumps(db.explain_cache("missed"), default=lambda value: value.isoformat().replace("+00:00", "Z"))
        assert found == json.loads(same)
        assert [(each["verdict"], each["calls"]) for each in found["verdicts"]] == [
            ("prefix_changed", 5),
            ("first_call", 1),
        ]
        newest = api(address, "run/explain", limit=2, **key)
        assert [each["verdict"] for each in newest["interactions"]] == ["prefix_changed"] * 2
        assert "only the newest 2 calls were explained" in newest["notes"]

        _, page, _ = get(address, f"/run?{urlencode(key)}")
        text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
        rates = f"{found['achievable_hit_rate']:.1%} achievable (+{found['tokens_lost']:,} tokens"
        assert f"Hit rate: 0.0% read from cache; {rates}, {usd(found['usd_lost'])})." in text
        assert f"prompt changed 5 {found['tokens_lost']:,} {usd(found['usd_lost'])}" in text
        assert (
            f"{usd(found['advice'][0]['usd_at_stake'])} in 5 calls: The system prompt changes from call to call" in text
        )
        assert page.count("prompt changed: system prompt</span>") == 5

        db.record_llm_interaction(record("missed", run_id, prompt_tokens=1000))
        db.flush()
        deadline = time.monotonic() + 180
        while len(api(address, "run/explain", **key)["interactions"]) != 7:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the server polls for changes twice a second
        assert get(address, "/api/run/explain?query_id=x&run_id=2026-01-01T00:00:00Z")[0] == 404


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_runs_show_each_run_once_in_order(sort: str, order: str, address: str) -> None:
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = api(address, "runs", sort=sort, order=order, limit=7, after=after)
        found += page["runs"]
        after = page["next"]
    assert len(found) == 42
    assert len({(run["query_id"], run["run_id"]) for run in found}) == 42
    column = {
        "start": "start_time",
        "duration": "duration_ms",
        "calls": "total_interactions",
        "tokens": "total_prompt_tokens",
        "cost": "total_cost",
        "saved": "cost_savings",
        "hit_rate": "cache_hit_rate",
    }[sort]
    values = [run[column] for run in found if sort == "start" or run["status"] != "running"]
    # The order of addition changes the last digit of float sums.
    rounded = [round(value, 9) if isinstance(value, float) else value for value in values]
    assert rounded == sorted(rounded, reverse=order == "desc")


def test_a_search_matches_the_text_literally(address: str) -> None:
    assert len(api(address, "runs", search="OLD_", limit=100)["runs"]) == 20
    assert len(api(address, "runs", search="%", limit=100)["runs"]) == 20
    assert len(api(address, "runs", search="old-1", limit=100)["runs"]) == 5  # 10, 12, 14, 16, 18
    assert [run["query_id"] for run in api(address, "runs", search="DROP TABLE")["runs"]] == [HOSTILE]


def test_a_run_is_running_while_it_makes_calls_and_never_completed_afterwards(address: str, stored: str) -> None:
    """A killed process does not end its run, and calls outside any run have no run that could end."""
    now = datetime.now(UTC)
    with TimescaleDBClient(stored) as db:
        for name, began, last in (
            ("goes-on", now - timedelta(hours=5), now - timedelta(minutes=50)),
            ("killed", now - timedelta(hours=5), now - timedelta(minutes=70)),
            ("ended", now - timedelta(hours=5), now - timedelta(minutes=50)),
        ):
            for moment in (began, last):
                db.record_llm_interaction(record(name, began, start_time=moment))
        db.initialize_query_run("just-begun", now)
        db.complete_query_run("ended", now - timedelta(hours=5))
        db.flush()
        try:
            wanted = {"goes-on": "running", "killed": "never completed", "ended": "completed", "just-begun": "running"}
            for sort in ("start", "cost"):
                found = api(address, "runs", sort=sort, limit=100)["runs"]
                assert {run["query_id"]: run["state"] for run in found if run["query_id"] in wanted} == wanted
                for state in ("running", "never completed", "completed"):
                    chosen = api(address, "runs", sort=sort, status=state, limit=100)["runs"]
                    names = {run["query_id"] for run in chosen}
                    assert {run["state"] for run in chosen} == {state}
                    assert names & set(wanted) == {name for name, its in wanted.items() if its == state}
            listed = {run["query_id"]: run for run in db.list_query_runs()}
            assert {name: listed[name]["state"] for name in wanted} == wanted
            assert listed["killed"]["status"] == "running"  # the stored status does not change
            killed = db.get_query_run_summary("killed", now - timedelta(hours=5))
            assert killed is not None
            assert killed["state"] == "never completed"
        finally:
            for name in ("goes-on", "killed", "ended", "just-begun"):
                db.delete(query_id=name)


def test_hostile_names_are_shown_as_text(address: str, stored: str) -> None:
    for path in ("/?range=all", "/models?range=all", "/runs", f"/models?{urlencode({'model': HOSTILE})}"):
        _, text, _ = get(address, path)
        assert "<img src=x" not in text
        assert "<script>document" not in text
        assert "\x1b" not in re.sub(r'<option value="[^"]*"', "", text)
        assert LONG not in re.sub(r'(?:value|href)="[^"]*"', "", text)
    _, text, _ = get(address, f"/run?{urlencode({'query_id': HOSTILE, 'run_id': BEGUN.isoformat()})}")
    assert "&lt;img src=x onerror=" in text
    assert "\\x1b[31m\\u202egnp.exe" in text
    assert "<img" not in text
    with psycopg.connect(stored) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (48,)


def test_the_api_describes_itself(address: str) -> None:
    # The path that FastAPI uses; FastAPI's own page would load scripts from another host.
    status, _, headers = get(address, "/docs")
    assert (status, headers["location"]) == (307, "/api/docs")
    assert "/api/usage" in get(address, "/api/docs")[1]
    described = json.loads(get(address, "/api/openapi.json")[1])
    assert set(described["paths"]) == {
        "/api/usage",
        "/api/queries",
        "/api/losses",
        "/api/month",
        "/api/alerts",
        "/api/experiments",
        "/api/savings",
        "/api/runs",
        "/api/run",
        "/api/run/calls",
        "/api/run/explain",
        "/api/forecast",
        "/api/health",
    }
    row = described["components"]["schemas"]["UsageRow"]
    assert row["properties"]["cache_hit_rate"]["anyOf"] == [{"type": "number"}, {"type": "null"}]


def test_the_forecast_and_the_health_are_in_the_api(address: str) -> None:
    found = api(address, "forecast", days=7)
    assert found["forecast"]["days"] == 7
    assert api(address, "health")["database"]["migrations_pending"] == []


# -- bad requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/api/nothing", 404),
        ("/run?query_id=x&run_id=2026-01-01T00:00:00Z", 404),
        ("/api/run?query_id=x&run_id=2026-01-01T00:00:00Z", 404),
        ("/api/run?query_id=x&run_id=yesterday", 400),
        ("/api/run?query_id=x", 422),
        ("/api/runs?sort=price", 400),
        ("/api/runs?order=up", 422),
        ("/api/runs?limit=0", 422),
        ("/api/runs?after=AAAA", 400),
        ("/api/runs?after=" + quote("é"), 400),
        ("/api/runs?search=%00", 200),
        ("/api/run?query_id=%00&run_id=2026-01-01T00:00:00Z", 404),
        ("/api/usage?range=eon", 400),
        ("/api/usage?since=2026-02-01&until=2026-01-01", 400),
        ("/api/usage?since=10000-01-01", 400),
        ("/api/usage?model=%00", 200),
        ("/api/forecast?days=1000000", 422),
        ("/?range=eon", 400),
        ("/api/usage?rnage=7d", 400),
        ("/api/health?x=1", 400),
        ("/api/runs?tag=team", 400),
        ("/api/queries?by=model", 400),
        ("/runs?tag=team", 400),
        ("/?tz=Mars/Base", 400),
        ("/?tz=../etc/passwd", 400),
        ("/models?sort=colour", 400),
        ("/queries?by=price", 400),
        ("/static/../application.py", 404),
    ],
)
def test_an_invalid_request_gets_an_error_status(path: str, status: int, address: str) -> None:
    found, text, _ = get(address, path)
    assert found == status, text
    assert "Traceback" not in text


# -- access control ----------------------------------------------------------------------------------------------------


def test_responses_have_strict_security_headers(address: str) -> None:
    for path in ("/", "/api/usage", "/static/app.js", "/nothing"):
        _, _, headers = get(address, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
    assert get(address, "/api/usage")[2]["cache-control"] == "no-store"
    assert "server" not in get(address, "/")[2]


def test_no_page_loads_anything_from_another_server(address: str) -> None:
    for path in PAGES:
        text = get(address, path)[1]
        assert re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', text) == []


def test_an_unknown_host_header_is_rejected(address: str) -> None:
    """Another site could make its own host name resolve to 127.0.0.1."""
    assert get(address, "/api/usage", Host="evil.example")[0] == 421
    assert get(address, "/api/usage", Host="localhost:1")[0] == 200


def test_a_public_address_requires_a_token(stored: str) -> None:
    result = CliRunner().invoke(app, ["dashboard", "--host", "0.0.0.0", "--db-url", stored])
    assert result.exit_code == 2
    assert "RLM_CACHETRACK_DASHBOARD_TOKEN" in result.stderr


def test_every_page_requires_the_token(reader: str) -> None:
    environment = {"RLM_CACHETRACK_DASHBOARD_TOKEN": TOKEN}
    with served(reader, "--host", "0.0.0.0", environment=environment) as address:
        address = address.replace("0.0.0.0", "127.0.0.1")
        for path in (*PAGES, "/live", "/api/usage", "/static/app.js", "/nothing"):
            status, text, _ = get(address, path)
            assert status == 401, path
            assert "bench" not in text
        assert get(address, "/api/usage", Authorization="Bearer wrong")[0] == 401
        assert get(address, "/api/usage", Authorization=f"Bearer {TOKEN}")[0] == 200
        status, _, headers = get(address, f"/runs?sort=cost&token={quote(TOKEN)}")
        assert (status, headers["location"]) == (303, "/runs?sort=cost")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert get(address, "/runs", Cookie=cookie.split(";")[0])[0] == 200
        for given, status in ((TOKEN, 303), ("wrong", 401)):
            body = urlencode({"token": given}).encode()
            assert send(urllib.request.Request(f"{address}/login", data=body))[0] == status


# -- live updates ------------------------------------------------------------------------------------------------------


def test_a_new_call_is_announced_to_an_open_page(stored: str, address: str) -> None:
    with urllib.request.urlopen(f"{address}/live", timeout=180) as stream:
        assert stream.readline() == b"event: hello\n"
        with TimescaleDBClient(stored) as db:
            db.record_llm_interaction(record("live", datetime.now(UTC), prompt_tokens=10, cached_tokens=0))
            db.flush()
            deadline = time.monotonic() + 180
            while stream.readline() != b"event: changed\n":
                assert time.monotonic() < deadline
            db.delete(query_id="live")


def test_equal_requests_at_the_same_time_share_a_page(address: str) -> None:
    """All open pages ask for themselves at once when a call is stored."""
    with ThreadPoolExecutor(20) as pool:
        pages = list(pool.map(lambda _: get(address, "/?range=24h")[1], range(20)))
    rendered = [text.partition('data-rendered="')[2].partition('"')[0] for text in pages]
    assert len(set(rendered)) < len(rendered)  # to the microsecond
    assert get(address, "/models")[1] != get(address, "/models?range=all")[1]


def test_a_new_call_with_an_old_time_is_announced_too(stored: str, address: str) -> None:
    """An import or a recovered journal stores such calls, which are not among the newest."""
    with psycopg.connect(stored) as connection:
        if detect(connection).citus:
            pytest.skip("PostgreSQL counts the rows of shards on the workers: dashboard_marker does not see them")
    old = BEGUN - timedelta(days=40)
    with TimescaleDBClient(stored) as db:
        db.record_llm_interaction(record("old-0", old, 30, prompt_tokens=10, cached_tokens=0))
        db.flush()
        time.sleep(
            1.1
        )  # PostgreSQL updates the row counts of a connection once a second, or up to ten seconds later under load
        with urllib.request.urlopen(f"{address}/live", timeout=180) as stream:
            assert stream.readline() == b"event: hello\n"
            db.record_llm_interaction(record("old-0", old, 30, prompt_tokens=10, cached_tokens=0))
            db.flush()
            deadline = time.monotonic() + 180
            while stream.readline() != b"event: changed\n":
                assert time.monotonic() < deadline
        with psycopg.connect(stored) as connection:
            connection.execute("DELETE FROM llm_interactions WHERE query_id = 'old-0' AND iteration = 31")


def test_a_response_includes_calls_stored_half_a_second_before(stored: str, address: str) -> None:
    """This also holds if no page is connected for live updates."""
    with TimescaleDBClient(stored) as db:
        run = datetime.now(UTC)
        for number in range(1, 6):
            db.record_llm_interaction(record("at-once", run, prompt_tokens=10, cached_tokens=0))
            db.flush()
            time.sleep(0.55)
            assert api(address, "usage", range="1h", model="tuned")["total"]["total_interactions"] >= number
            listed = api(address, "runs", search="at-once")["runs"]
            assert [one["total_interactions"] for one in listed] == [number]
        db.delete(query_id="at-once")


# -- the report --------------------------------------------------------------------------------------------------------


def test_a_report_is_one_file_with_the_numbers(stored: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.html"
    assert CliRunner().invoke(app, ["report", "bench", "--html", str(file), "--db-url", stored]).exit_code == 0
    text = file.read_text()
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="', text) == []
    body = text[text.index("<body") :]
    assert f'<data value="{2500 / 6000}">41.7%</data>' in body
    assert body.count('<th scope="row"><time') == 6
    assert 'href="/' not in body


def test_a_report_of_a_long_run_is_below_one_and_a_half_megabytes(db_url: str, tmp_path: Path) -> None:
    with TimescaleDBClient(db_url) as db:
        for number in range(400):
            db.record_llm_interaction(record("long", BEGUN, number, prompt_tokens=1000 + number, cached_tokens=500))
        db.flush()
    file = tmp_path / "long.html"
    assert CliRunner().invoke(app, ["report", "long", "--html", str(file), "--db-url", db_url]).exit_code == 0
    text = file.read_text()
    assert len(text.encode()) < 1_500_000
    assert "Only the first 100 of 400 iterations are listed" in text
    assert "Only the first 150 calls are shown." in text


def test_a_report_as_markdown_escapes_untrusted_text(stored: str) -> None:
    result = CliRunner().invoke(app, ["report", HOSTILE, "--db-url", stored])
    assert result.exit_code == 0
    first = result.stdout.splitlines()[0]
    assert first.startswith("### `<img src=x onerror=")
    assert "\x1b" not in result.stdout
    bench = CliRunner().invoke(app, ["report", "bench", "--md", "--db-url", stored]).stdout
    assert "| 41.7% | $0.0225 | $0.0495 instead of $0.0720 | 6 | 0 | 6,000 | 2,500 | 600 |" in bench
    assert "| 2 | 1,000 | 500 | 50.0% | $0.0075 | $0.0120 | $0.0045 |" in bench


def test_a_report_explains_cache_misses(db_url: str, tmp_path: Path) -> None:
    store_missed(db_url)
    with TimescaleDBClient(db_url) as db:
        found = db.explain_cache("missed")
    assert found is not None
    markdown = CliRunner().invoke(app, ["report", "missed", "--md", "--db-url", db_url]).stdout
    assert "Hit rate: 0.0% read from cache" in markdown
    assert f"| prompt changed | 5 | {found['tokens_lost']:,} | {usd(found['usd_lost'])} |" in markdown
    assert f"- {usd(found['usd_lost'])} (5 calls): The system prompt changes from call to call" in markdown
    file = tmp_path / "missed.html"
    assert CliRunner().invoke(app, ["report", "missed", "--html", str(file), "--db-url", db_url]).exit_code == 0
    assert file.read_text().count("prompt changed: system prompt</span>") == 5


def test_a_report_of_an_unknown_query_is_not_found(stored: str) -> None:
    assert CliRunner().invoke(app, ["report", "nobody", "--db-url", stored]).exit_code == 1
