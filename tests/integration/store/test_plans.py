"""No query scans the table of calls, except those whose header announces it: their plans at 250,000 calls.

Runs on PostgreSQL and, if they are installed, on TimescaleDB with all but the last week in the columnstore, and on
Citus. Each query is executed with EXPLAIN ANALYZE in a transaction that is rolled back: with narrow parameters (one
run, one query, one day), and with every optional parameter NULL. A scan reads more than a twentieth of
the calls without an index; on TimescaleDB that is more than a day. Headers may contain:

* ``Reads the raw table``: it scans.
* ``Without a bound it reads the raw table``: it scans if its optional parameters are NULL.
* ``On Citus, without a bound, it reads the raw table``: the same, because Citus stores no hourly sums.
* ``In the columnstore it reads the raw table``: its index covers only calls that are stored as rows.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rlm_cachetrack.records import COLUMNS
from rlm_cachetrack.store import batch_write, connect, hourly, migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import detect
from rlm_cachetrack.store.hourly_sums import HourlySums
from tests.conftest import _database
from tests.integration.store.conftest import skip_unless_plain
from tests.support import clusters, plans
from tests.support.timescale import to_columnstore

ROWS, DAYS, QUERIES, CALLS_PER_RUN = 250_000, 30, 200, 50
RUNS = ROWS // CALLS_PER_RUN
MUCH = ROWS // 20
T0 = (datetime.now(UTC) - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0)
STEP = timedelta(days=DAYS) / RUNS

CALLS = """
INSERT INTO llm_interactions (
    time, start_time, interaction_id, query_id, run_id, model, provider, service_tier, iteration, prompt_tokens,
    completion_tokens, total_tokens, cached_tokens, uncached_prompt_tokens, total_cost, original_cost, duration_ms,
    success, price_source
)
SELECT
    run_id + iteration * INTERVAL '2 seconds', run_id + iteration * INTERVAL '2 seconds', md5(n::text)::uuid,
    'query-' || mod(run, %(queries)s), run_id, 'model-' || mod(run, 4), 'openai', 'default', iteration + 1,
    1000 + 50 * iteration, 100 + mod(n, 300), 1100 + 50 * iteration + mod(n, 300), 50 * iteration, 1000,
    0.001 * mod(n, 97), 0.002 * mod(n, 97), 900 + mod(n, 311), TRUE, 'genai-prices:1'
FROM (
    SELECT
        n, n / %(calls)s AS run, mod(n, %(calls)s) AS iteration,
        %(begin)s::timestamptz + (n / %(calls)s) * %(step)s::interval AS run_id
    FROM generate_series(0, %(rows)s - 1) AS n
) AS numbered
"""
ENDED = """
INSERT INTO query_run_summaries (
    query_id, run_id, start_time, end_time, status, first_call_time, last_call_time, total_interactions,
    failed_interactions, total_prompt_tokens, total_completion_tokens, total_tokens, total_cached_tokens,
    reported_prompt_tokens, rated_cached_tokens, total_cost
)
SELECT
    'query-' || mod(run, %(queries)s), run_id, run_id, run_id + INTERVAL '100 seconds', 'completed', run_id,
    run_id + INTERVAL '98 seconds', %(calls)s, 0, 111250, 12500, 123750, 61250, 111250, 61250, 2.5
FROM (
    SELECT run, %(begin)s::timestamptz + run * %(step)s::interval AS run_id FROM generate_series(0, %(runs)s - 1) AS run
) AS numbered
"""
SAVED = """
INSERT INTO token_cache_optimization (
    query_id, run_id, time, total_prompt_tokens, total_cached_tokens, cache_savings_tokens, cost_savings,
    total_interactions, interactions_with_cache, interactions_without_cache, interactions_not_reported,
    unpriced_interactions, cache_evolution
)
SELECT
    query_id, run_id, last_call_time, 111250, 61250, 61250, mod(extract(epoch FROM run_id)::bigint, 977) / 100.0, 50,
    49, 1, 0, 0, '[]'
FROM query_run_summaries
"""
CHANGED = """
INSERT INTO price_change_rows (change_id, batch, query_id, run_id, time, interaction_id)
SELECT 1, 1, query_id, run_id, time, interaction_id FROM llm_interactions WHERE time >= %(first)s AND time < %(last)s
"""
COUNTED = """
INSERT INTO price_change_runs (change_id, query_id, run_id)
SELECT DISTINCT 1::bigint, query_id, run_id FROM price_change_rows
"""


def run(number: int) -> tuple[str, datetime]:
    return f"query-{number % QUERIES}", T0 + number * STEP


OLD, DAY = run(RUNS // 10), T0 + timedelta(days=5)
LATER = [run(number) for number in range(RUNS // 10, RUNS // 10 + 4)]
RATES = [
    {
        "model": f"model-{number}",
        "provider": "openai",
        "service_tier": "default",
        "valid_from": "-infinity",
        "valid_to": "infinity",
        "above": -1,
        "up_to": 2_000_000_000,
        **dict.fromkeys(("prompt", "cached", "cache_write", "completion"), 0.003),
        "source": "yaml:x",
        "by_tokens_alone": True,
    }
    for number in range(4)
]
ONE_ID = uuid.UUID(int=1 << 127)
NARROW: dict[str, Any] = {
    "calls": "[]",
    "unpriced": False,
    "success": True,
    "score": 0.5,
    "label": None,
    "tags": None,
    "grouping": "model",
    "interaction_id": ONE_ID,
    "beginning": "q",
    "names": ["a"],
    "new_values": [1.0],
    "reasons": ["a"],
    "valid_for": timedelta(minutes=1),
    "firing": True,
    "value": 1.0,
    "reason": "a",
    "notified": True,
    "apis": ["responses"],
    "origin": "update",
    "sha8": "0123abcd",
    "data": "[]",
    "known": 0,
    "by_model": True,
    "by_provider": True,
    "by_query": True,
    "by_depth": True,
    "by_call_site": True,
    "time_zone": "UTC",
    "tag_1": "user",
    "tag_2": None,
    "tag_3": None,
    "key_1": "agent",
    "key_2": None,
    "key_3": None,
    "key": None,
    "keep": False,
    "include_given": False,
    "query_id": OLD[0],
    "run_id": OLD[1],
    "first_call": OLD[1],
    "last_call": OLD[1] + timedelta(seconds=98),
    "query_ids": [key[0] for key in LATER],
    "interaction_ids": [str(uuid.UUID(int=number)) for number in range(100)],
    "is_local": False,
    "run_ids": [key[1] for key in LATER],
    "last_run": LATER[-1][1],
    "chunk": "x",
    "first_calls": [key[1] for key in LATER],
    "last_calls": [key[1] for key in LATER],
    "times": [key[1] for key in LATER],
    "ids": [ONE_ID] * len(LATER),
    "since": DAY,
    "until": DAY + timedelta(hours=6),
    "first_hour": DAY,
    "last_hour": DAY + timedelta(hours=6),
    "first_time": DAY,
    "last_time": DAY + timedelta(minutes=10),
    "first": DAY,
    "last": DAY + timedelta(hours=1),
    "before": T0 + timedelta(hours=6),
    "before_time": T0 + timedelta(days=29),
    "before_id": ONE_ID,
    "after_time": DAY,
    "after_id": ONE_ID,
    "after_query_id": OLD[0],
    "after_run_id": OLD[1],
    "after_key": 1.0,
    "last_id": ONE_ID,
    "time": OLD[1],
    "hours": [DAY, DAY + timedelta(hours=1)],
    "rest_s": 60.0,
    "requests": [1],
    "model": "model-1",
    "models": ["model-1"],
    "of_query": 10,
    "newest": 2000,
    "provider": "openai",
    "providers": ["openai"],
    "search": "%query-19%",
    "outcome": "succeeded",
    "state": "completed",
    "status": "completed",
    "sort": "cost",
    "direction": 1,
    "unit": "hour",
    "from_calls": False,
    "period": "day",
    "amount_usd": 1.0,
    "limit": 50,
    "size": 500,
    "batch": 1,
    "change_id": 1,
    "interactions": 1,
    "changed": 1,
    "cost_before": 1.0,
    "cost_after": 0.9,
    "first_changed": DAY,
    "last_changed": DAY,
    "total_interactions": 1,
    "rates": json.dumps(RATES),
    "own": False,
    "hit_rate": 0.5,
    "pricing": "x",
    "metadata": None,
    "name": "x",
    "engine": "x",
    "version": 1,
    "checksum": "x",
    "lock": 1,
    "table": "llm_interactions",
    "column": "time",
    "found": "text",
    "wanted": "uuid",
    "after": timedelta(days=7),
    "start": None,
    "citus": False,
}
"""Values of all parameters of all queries: one run, one query, one day, one page."""

# The bounds of a run are always read first; they are NULL only for runs that other software stored. A deletion needs a
# query or a time.
ALWAYS_GIVEN = ("first_call", "last_call", "before", "metadata")
# Parameters with which a query reads other tables.
ALTERNATIVES: dict[str, dict[str, Any]] = {"usage_breakdown": {"unit": "minute", "from_calls": True}}
# The queries that must run before a query, in the same transaction.
AFTER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("reprice_apply", "reprice_save", "reprice_batch"), ("reprice_stage",)),
    "reprice_staged_details": ("reprice_stage",),
    **dict.fromkeys(("reprice_stage_details", "reprice_stage_unchanged"), ("reprice_stage",)),
    **dict.fromkeys(("reprice_optimizations", "reprice_run_totals", "reprice_runs_done"), ("reprice_stage_runs",)),
    "staging_merge": ("staging_create",),
}
PLANNED = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE TEMPORARY TABLE \w+ ON COMMIT DROP AS)\b")
# Citus executes these on the coordinator and does not explain them.
NOT_EXPLAINED_BY_CITUS = ("price_list_claim", "reprice_save", "staging_merge", "staging_runs", "store_optimization")
NAMES = sorted(path.stem for path in (_sql.schema_dir() / "queries").glob("*.sql"))


def header_and_statement(name: str) -> tuple[str, str]:
    text = _sql.query(name)
    lines = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    statement = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE)
    columns = ", ".join(COLUMNS)
    for placeholder, value in (("table", "token_cache_optimization"), ("columns", columns), ("functions", "public")):
        statement = statement.replace(f"{{{placeholder}}}", value)
    if name == "staging_create":
        statement = statement.replace(
            "{definitions}", batch_write._staging().decode().partition("(")[2].partition(") ON")[0]
        )
    return " ".join(lines), statement


def wide(statement: str) -> dict[str, Any]:
    """Return the parameters with every optional one NULL."""
    optional = set(re.findall(r"%\((\w+)\)s::[\w ]+ IS NULL|coalesce\(%\((\w+)\)s", statement))
    names = {name for pair in optional for name in pair} - set(ALWAYS_GIVEN)
    return {**NARROW, **dict.fromkeys(names)}


def fill(url: str) -> None:
    values = {
        "begin": T0, "step": STEP, "rows": ROWS, "runs": RUNS, "queries": QUERIES, "calls": CALLS_PER_RUN,
        "first": DAY, "last": DAY + timedelta(minutes=10),
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        migrations.migrate(connection)
        timescale = detect(connection).timescale is not None
        for statement in (CALLS, ENDED, SAVED, CHANGED, COUNTED):
            connection.execute(statement, values)
        if timescale:
            connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now())")
            to_columnstore(connection, "7 days")
        if isinstance(sums := hourly.find(connection), HourlySums):
            sums.refresh(connection, [T0, datetime.now(UTC)])
        connection.execute("VACUUM ANALYZE")
        if detect(connection).citus:  # only VACUUM of a named table is sent to the nodes
            for table in ("llm_interactions", "query_run_summaries", "token_cache_optimization"):
                connection.execute(f"VACUUM ANALYZE {table}")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(server_url: str) -> Iterator[str]:
    for url in _database(server_url, None):
        skip_unless_plain(url)
        fill(url)
        yield url


@pytest.fixture(scope="module")
def timescale(timescale_server_url: str) -> Iterator[str]:
    for url in _database(timescale_server_url, "template0"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        fill(url)
        yield url


@pytest.fixture(scope="module")
def distributed(citus_servers: clusters.Citus) -> Iterator[str]:
    name = f"rlm_test_{uuid.uuid4().hex[:12]}"
    made = citus_servers.create(name)
    fill(made.coordinator)
    yield made.coordinator
    citus_servers.drop(name)


def scanned(connection: psycopg.Connection[Any], name: str, parameters: dict[str, Any], raw: frozenset[str]) -> int:
    """Return how many calls the query reads without an index."""
    with connection.transaction(force_rollback=True):
        for before in AFTER.get(name, ()):
            connection.execute(header_and_statement(before)[1], parameters)  # type: ignore[arg-type]
        read, _ = plans.explain(connection, header_and_statement(name)[1], parameters, raw)
    return sum(one.rows for one in read if one.sequential)


def check(url: str, *, timescale: bool = False, citus: bool = False) -> None:
    wrong = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connect.pin_settings(connection, is_local=False)
        if timescale:  # as in every transaction that writes
            connection.execute(_sql.query("timescale_unbounded_dml").replace("TRUE", "FALSE"))
        raw = plans.raw_relations(connection)
        for name in NAMES:
            header, statement = header_and_statement(name)
            if not PLANNED.match(statement):
                assert not re.search(r"(FROM|JOIN|UPDATE|INTO) llm_interactions", statement), name
                continue
            if "Citus only" in header or (not timescale and "TimescaleDB only" in header):
                continue
            if (timescale or citus) and "Plain PostgreSQL only" in header:
                continue
            if citus and name in NOT_EXPLAINED_BY_CITUS:
                continue
            narrow_rows = scanned(connection, name, NARROW, raw)
            if other := ALTERNATIVES.get(name):
                narrow_rows = max(narrow_rows, scanned(connection, name, {**NARROW, **other}, raw))
            wide_rows = scanned(connection, name, wide(statement), raw)
            always = "Reads the raw table" in header or (
                timescale and "In the columnstore it reads the raw table" in header
            )
            allowed = (
                always
                or "Without a bound it reads the raw table" in header
                or (citus and "On Citus, without a bound, it reads the raw table" in header)
            )
            if narrow_rows > MUCH and not always:
                wrong.append(f"{name} reads {narrow_rows:,} calls without an index")
            elif wide_rows > MUCH and not allowed:
                wrong.append(f"{name}, without optional parameters, reads {wide_rows:,} calls without an index")
            elif allowed and not (timescale or citus or "index" in header) and max(narrow_rows, wide_rows) <= MUCH:
                wrong.append(
                    f"{name}: the header announces a scan, but it reads {narrow_rows:,} and {wide_rows:,} calls"
                )
    assert not wrong, "\n".join(wrong)


def test_every_parameter_has_a_narrow_value() -> None:
    used = {
        name: set(re.findall(r"%\((\w+)\)s", statement))
        for name in NAMES
        if PLANNED.match(statement := header_and_statement(name)[1])
    }
    assert {name: found - set(NARROW) for name, found in used.items() if found - set(NARROW)} == {}


def test_queries_scan_calls_only_where_announced_on_postgresql(plain: str) -> None:
    check(plain)


def test_queries_scan_calls_only_where_announced_on_timescaledb(timescale: str) -> None:
    check(timescale, timescale=True)


def test_queries_scan_calls_only_where_announced_on_citus(distributed: str) -> None:
    check(distributed, citus=True)


def test_usage_of_the_dashboard_is_summed_without_a_sort_on_disk(plain: str) -> None:
    """PostgreSQL sorts on disk if it overestimates the number of groups, which doubles the time of the first view."""
    with psycopg.connect(plain, autocommit=True, prepare_threshold=None) as connection:
        connect.pin_settings(connection, is_local=False)
        for days, unit in ((7, "hour"), (30, "day"), (None, "day")):
            since = None if days is None else T0 + timedelta(days=DAYS - days)
            values = {**NARROW, "unit": unit, "since": since, "until": None, "model": None, "provider": None}
            _, plan = plans.explain(connection, header_and_statement("usage_breakdown")[1], values, frozenset())
            assert "Disk" not in {node.get("Sort Space Type") for node in nodes(plan)}, (days, unit)
            assert not any(node.get("Disk Usage") for node in nodes(plan)), (days, unit)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan, including those of parallel workers."""
    yield plan
    for inner in (*plan.get("Plans", ()), *plan.get("Workers", ())):
        yield from nodes(inner)
