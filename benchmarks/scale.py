"""How long the queries take, and how much space a call takes, at ROWS stored calls: ``make bench-scale ROWS=1000000``.

On every engine that is present: the embedded PostgreSQL, and the TimescaleDB server that
``RLM_CACHETRACK_TEST_TIMESCALE_URL`` names, each with a database that is made and dropped. Calls are stored by the
library's own COPY, runs of 50 calls evenly over DAYS days (30) up to now, four models; then what policies would do
later is done: hours materialized, days older than a week moved to the columnstore. Times are medians of 20, warm.
"scans": whether the plan reads the whole table of calls one after the other.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import Progress

from rlm_cachetrack import RecordBatch, TimescaleDBClient, _sql, analytics, embedded, migrations
from rlm_cachetrack.records import COLUMNS, RunEnd, new_id
from rlm_cachetrack.storage import PostgresStore

ROWS = int(os.environ.get("ROWS", "1000000"))
DAYS = int(os.environ.get("DAYS", "30"))
CALLS_A_RUN, RUNS_A_BATCH, REPEATS = 50, 100, 20
TARGETS = {
    "by model, all time": 10,
    "one run, fresh": 5,
    "one run, columnstore": 15,
    "top savings": 5,
    "by hour, 30 days": 20,
}
"""Milliseconds on TimescaleDB at 10,000,000 rows."""
_PLACES = {name: number for number, name in enumerate(COLUMNS)}


def batches(now: datetime) -> Iterator[RecordBatch]:
    """The calls, as the writer would hand them to the store."""
    runs = ROWS // CALLS_A_RUN
    step = timedelta(days=DAYS) / runs
    for first in range(0, runs, RUNS_A_BATCH):
        rows, ends = [], []
        for number in range(first, min(first + RUNS_A_BATCH, runs)):
            run_id = now - timedelta(days=DAYS) + number * step
            query_id = f"query-{number % 200}"
            rows += [call(query_id, run_id, iteration, number) for iteration in range(CALLS_A_RUN)]
            ends.append(RunEnd(query_id, run_id, run_id + timedelta(seconds=2 * CALLS_A_RUN)))
        yield RecordBatch(rows, run_ends=ends)


def call(query_id: str, run_id: datetime, iteration: int, number: int) -> tuple[Any, ...]:
    moment = run_id + timedelta(seconds=2 * iteration)
    prompt = 1500 + 120 * iteration + number % 97
    cached = 0 if iteration == 0 else (prompt - 120) // 128 * 128
    total = ((prompt - cached) * 0.00125 + cached * 0.000125 + 300 * 0.01) / 1000
    known = {
        "time": moment,
        "interaction_id": UUID(new_id()),
        "query_id": query_id,
        "run_id": run_id,
        "model": f"gpt-5-{number % 4}",
        "prompt_tokens": prompt,
        "completion_tokens": 300,
        "total_tokens": prompt + 300,
        "cached_tokens": cached,
        "uncached_prompt_tokens": prompt - cached,
        "reasoning_tokens": 128,
        "prompt_token_price": 0.00125,
        "cached_token_price": 0.000125,
        "cache_write_token_price": 0.00125,
        "completion_token_price": 0.01,
        "total_cost": total,
        "original_cost": (prompt * 0.00125 + 300 * 0.01) / 1000,
        "duration_ms": 900.0 + number % 13,
        "start_time": moment,
        "end_time": moment + timedelta(seconds=1),
        "context_messages": 2 * iteration + 1,
        "response_length": 1200,
        "iteration": iteration + 1,
        "has_tool_calls": False,
        "tool_call_count": 0,
        "success": True,
        "provider": "openai",
        "api": "chat.completions",
        "service_tier": "default",
        "finish_reason": "stop",
        "price_source": "genai-prices:0.2.3",
    }
    row: list[Any] = [None] * len(COLUMNS)
    for name, value in known.items():
        row[_PLACES[name]] = value
    return tuple(row)


def fill(store: PostgresStore, now: datetime) -> float:
    """Store all; calls a second."""
    begun = time.perf_counter()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{ROWS:,} calls", total=ROWS)
        for batch in batches(now):
            store.store(batch)
            progress.advance(task, len(batch.interactions))
    return ROWS / (time.perf_counter() - begun)


def settle(connection: psycopg.Connection[Any], timescale: bool) -> None:
    """Do now what the policies and autovacuum would do later."""
    if timescale:
        connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '1 hour')")
        connection.execute(
            "SELECT compress_chunk(c, TRUE) FROM show_chunks('llm_interactions', older_than => INTERVAL '7 days') AS c"
        )
    for table in ("llm_interactions", "token_cache_optimization", "query_run_summaries"):
        connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(table)))


def sizes(connection: psycopg.Connection[Any], timescale: bool) -> str:
    """Bytes a call, indexes included."""
    if not timescale:
        found = connection.execute("SELECT pg_total_relation_size('llm_interactions')").fetchone()
        return f"{found[0] / ROWS:.0f} bytes a call" if found else ""
    packed = connection.execute(
        "SELECT sum(s.after_compression_total_bytes), count(*) FROM chunk_compression_stats('llm_interactions') AS s"
        " WHERE s.compression_status = 'Compressed'"
    ).fetchone()
    rows = connection.execute(
        "SELECT count(*) FROM llm_interactions WHERE time <"
        " (SELECT max(c.range_end) FROM timescaledb_information.chunks AS c "
        "WHERE c.hypertable_name = 'llm_interactions' AND c.is_compressed)"
    ).fetchone()
    whole = connection.execute("SELECT hypertable_size('llm_interactions')").fetchone()
    if not packed or not rows or not whole or not rows[0]:
        return ""
    return (
        f"{packed[0] / rows[0]:.0f} bytes a call in the columnstore ({rows[0]:,} calls), {whole[0] / 1e9:.2f} GB in all"
    )


def scans(store: PostgresStore, act: Callable[[], Any]) -> bool:
    """Whether a query that ``act`` runs reads the whole table of calls."""
    asked: list[tuple[str, dict[str, Any]]] = []
    query = store.query

    def noting(name: str, /, **parameters: Any) -> Any:
        asked.append((name, parameters))
        return query(name, **parameters)

    store.query = noting  # type: ignore[method-assign]
    try:
        act()
    finally:
        del store.query
    with store.connection() as connection:
        plans = [
            "\n".join(row[0] for row in connection.execute("EXPLAIN " + _sql.query(name), parameters))  # type: ignore[arg-type]
            for name, parameters in asked
        ]
    return any("Seq Scan on llm_interactions" in plan or plan.count("Seq Scan on _hyper_1_") > 1 for plan in plans)


def measure(url: str, name: str) -> None:
    """Fill a database and print the rows of one engine."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with TimescaleDBClient(url) as client:
        store = client.runtime.store()
        rate = fill(store, now)
        with psycopg.connect(url, autocommit=True) as connection:
            timescale = migrations.detect(connection).timescale is not None
            settle(connection, timescale)
            space = sizes(connection, timescale)
        runs = ROWS // CALLS_A_RUN
        step = timedelta(days=DAYS) / runs
        fresh, old = runs - 1, runs // 10

        def run(number: int) -> tuple[str, datetime]:
            return f"query-{number % 200}", now - timedelta(days=DAYS) + number * step

        acts: dict[str, Callable[[], Any]] = {
            "by model, all time": client.get_cache_effectiveness_by_model,
            "one run, fresh": lambda: client.get_token_cache_summary(*run(fresh)),
            "one run, columnstore": lambda: client.get_token_cache_summary(*run(old)),
            "calls of one run": lambda: client.get_llm_interactions(*run(old)),
            "optimization of one run": lambda: client.get_token_cache_optimization(*run(old)),
            "top savings": lambda: client.get_top_cache_savings(10),
            "by hour, 30 days": lambda: analytics.usage_over_time(
                store, since=now - timedelta(days=30), until=now, unit="hour"
            ),
            "runs list": client.list_query_runs,
        }
        for what, act in acts.items():
            act()
            times = []
            for _ in range(REPEATS):
                begun = time.perf_counter()
                act()
                times.append((time.perf_counter() - begun) * 1e3)
            target = f"≤ {TARGETS[what]}" if what in TARGETS and timescale else ""
            whole = "yes" if scans(store, act) else "no"
            print(f"| {name} | {what} | {statistics.median(times):.1f} | {target} | {whole} |")
    print(f"| {name} | stored: {rate:,.0f} calls/s; {space} | | | |", flush=True)


def on_each_engine() -> None:
    """Print the table."""
    print(f"{ROWS:,} calls in {ROWS // CALLS_A_RUN:,} runs\n")
    print("| engine | query | p50, ms | target at 10,000,000 | scans |")
    print("|---|---|--:|--:|---|")
    if server := os.environ.get("RLM_CACHETRACK_TEST_TIMESCALE_URL"):
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            try:
                measure(make_conninfo(server, dbname=name), "TimescaleDB")
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    folder = Path(tempfile.mkdtemp(prefix="rlmct-", dir="/tmp"))  # PostgreSQL's account must reach it
    folder.chmod(0o711)
    try:
        measure(embedded.ensure_running(folder), "PostgreSQL")
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        on_each_engine()
