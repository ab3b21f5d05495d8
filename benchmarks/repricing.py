"""Measure how long it takes to re-price 1,000,000 stored calls, and to undo it. Target: at most 60 s.

Uses a temporary embedded PostgreSQL with default settings, or a new database on the server that
``RLM_CACHETRACK_BENCH_URL`` names. The calls are of four models in 10,000 ended runs over 30 days (``CALLS_PER_RUN=50``
makes 20,000), and all of them change. The time includes the difference by model, saving the old prices, and the new
sums of the runs. ``ROWS=100000`` is a smaller run. On a server with TimescaleDB, ``COMPRESS=1``
compresses every chunk first, and ``POLICY=2`` runs the columnstore policy every two seconds meanwhile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.store import embedded, migrations, named_sql

ROWS = int(os.environ.get("ROWS", "1000000"))
CALLS_PER_RUN = int(os.environ.get("CALLS_PER_RUN", "100"))
TARGET_S = 60
PRICES = "version: 1\nper: 1M\nmodels:\n" + "".join(
    f"  model-{number}: {{prompt: {number + 2}, cached: 0.2, completion: 9, tiers: {{flex: 0.5}}}}\n"
    for number in range(4)
)
FILL = """
INSERT INTO llm_interactions (
    time, query_id, run_id, model, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
    uncached_prompt_tokens, prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price,
    total_cost, original_cost, duration_ms, iteration, provider, api, service_tier, price_source, usage
)
SELECT
    run + (n %% %(calls)s) * INTERVAL '2 seconds', 'query-' || n / %(calls)s %% 50, run, 'model-' || n %% 4,
    4000 + n %% 977, 300, 4300 + n %% 977, n %% 3000, 4000 + n %% 977 - n %% 3000, 0.001, 0.0001, 0.001, 0.004,
    ((4000 + n %% 977 - n %% 3000) * 0.001 + (n %% 3000) * 0.0001 + 300 * 0.004) / 1000,
    ((4000 + n %% 977) * 0.001 + 300 * 0.004) / 1000,
    900, n %% %(calls)s + 1, 'openai', 'chat', CASE WHEN n %% 10 = 0 THEN 'flex' ELSE 'default' END, 'yaml:00000000',
    '{"prompt_tokens": 4000, "completion_tokens": 300}'
FROM (
    SELECT n, '2026-03-01Z'::timestamptz + (n / %(calls)s) * INTERVAL '30 days' / (%(rows)s / %(calls)s) AS run
    FROM generate_series(0, %(rows)s - 1) AS n
) AS calls
"""
RUNS = """
INSERT INTO query_run_summaries (
    query_id, run_id, start_time, end_time, status, total_interactions, total_cost, first_call_time, last_call_time
)
SELECT query_id, run_id, run_id, max(time), 'completed', count(*), sum(total_cost), min(time), max(time)
FROM llm_interactions GROUP BY query_id, run_id
"""

POLICY = """
SELECT alter_job(job_id, schedule_interval => %s::interval, next_start => now())
FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_columnstore')
"""
POLICY_RUNS = """
SELECT sum(s.total_runs), sum(s.total_failures)
FROM timescaledb_information.jobs AS j JOIN timescaledb_information.job_stats AS s USING (job_id)
WHERE j.proc_name IN ('policy_compression', 'policy_columnstore')
"""


def measure(url: str, prices: Path) -> None:
    """Fill the database, re-price and undo; print a table."""
    with psycopg.connect(url, autocommit=True) as connection:
        migrations.migrate(connection)
        begun = time.perf_counter()
        connection.execute(FILL, {"rows": ROWS, "calls": CALLS_PER_RUN})
        connection.execute(RUNS)
        runs = connection.execute("SELECT query_id, run_id FROM query_run_summaries ORDER BY 1, 2").fetchall()
        ids = {"query_ids": [r[0] for r in runs], "run_ids": [r[1] for r in runs]}
        connection.execute(named_sql.query("store_optimization"), {**ids, "first_call": None, "last_call": None})
        if os.environ.get("COMPRESS"):
            connection.execute("ALTER TABLE llm_interactions SET (timescaledb.compress)")
            connection.execute("SELECT compress_chunk(c, TRUE) FROM show_chunks('llm_interactions') AS c")
        if seconds := os.environ.get("POLICY"):
            connection.execute(POLICY, [f"{seconds} seconds"])
        connection.execute("VACUUM ANALYZE llm_interactions")
        print(f"filled {ROWS:,} calls of {len(runs):,} runs in {time.perf_counter() - begun:.0f} s", flush=True)
    with TimescaleDBClient(url) as client:
        taken = []
        begun = time.perf_counter()
        client.reprice(prices, dry_run=True)
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        change = client.reprice(prices)["change"]
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        client.undo_repricing()
        taken.append(time.perf_counter() - begun)
        if os.environ.get("POLICY"):
            with psycopg.connect(url) as connection:
                runs, failures = connection.execute(POLICY_RUNS).fetchone() or (0, 0)
            print(f"the columnstore policy ran {runs} times, {failures} of them failed")
    if change is None or change["changed_interactions"] != ROWS:
        raise SystemExit(f"expected {ROWS} calls to change: {change}")
    print(f"\n| {ROWS:,} calls, s | difference only | difference and change | undo | target |")
    print("|---|--:|--:|--:|--:|")
    print(f"| seconds | {taken[0]:.1f} | {taken[1]:.1f} | {taken[2]:.1f} | ≤ {TARGET_S} |")


def main() -> None:
    """Measure on a temporary server or database."""
    folder = Path(
        tempfile.mkdtemp(prefix="rlmct-", dir="/tmp")
    )  # the user of the PostgreSQL server must be able to enter the folder
    folder.chmod(0o711)
    os.environ["RLM_CACHETRACK_STATE_DIR"] = str(folder / "state")
    prices = folder / "prices.yaml"
    prices.write_text(PRICES, encoding="utf-8")
    server = os.environ.get("RLM_CACHETRACK_BENCH_URL")
    try:
        base = server or embedded.ensure_running(folder)
        name = f"rlm_bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(base, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            try:
                measure(make_conninfo(base, dbname=name), prices)
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    finally:
        if server is None:
            embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
