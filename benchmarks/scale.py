"""Measure query times and bytes per call at ROWS stored calls: ``make bench-scale ROWS=1000000``.

Runs on every engine that is installed; ENGINES selects some of them. TimescaleDB: an installed PostgreSQL with the
extension, or the server of ``RLM_CACHETRACK_TEST_TIMESCALE_URL``. Citus: a coordinator and two workers on this machine,
or the cluster whose coordinator ``RLM_CACHETRACK_TEST_CITUS_URL`` names. PostgreSQL: an installed one without
extensions. And the embedded one. Servers are started with default settings (Citus with fewer shards) and removed.

The calls are those of ``scale_calls.py`` with two tags each, distributed evenly over AGE days (30) and stored by the
library, in runs of CALLS_PER_RUN calls (50). ``AGE=900 ROWS=18000 CALLS_PER_RUN=10`` is a small, old store: 20 calls a
day. Then the work of the policies is done: all hours are materialized except the one in progress, which is always half
filled, and days older than a week are moved to the columnstore, of fewer than 10,000 calls per day in chunks of a week.
Times are medians of 20 warm runs (fewer if a run takes long). "CPU of server" is the CPU time of the connection's
process, without parallel workers; on a busy machine it is more meaningful than the times. "calls read" counts the calls
that the executed plans read, and those read without an index.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scale_calls import CALLS_PER_RUN, Data, Kept

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rlm_cachetrack import TimescaleDBClient, analytics
from rlm_cachetrack.analytics.alerts.evaluation import evaluate
from rlm_cachetrack.analytics.alerts.rules import Failures, HitRate, Spend
from rlm_cachetrack.store import embedded, hourly
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.connect import pin_settings
from rlm_cachetrack.store.engine import detect
from rlm_cachetrack.store.postgres import PostgresStore
from tests.support import clusters, plans

ROWS = int(os.environ.get("ROWS", "1000000"))
AGE = int(os.environ.get("AGE", "30"))
REPEATS, LONGEST_MS = 20, 5_000
SAMPLE = 200_000
TARGETS = {
    "by model, all time": 10,
    "one run, fresh": 5,
    "one run, columnstore": 15,
    "top savings": 5,
    "by hour, 30 days": 20,
    "by day, 3 years": 20,
    "runs list": 10,
    "a page of runs, newest": 15,
    "a page of runs, by cost": 50,
}
"""Targets in milliseconds on TimescaleDB, at 10,000,000 calls in 30 days and at 20 calls per day for 900 days."""
ALERTS = {
    "spend": Spend(kind="spend", name="spend", window="24h", above=1.0),
    "hit rate": HitRate(kind="hit_rate", name="hit rate", window="1h", drop=1.0),
    "failures": Failures(kind="failures", name="failures", window="1h", above_percentage=1.0),
}
NUMBERS, TAGGED = Kept(), Kept(tags=True)
VARIANTS = {
    "with two tags": TAGGED,
    "with the raw usage": Kept(usage=True),
    "with the request id": Kept(request_id=True),
    "with a fingerprint": Kept(fingerprint=True),
}


def data(rows: int = ROWS, days: float = AGE, kept: Kept = NUMBERS) -> Data:
    """Return the calls to store, up to the middle of the hour in progress."""
    until = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    return Data(rows, days, until, kept)


# -- engines ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _named_server(server: str) -> Iterator[str]:
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def _citus(server: str | None, programs: Path | None) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        nodes = clusters.citus_at(server) if server else None
        if nodes is None:
            assert programs is not None
            # As docs/scaling.md recommends for few nodes.
            advised = {"citus__shard_count": "8", "citus__max_cached_conns_per_worker": "4"}
            nodes = stack.enter_context(clusters.citus_cluster(programs, fsync="on", **advised))
        name = f"bench_{uuid.uuid4().hex[:8]}"
        try:
            yield nodes.create(name).coordinator
        finally:
            nodes.drop(name)


@contextlib.contextmanager
def _embedded_server() -> Iterator[str]:
    folder = Path(
        tempfile.mkdtemp(prefix="rlmct-", dir="/tmp")
    )  # the user of the PostgreSQL server must be able to enter the folder
    folder.chmod(0o711)
    try:
        yield embedded.ensure_running(folder)
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def engines() -> dict[str, AbstractContextManager[str]]:
    """Return the installed engines, each with a context manager that yields the URL of an empty database."""
    found: dict[str, AbstractContextManager[str]] = {}
    if server := os.environ.get("RLM_CACHETRACK_TEST_TIMESCALE_URL"):
        found["TimescaleDB"] = _named_server(server)
    elif programs := clusters.installation_with("timescaledb"):
        # Background jobs would disturb the measurements; settle() does their work.
        jobs = {"timescaledb__max_background_workers": "0"}
        found["TimescaleDB"] = clusters.cluster(programs, "timescaledb", fsync="on", **jobs)
    server, programs = os.environ.get("RLM_CACHETRACK_TEST_CITUS_URL"), clusters.installation_with("citus")
    if server or programs:
        found["Citus"] = _citus(server, programs)
    if programs := clusters.installation_with(None):
        found["PostgreSQL"] = clusters.cluster(programs, None, fsync="on")
    found["embedded PostgreSQL"] = _embedded_server()
    wanted = [name.strip().lower() for name in os.environ.get("ENGINES", "").split(",") if name.strip()]
    return {name: one for name, one in found.items() if not wanted or name.lower() in wanted}


# -- filling ----------------------------------------------------------------------------------------------------------


def fill(store: PostgresStore, calls: Data, label: str = "calls") -> float:
    """Store the calls; return calls per second."""
    begun = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=calls.runs * CALLS_PER_RUN)
        for batch in calls.batches():
            store.store(batch)
            progress.advance(task, len(batch.interactions))
    return calls.rows / (time.perf_counter() - begun)


def widen_chunks(store: PostgresStore, calls: Data) -> None:
    """Set the width of chunks that the daily job sets after eight days."""
    with store.connection() as connection:
        if detect(connection).timescale is not None and calls.rows < 10_000 * calls.days:
            connection.execute("SELECT set_chunk_time_interval('llm_interactions', INTERVAL '7 days')")


def settle(connection: psycopg.Connection[Any], timescale: bool, columnstore_after: str = "7 days") -> None:
    """Do the work of policies and autovacuum."""
    if timescale:
        hour = connection.execute("SELECT date_trunc('hour', max(time)) FROM llm_interactions").fetchone()
        connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, %s::timestamptz)", hour)
        connection.execute(
            "SELECT compress_chunk(c, TRUE) FROM show_chunks('llm_interactions', older_than => %s::interval) AS c",
            [columnstore_after],
        )
    elif sums := hourly.find(connection):
        row = connection.execute(
            "SELECT date_trunc('hour', min(time)), date_trunc('hour', max(time)) FROM llm_interactions"
        ).fetchone()
        sums.refresh(connection, row or ())
    for table in ("llm_interactions", "token_cache_optimization", "query_run_summaries"):
        connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(table)))


# -- measuring --------------------------------------------------------------------------------------------------------


def packed_bytes(connection: psycopg.Connection[Any]) -> float | None:
    """Return the bytes per call in the columnstore, with indexes; None if it is empty."""
    row = connection.execute(
        "SELECT sum(after_compression_total_bytes) FROM chunk_compression_stats('llm_interactions')"
        " WHERE compression_status = 'Compressed'"
    ).fetchone()
    rows = connection.execute("SELECT sum(numrows_pre_compression) FROM _timescaledb_catalog.compression_chunk_size")
    counted = rows.fetchone()
    return float(row[0] / counted[0]) if row and row[0] and counted and counted[0] else None


def space(connection: psycopg.Connection[Any], timescale: bool) -> list[tuple[str, str]]:
    """Return the space per call, indexes included, each figure with its label."""
    if not timescale:
        size = "citus_total_relation_size" if detect(connection).citus else "pg_total_relation_size"
        row = connection.execute(f"SELECT {size}('llm_interactions')").fetchone()  # type: ignore[arg-type]
        return [("bytes per call, with indexes", f"{row[0] / ROWS:.0f}")] if row else []
    whole = connection.execute("SELECT hypertable_size('llm_interactions')").fetchone()
    packed = packed_bytes(connection)
    lines = [] if packed is None else [("bytes per call in the columnstore, with indexes", f"{packed:.1f}")]
    return [*lines, ("size of all calls, GB", f"{whole[0] / 1e9:.2f}")] if whole else lines


def space_of_parts(url: str) -> Iterator[tuple[str, str]]:
    """Yield label and figure of the bytes that each large part adds to a call in the columnstore."""
    sizes = {}
    for what, kept in {"without": NUMBERS, **VARIANTS}.items():
        with _named_server(url) as database, TimescaleDBClient(database) as client:
            rows = min(ROWS, SAMPLE)
            fill(client.runtime.store(), data(rows, AGE * rows / ROWS, kept), what)
            with psycopg.connect(database, autocommit=True) as connection:
                settle(connection, timescale=True, columnstore_after="-1 days")
                sizes[what] = packed_bytes(connection) or float("nan")
    yield "without tags, bytes in the columnstore", f"{sizes['without']:.1f}"
    for what in VARIANTS:
        yield f"{what}, additional bytes in the columnstore", f"{sizes[what] - sizes['without']:.1f}"


def calls_read(store: PostgresStore, act: Callable[[], Any]) -> tuple[int, int]:
    """Return how many calls the queries of ``act`` read, and how many of them without an index."""
    asked: list[tuple[str, dict[str, Any]]] = []
    query = store.query

    def record(name: str, /, **parameters: Any) -> Any:
        asked.append((name, parameters))
        return query(name, **parameters)

    store.query = record  # type: ignore[method-assign]
    try:
        act()
    finally:
        del store.query
    with psycopg.connect(store._open_url(), autocommit=True) as connection:
        pin_settings(connection, is_local=False)
        raw = plans.raw_relations(connection)
        read = [one for name, values in asked for one in plans.explain(connection, _sql.query(name), values, raw)[0]]
    return sum(one.rows for one in read), sum(one.rows for one in read if one.sequential)


def acts(client: TimescaleDBClient, calls: Data) -> dict[str, Callable[[], Any]]:
    """Return the measured actions by label."""
    store = client.runtime.store()
    fresh, old = calls.run(calls.runs - 1), calls.run(calls.runs // 10)
    bounds = {"since": calls.until.replace(minute=0) - timedelta(days=30), "until": calls.until}
    day = {"since": calls.until - timedelta(days=1), "until": calls.until}
    return {
        "by model, all time": client.get_cache_effectiveness_by_model,
        "by model, 10 days and partial hours": lambda: client.get_cache_effectiveness_by_model(
            calls.until - timedelta(days=12, minutes=17), calls.until - timedelta(days=2, minutes=21)
        ),
        "one run, fresh": lambda: client.get_token_cache_summary(*fresh),
        "one run, columnstore": lambda: client.get_token_cache_summary(*old),
        "calls of one run, fresh": lambda: client.get_llm_interactions(*fresh),
        "calls of one run, columnstore": lambda: client.get_llm_interactions(*old),
        "optimization of one run": lambda: client.get_token_cache_optimization(*old),
        "iterations of one run, columnstore": lambda: analytics.iterations_of_run(store, *old),
        "top savings": lambda: client.get_top_cache_savings(10),
        "by hour, 30 days": lambda: client.get_usage(["hour"], **bounds),
        "by day, 30 days": lambda: client.get_usage(["day"], **bounds),
        "by day, 3 years": lambda: client.get_usage(["day"], since=calls.until - timedelta(days=1095)),
        "runs list": client.list_query_runs,
        "a page of runs, newest": lambda: analytics.runs_page(store),
        "a page of runs, by cost": lambda: analytics.runs_page(store, sort="cost"),
        "runs list of one query": lambda: analytics.list_runs(store, 100, query_id=old[0]),
        "usage by tag, 30 days": lambda: client.get_usage(["tag:user"], **bounds),
        "usage of one tag, 30 days": lambda: client.get_usage(["model"], tags={"user": "u-17"}, **bounds),
        "usage of one tag, 1 day": lambda: client.get_usage(["model"], tags={"user": "u-17"}, **day),
        "usage by query, 30 days": lambda: client.get_usage(["query"], **bounds),
        "usage of one query, 30 days": lambda: client.get_usage(["model"], query_id=old[0], **bounds),
        **{f"alert: {name}": partial(evaluate, store, rule, calls.until, int) for name, rule in ALERTS.items()},
    }


def measure(url: str, name: str, calls: Data, rate: float | None = None) -> None:
    """Print the results of one engine, after fill() and settle()."""
    with TimescaleDBClient(url) as client, psycopg.connect(url, autocommit=True) as connection:
        timescale = detect(connection).timescale is not None
        measured = acts(client, calls)
        for what, act in measured.items():
            _measure(client, name, what, act, f"≤ {TARGETS[what]}" if what in TARGETS and timescale else "")
        if timescale:
            connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, NULL)")
            for what in ("by model, all time", "by hour, 30 days"):
                _measure(client, name, f"{what}, no hour in progress", measured[what], f"≤ {TARGETS[what]}")
        lines = space(connection, timescale)
    if rate is not None:
        lines.append(("calls stored per second", f"{rate:,.0f}"))
    for what, figure in lines:
        print(f"| {name} | {what} | {figure} | | | | | |", flush=True)


def _measure(client: TimescaleDBClient, name: str, what: str, act: Callable[[], Any], target: str) -> None:
    act()
    times: list[float] = []
    worked: list[float] = []
    with psycopg.connect(client.runtime.store()._open_url(), autocommit=True) as connection:
        while len(times) < REPEATS and (sum(times) < LONGEST_MS or len(times) < 3):
            before, begun = _cpu_ms(connection), time.perf_counter()
            act()
            times.append((time.perf_counter() - begun) * 1e3)
            worked.append(sum(total - before.get(pid, 0.0) for pid, total in _cpu_ms(connection).items()))
    read, unindexed = calls_read(client.runtime.store(), act)
    figures = f"{statistics.median(times):.1f} | {min(times):.1f} | {statistics.median(worked):.1f}"
    print(f"| {name} | {what} | {figures} | {target} | {read:,} | {unindexed:,} |", flush=True)


def _cpu_ms(connection: psycopg.Connection[Any]) -> dict[int, float]:
    """Return the CPU time of each other connection to the database; empty if the server is on another machine."""
    found = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    files = {pid: Path(f"/proc/{pid}/schedstat") for (pid,) in found.fetchall()}
    return {pid: int(file.read_text().split()[0]) / 1e6 for pid, file in files.items() if file.exists()}


def on_each_engine() -> None:
    """Fill and measure every engine; print the table."""
    calls = data(kept=TAGGED)
    print(f"{calls.rows:,} calls in {calls.runs:,} runs over {calls.days} days\n")
    print("| engine | what | p50 in ms, or as named | min | CPU of server | target | calls read | without an index |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, engine in engines().items():
        with engine as url:
            with TimescaleDBClient(url) as client:
                store = client.runtime.store()
                store.open()
                widen_chunks(store, calls)
                rate = fill(store, calls, name)
            with psycopg.connect(url, autocommit=True) as connection:
                timescale = detect(connection).timescale is not None
                settle(connection, timescale)
            measure(url, name, calls, rate)
            if timescale:
                for what, figure in space_of_parts(url):
                    print(f"| {name} | {what} | {figure} | | | | | |", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        on_each_engine()
