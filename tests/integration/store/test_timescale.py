"""TimescaleDB: hypertables, continuous aggregate, columnstore, policies, and the same numbers as on PostgreSQL.

Runs on the server that ``RLM_CACHETRACK_TEST_TIMESCALE_URL`` names, where databases may be created, else on a temporary
cluster of an installed PostgreSQL that has the extension. The whole suite runs on such a server too: name it in
``RLM_CACHETRACK_TEST_DB_URL``.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openai import OpenAI
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import ConfigError, LLMInteractionRecord, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.records import COLUMNS, RecordBatch
from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store import retention as policies
from rlm_cachetrack.store.conflicts import retry_on_conflict
from rlm_cachetrack.store.engine import Engine, detect
from rlm_cachetrack.store.schema_scripts import scripts_for
from tests.integration.pipeline.test_bad_input import incompressible
from tests.support import clusters
from tests.support.legacy import wait_until
from tests.support.timescale import to_columnstore
from tests.support.web import store_missed

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def migrated(timescale_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        migrations.migrate(connection)
        yield connection


def record_two_days(db: TimescaleDBClient) -> None:
    """Record seven calls of two runs, over two days and in the current hour, with unpriced and not-reported ones."""
    prices = {"prompt_token_price": 0.002, "cached_token_price": 0.0005, "completion_token_price": 0.008}
    late, now = T0 + timedelta(days=1), datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    db.initialize_query_run("a", T0, {"n": 1})
    for number, (query_id, run_id, moment, fields) in enumerate(
        [
            ("a", T0, T0, {"prompt_tokens": 1000, "iteration": 1, "completion_tokens": 10, **prices}),
            (
                "a",
                T0,
                T0,
                {"prompt_tokens": 2000, "cached_tokens": 1500, "iteration": 2, "completion_tokens": 5, **prices},
            ),
            ("a", T0, late, {"prompt_tokens": 3000, "cached_tokens": 3000, "completion_tokens": 0, **prices}),
            ("a", T0, late, {"prompt_tokens": 400, "cached_tokens": None, "completion_tokens": 1, **prices}),
            ("a", T0, late, {"model": "nobody/none", "prompt_tokens": 9}),
            ("a", T0, late, {"cached_tokens": None, "success": False, "error_type": "APIError"}),
            ("b", now, now, {"prompt_tokens": 100, "cached_tokens": 50, "completion_tokens": 0, **prices}),
        ]
    ):
        start = moment + timedelta(seconds=number)
        end = start + timedelta(milliseconds=100 * number)
        given = {"model": "m", "start_time": start, "end_time": end, **fields}
        db.record_llm_interaction(
            LLMInteractionRecord(query_id=query_id, run_id=run_id, interaction_id=str(uuid.UUID(int=number)), **given)
        )
    db.complete_query_run("a", T0)
    db.calculate_and_store_cache_optimization("b", now)


def without_clocks(row: Any) -> Any:
    """Return the results without the times at which the test itself opened and closed runs.

    Costs to a billionth of a cent: chunks are summed in another order than one table.
    """
    if isinstance(row, list):
        return [without_clocks(item) for item in row]
    if isinstance(row, float):
        return round(row, 11)
    if not isinstance(row, dict):
        return row
    clocks = () if "interaction_id" in row else ("start_time", "end_time", "duration_ms")
    return {key: without_clocks(value) for key, value in row.items() if key not in clocks}


def everything(url: str) -> dict[str, Any]:
    with TimescaleDBClient(url) as db:
        record_two_days(db)
        (now,) = [run["run_id"] for run in db.list_query_runs() if run["query_id"] == "b"]
        answers: dict[str, Any] = {}
        for name, run_id in (("a", T0), ("b", now)):
            answers[f"summary {name}"] = db.get_token_cache_summary(name, run_id)
            answers[f"optimization {name}"] = db.get_token_cache_optimization(name, run_id)
            answers[f"calculated {name}"] = db.calculate_and_store_cache_optimization(name, run_id)
            answers[f"run {name}"] = db.get_query_run_summary(name, run_id)
            answers[f"calls {name}"] = db.get_llm_interactions(name, run_id)
        answers["top"] = db.get_top_cache_savings()
        answers["models"] = db.get_cache_effectiveness_by_model()
        answers["models of a day"] = db.get_cache_effectiveness_by_model(T0, T0 + timedelta(days=1))
        answers["runs"] = db.list_query_runs()
        answers["counted"] = db.count(query_id="a")
        answers["deleted"] = db.delete(query_id="a")
        answers["left"] = db.list_query_runs()
    return {key: without_clocks(value) for key, value in answers.items()}


# -- the schema -------------------------------------------------------------------------------------------------------


def test_both_growing_tables_are_hypertables(migrated: psycopg.Connection[Any]) -> None:
    rows = migrated.execute(
        "SELECT hypertable_name::text, column_name::text, time_interval FROM timescaledb_information.dimensions"
        " WHERE hypertable_schema = 'public' ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("llm_interactions", "time", timedelta(days=1)),
        ("token_cache_optimization", "run_id", timedelta(days=360)),  # INTERVAL '1 year' is 12 months of 30 days
    ]


def test_hourly_sums_are_integers_in_chunks_of_a_year(migrated: psycopg.Connection[Any]) -> None:
    """Planning a query over 900 days took longer than its execution with the default width, ten days."""
    migrated.execute(
        "INSERT INTO llm_interactions (time, query_id, run_id, model)"
        " SELECT time, 'old', time, 'm' FROM generate_series(%s::timestamptz, %s, INTERVAL '10 days') AS time",
        [T0 - timedelta(days=900), T0],
    )
    migrated.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, %s)", [T0])
    (chunks,) = migrated.execute(
        "SELECT count(*) FROM timescaledb_information.chunks AS c"
        " JOIN timescaledb_information.continuous_aggregates AS a"
        " ON a.materialization_hypertable_name = c.hypertable_name WHERE a.view_name = 'cache_usage_hourly'"
    ).fetchone() or (None,)
    assert 3 <= chunks <= 4
    numeric = migrated.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'cache_usage_hourly'::regclass"
        " AND atttypid = 'numeric'::regtype"
    )
    assert numeric.fetchall() == []


def test_describe_names_the_engine(migrated: psycopg.Connection[Any]) -> None:
    described = migrations.describe(migrated)
    assert described["engine"].startswith("TimescaleDB ")
    assert described["timescaledb_licence"] == "timescale"
    assert described["migrations_applied"] == [
        f"{engine}/{path.stem}"
        for engine, folder in (("core", "migrations"), ("timescale", "timescale"))
        for path in sorted((Path(__file__).parents[3] / "schema" / folder).glob("*.sql"))
    ]
    assert described["migrations_pending"] == []


def test_the_hourly_sums_are_a_real_time_continuous_aggregate(migrated: psycopg.Connection[Any]) -> None:
    rows = migrated.execute(
        "SELECT view_name::text, hypertable_name::text, materialized_only"
        " FROM timescaledb_information.continuous_aggregates"
    ).fetchall()
    assert rows == [("cache_usage_hourly", "llm_interactions", False)]
    policies = migrated.execute(
        "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    ).fetchone()
    assert policies == (1,)


def test_the_aggregate_has_the_columns_of_the_plain_view(migrated: psycopg.Connection[Any], empty_db_url: str) -> None:
    columns = (
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'cache_usage_hourly'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    with psycopg.connect(empty_db_url, autocommit=True) as plain:
        for script in (*_sql.scripts("core"), *_sql.scripts("postgresql")):
            plain.execute(script.sql)
        assert migrated.execute(columns).fetchall() == plain.execute(columns).fetchall()


@pytest.mark.parametrize(
    ("table", "index", "columns"),
    [
        ("llm_interactions", "llm_interactions_pkey", "(query_id, run_id, time, interaction_id)"),
        ("llm_interactions", "idx_llm_cached_tokens", "(cached_tokens DESC, time DESC)"),
        ("llm_interactions", "idx_llm_total_cost", "(total_cost DESC, time DESC)"),
        ("token_cache_optimization", "token_cache_optimization_pkey", "(query_id, run_id)"),
        ("token_cache_optimization", "idx_cache_opt_query_id", "(query_id, time DESC)"),
        ("token_cache_optimization", "idx_cache_opt_savings", "(cost_savings DESC, time DESC)"),
    ],
)
def test_keys_and_indexes_hold_on_hypertables(
    migrated: psycopg.Connection[Any], table: str, index: str, columns: str
) -> None:
    row = migrated.execute(
        "SELECT tablename::text, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname = %s", [index]
    ).fetchone()
    assert row is not None
    assert row[0] == table
    assert row[1].replace('"time"', "time").endswith(columns)


# -- the same numbers -------------------------------------------------------------------------------------------------


def test_the_same_calls_give_the_same_numbers_as_on_plain_postgresql(timescale_url: str, db_url: str) -> None:
    with psycopg.connect(db_url) as plain:
        if detect(plain).timescale:
            pytest.skip("the suite itself runs on TimescaleDB: there is no plain PostgreSQL to compare with")
    ours, plain_ones = everything(timescale_url), everything(db_url)
    for key, expected in plain_ones.items():
        assert ours[key] == expected, key


def test_the_numbers_are_correct_on_timescale(timescale_url: str) -> None:
    answers = everything(timescale_url)
    summary, optimization = answers["summary a"], answers["optimization a"]
    assert summary["total_interactions"] == 6
    assert summary["total_prompt_tokens"] == 1000 + 2000 + 3000 + 400 + 9
    assert summary["total_cached_tokens"] == 4500
    assert summary["cache_hit_rate"] == pytest.approx(4500 / 6009)
    # Thousandths of a dollar: 2 + .08; 500 x .002 + 1500 x .0005 + .04 = 1.79; 3000 x .0005 = 1.5; .8 + .008
    assert summary["total_cost"] == pytest.approx(0.00208 + 0.00179 + 0.0015 + 0.000808)
    assert optimization["cost_savings"] == pytest.approx(4500 * 0.0015 / 1000)
    assert [step["iteration"] for step in optimization["cache_evolution"]] == [1, 2, 3, 4, 5, 6]
    assert answers["counted"] == answers["deleted"] == {"interactions": 6, "runs": 1}
    assert [run["query_id"] for run in answers["left"]] == ["b"]


def test_hours_not_materialized_yet_are_in_the_aggregate(migrated: psycopg.Connection[Any], timescale_url: str) -> None:
    """Real-time: calls of the current hour are included although no refresh has run."""
    hours = "SELECT sum(total_interactions)::int, sum(cached_tokens)::int FROM cache_usage_hourly"
    with TimescaleDBClient(timescale_url) as db:
        record_two_days(db)
        assert migrated.execute(hours).fetchone() == (7, 4550)
        migrated.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '2 hours')")
        assert migrated.execute(hours).fetchone() == (7, 4550)
        now = datetime.now(UTC)
        db.record_llm_interaction(LLMInteractionRecord("c", now, "m", prompt_tokens=10, cached_tokens=4))
        db.flush()
        assert migrated.execute(hours).fetchone() == (8, 4554)


def test_a_call_below_the_watermark_is_in_the_aggregate_once_flushed(
    migrated: psycopg.Connection[Any], timescale_url: str
) -> None:
    """A late call belongs to a materialized hour; flush() returns when that hour is refreshed."""
    hours = "SELECT sum(total_interactions)::int FROM cache_usage_hourly"
    with TimescaleDBClient(timescale_url) as db:
        record_two_days(db)
        db.flush()
        migrated.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '2 hours')")
        db.record_llm_interaction(LLMInteractionRecord("late", T0, "m", start_time=T0, prompt_tokens=10))
        assert db.flush()
        assert migrated.execute(hours).fetchone() == (8,)


def some_weeks(connection: psycopg.Connection[Any], hours: int) -> None:
    """Insert a call every ten minutes, up to two hours ago."""
    connection.execute(
        "INSERT INTO llm_interactions (query_id, run_id, time, model, prompt_tokens, cached_tokens)"
        " SELECT 'q', %s::timestamptz, moment, 'm', 10, 4 FROM generate_series("
        "   date_trunc('hour', now()) - make_interval(hours => %s), date_trunc('hour', now()) - INTERVAL '2 hours',"
        "   INTERVAL '10 minutes') AS moment",
        [T0, hours],
    )


def watermark(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT max(watermark) FROM _timescaledb_catalog.continuous_aggs_watermark").fetchone()
    assert row is not None
    return int(row[0])


def test_no_call_is_missing_while_the_first_refresh_goes_on(
    migrated: psycopg.Connection[Any], timescale_url: str
) -> None:
    """The refresh goes from old to new hours: all hours before the newest materialized one count as materialized."""
    some_weeks(migrated, hours=24 * 60)
    # TimescaleDB 2.21 and newer refresh in batches by default, 2.20 does if asked.
    migrated.execute(
        "SELECT alter_job(job_id, config => config || '{\"buckets_per_batch\": 240}') FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    )
    count = "SELECT sum(total_interactions)::int FROM cache_usage_hourly"
    everything_there = migrated.execute("SELECT count(*)::int FROM llm_interactions").fetchone()
    failed: list[BaseException] = []

    def refresh() -> None:
        try:
            with psycopg.connect(timescale_url, autocommit=True) as other:
                run_job(other, "policy_refresh_continuous_aggregate")
        except BaseException as exc:
            failed.append(exc)

    policy = threading.Thread(target=refresh)
    policy.start()
    counts, marks = set(), set()
    while policy.is_alive():
        counts.add(migrated.execute(count).fetchone())
        marks.add(watermark(migrated))
    policy.join()
    assert failed == []
    assert counts == {everything_there}
    assert len(marks) > 2, "the refresh ended before the test could observe it"


@pytest.fixture
def between(migrated: psycopg.Connection[Any]) -> datetime:
    """Return an hour that another continuous aggregate has materialized and ours has not."""
    some_weeks(migrated, hours=24 * 20)
    migrated.execute(
        "CREATE MATERIALIZED VIEW theirs WITH (timescaledb.continuous) AS"
        " SELECT time_bucket(INTERVAL '1 hour', time) AS bucket, count(*) AS n FROM llm_interactions GROUP BY 1"
        " WITH NO DATA"
    )
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    refresh = "CALL refresh_continuous_aggregate(%s::regclass, NULL, %s::timestamptz)"
    migrated.execute(refresh, ["cache_usage_hourly", now - timedelta(days=10)])
    migrated.execute(refresh, ["theirs", now - timedelta(hours=3)])
    return now - timedelta(days=2)


def test_a_late_call_in_an_hour_that_is_not_materialized_yet_hides_no_other(
    migrated: psycopg.Connection[Any], timescale_url: str, between: datetime
) -> None:
    """A refresh of this hour would mark earlier hours as materialized although they are not."""
    hours = "SELECT sum(total_interactions)::int FROM cache_usage_hourly"
    (before,) = migrated.execute(hours).fetchone() or (0,)
    mark = watermark(migrated)
    with TimescaleDBClient(timescale_url) as db:
        db.record_llm_interaction(LLMInteractionRecord("late", between, "m", start_time=between, prompt_tokens=10))
        assert db.flush()
        assert migrated.execute(hours).fetchone() == (before + 1,)
    assert watermark(migrated) == mark


def test_a_late_call_waits_for_a_refresh_that_may_have_missed_it(
    migrated: psycopg.Connection[Any], timescale_url: str, between: datetime
) -> None:
    """A refresh that began before the call was committed may include its hour; flush() waits until that is known."""
    row = migrated.execute(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'cache_usage_hourly'"
    ).fetchone()
    assert row is not None
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url) as refreshing:
        refreshing.execute(f"LOCK TABLE {row[0]} IN ROW EXCLUSIVE MODE")  # the lock of a refresh that writes
        db.record_llm_interaction(LLMInteractionRecord("late", between, "m", start_time=between, prompt_tokens=10))
        assert not db.flush(timeout_s=1)
        refreshing.rollback()
        assert db.flush(timeout_s=120)
        assert migrated.execute("SELECT count(*)::int FROM llm_interactions WHERE query_id = 'late'").fetchone() == (1,)


def test_deleted_calls_leave_the_aggregate_at_once(migrated: psycopg.Connection[Any], timescale_url: str) -> None:
    with TimescaleDBClient(timescale_url) as db:
        record_two_days(db)
        db.flush()
        migrated.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '2 hours')")
        db.delete(query_id="a")
        assert migrated.execute("SELECT sum(total_interactions)::int FROM cache_usage_hourly").fetchone() == (1,)


def test_a_call_sent_twice_is_stored_once(timescale_url: str) -> None:
    record = LLMInteractionRecord("q", T0, "m", start_time=T0, interaction_id=str(uuid.UUID(int=1)))
    with TimescaleDBClient(timescale_url) as db:
        db.record_llm_interaction(record)
        db.flush()
        db.record_llm_interaction(record)
        assert len(db.get_llm_interactions("q", T0)) == 1


def test_instrumented_calls_arrive(timescale_url: str, endpoint: SimulatedEndpoint) -> None:
    with TimescaleDBClient(timescale_url) as db, OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        instrument(openai, store=db)
        with query_run("q") as run:
            for _ in run.iterations(range(2)):
                openai.chat.completions.create(
                    model="gpt-5",
                    messages=[{"role": "user", "content": "x" * 8000}],  # 4 + 2,000 tokens: 1,920 in steps of 128
                )
        optimization = run.optimization()
    assert optimization is not None
    assert optimization["total_prompt_tokens"] == 2 * 2004
    assert [step["cached_tokens"] for step in optimization["cache_evolution"]] == [0, 1920]


def test_plain_tables_become_hypertables_when_the_extension_is_created(timescale_url: str) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        for script in scripts_for(Engine("15")):
            migrations._apply(connection, script)  # the server offers the extension, so `migrate` would create it
        connection.execute(
            "INSERT INTO llm_interactions (query_id, run_id, time, model, prompt_tokens) VALUES ('q', %s, %s, 'm', 5)",
            [T0, T0],
        )
        connection.execute("CREATE EXTENSION timescaledb")
    with TimescaleDBClient(timescale_url) as db:
        summary = db.get_token_cache_summary("q", T0)
        assert summary is not None
        assert summary["total_prompt_tokens"] == 5
    with psycopg.connect(timescale_url) as connection:
        assert connection.execute("SELECT count(*) FROM timescaledb_information.hypertables").fetchone() == (2,)


@pytest.mark.parametrize("extension", ["is made by us", "was there"])
def test_the_address_selects_the_schema(timescale_url: str, extension: str) -> None:
    """The remedy in the message about existing tables: another schema of the same database."""
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        if extension == "was there":
            connection.execute("CREATE EXTENSION timescaledb SCHEMA public")
        connection.execute("CREATE SCHEMA cachetrack")
        connection.execute("CREATE TABLE public.llm_interactions (mine INTEGER)")
    with TimescaleDBClient(make_conninfo(timescale_url, options="-csearch_path=cachetrack")) as db:
        db.record_llm_interaction(LLMInteractionRecord("q", T0, "m"))
        assert len(db.list_query_runs()) == 1


# -- the columnstore --------------------------------------------------------------------------------------------------


def test_the_columnstore_segments_by_model_and_orders_by_run(migrated: psycopg.Connection[Any]) -> None:
    described = policies.describe(migrated)
    assert described is not None
    del described["failed_jobs"]  # with 2.28.3 on PostgreSQL 15.20, every job fails
    assert described == {
        "chunk_interval": timedelta(days=1),
        "chunks": 0,
        "columnstore_chunks": 0,
        "columnstore": True,
        "segment_by": "model",
        "order_by": "run_id, query_id, time, interaction_id",
        "columnstore_after": timedelta(days=7),
        "retention_after": None,
        "hourly": "continuous aggregate",
        "hourly_every": timedelta(minutes=15),
        "limits": None,
    }


def sparse_indexes(connection: psycopg.Connection[Any], relation: str = "llm_interactions") -> set[tuple[str, str]]:
    """Return the type and column of each sparse index, without those of the order."""
    row = connection.execute(
        "SELECT to_jsonb(s) -> 'index' FROM _timescaledb_catalog.compression_settings AS s"
        " WHERE coalesce(s.compress_relid, s.relid) = %s::regclass",
        [relation],
    ).fetchone()
    if row is None or row[0] is None:
        pytest.skip("this release of TimescaleDB cannot choose sparse indexes (2.22 and newer can)")
    return {(one["type"], str(one["column"])) for one in row[0] if one["source"] != "orderby" and "type" in one}


def test_each_batch_has_ranges_and_no_bloom_filters(timescale_url: str) -> None:
    ranges = {("minmax", "cached_tokens"), ("minmax", "total_cost")}
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        record_two_days(db)
        assert sparse_indexes(connection) == ranges
        to_columnstore(connection)
        chunks = connection.execute(
            "SELECT s.compress_relid::regclass::text FROM _timescaledb_catalog.compression_settings AS s"
            " JOIN show_chunks('llm_interactions') AS c ON c = s.relid"
        ).fetchall()
        assert len(chunks) == 3
        for (name,) in chunks:
            assert sparse_indexes(connection, name) == ranges


def test_the_numbers_are_the_same_from_the_columnstore(timescale_url: str) -> None:
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        record_two_days(db)
        before = db.get_token_cache_summary("a", T0), db.get_llm_interactions("a", T0)
        assert to_columnstore(connection) == 3
        assert (db.get_token_cache_summary("a", T0), db.get_llm_interactions("a", T0)) == before
        assert db.delete(query_id="a") == {"interactions": 6, "runs": 1}


def test_miss_reasons_are_the_same_from_the_columnstore(timescale_url: str) -> None:
    store_missed(timescale_url)
    with TimescaleDBClient(timescale_url) as db:
        before = db.explain_cache("missed")
        with psycopg.connect(timescale_url, autocommit=True) as connection:
            assert to_columnstore(connection) == 1
        assert before is not None
        assert before["verdicts"][0]["calls"] == 5
        assert before["verdicts"][0]["verdict"] == "prefix_changed"
        assert db.explain_cache("missed") == before


def test_late_calls_are_stored_once_in_days_of_the_columnstore(timescale_url: str) -> None:
    """The batch has one new call, and one that is stored already."""
    known = LLMInteractionRecord("q", T0, "m", start_time=T0, prompt_tokens=10, interaction_id=str(uuid.UUID(int=1)))
    late = LLMInteractionRecord("q", T0, "m", start_time=T0, prompt_tokens=5, interaction_id=str(uuid.UUID(int=2)))
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        db.record_llm_interaction(known)
        db.complete_query_run("q", T0)
        db.flush()
        assert to_columnstore(connection) == 1
        db.record_llm_interaction(known)
        db.record_llm_interaction(late)
        summary, optimization = db.get_token_cache_summary("q", T0), db.get_token_cache_optimization("q", T0)
    assert summary is not None
    assert (summary["total_interactions"], summary["total_prompt_tokens"]) == (2, 15)
    assert optimization is not None
    assert optimization["total_prompt_tokens"] == 15


@pytest.mark.parametrize("known", ["all", "first", "last", "some"])
def test_duplicates_in_the_columnstore_are_stored_once(timescale_url: str, known: str) -> None:
    """The fast path fails at the first duplicate, and the rows that it decompressed are rolled back."""

    def batch(numbers: Iterable[int]) -> RecordBatch:
        rows = [
            {
                "time": T0 + timedelta(seconds=number),
                "run_id": T0 + timedelta(minutes=number % 50),
                "interaction_id": uuid.UUID(int=number + 1),
                "query_id": f"query-{number % 9}",
                "model": f"model-{number % 7}",
                "prompt_tokens": 10,
                "success": True,
            }
            for number in numbers
        ]
        return RecordBatch([tuple(row.get(name) for name in COLUMNS) for row in rows], possible_duplicate=True)

    count, new = 5000, range(5000, 6000)
    again = {"all": range(1000), "first": [4999, *new], "last": [*new, 0], "some": range(4500, 6000)}[known]
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        db.runtime.store().store(batch(range(count)))
        connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, NULL)")
        assert to_columnstore(connection) == 1
        db.runtime.store().store(batch(again))
        expected = count if known == "all" else count + len(new)
        stored = connection.execute(
            "SELECT count(*)::int, count(DISTINCT interaction_id)::int, sum(prompt_tokens)::int FROM llm_interactions"
        ).fetchone()
        assert stored == (expected, expected, 10 * expected)
        assert hourly_calls(connection) == expected


def test_a_run_is_read_from_its_own_days_only(timescale_url: str) -> None:
    """With thirty days, half of them in the columnstore, the plan contains only the chunk of the run's day."""
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        for day in range(30):
            moment = T0 + timedelta(days=day)
            db.record_llm_interaction(LLMInteractionRecord("q", moment, "m", start_time=moment, prompt_tokens=day))
        db.flush()
        assert 0 < to_columnstore(connection, f"{(datetime.now(UTC) - T0).days - 15} days") < 30
        for day in (3, 25):
            moment = T0 + timedelta(days=day)
            summary = db.get_token_cache_summary("q", moment)
            assert summary is not None
            assert summary["total_prompt_tokens"] == day
            plan = explained(connection, "run_totals", query_id="q", run_id=moment, first_call=moment, last_call=moment)
            # The chunk, its compressed part, and an index of each.
            assert len(set(re.findall(r"(?<=_hyper_)\d+_\d+_chunk", plan))) <= 2, plan


def explained(connection: psycopg.Connection[Any], name: str, **parameters: Any) -> str:
    """Return the plan of a named query with these parameters."""
    rows = connection.execute("EXPLAIN " + _sql.query(name), parameters).fetchall()
    return "\n".join(row[0] for row in rows)


def test_deletions_and_re_pricing_work_beside_the_columnstore_policy(timescale_url: str, tmp_path: Path) -> None:
    """The policy locks the same chunks in another order: the server ends one of two deadlocked transactions."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: 1\nper: 1M\nmodels:\n  m: {prompt: 2, completion: 8}\n")
    with TimescaleDBClient(timescale_url) as db:
        with psycopg.connect(timescale_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO llm_interactions (query_id, run_id, time, model, prompt_tokens, cached_tokens)"
                " SELECT 'q' || mod(n, 3), %s, %s + n * INTERVAL '1 minute', 'm', 10, 4"
                " FROM generate_series(0, 14399) AS n",
                [T0, T0],
            )
            connection.execute(
                "SELECT alter_job(job_id, schedule_interval => INTERVAL '1 second', next_start => now())"
                " FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'"
            )
        change = db.reprice(prices)["change"]
        assert change is not None
        assert change["changed_interactions"] == 14_400
        assert db.undo_repricing()["status"] == "undone"
        assert db.delete(query_id="q1")["interactions"] == 4_800
        assert db.count(query_id="q0")["interactions"] == db.count(query_id="q2")["interactions"] == 4_800


def test_a_model_with_a_long_name_moves_to_the_columnstore_and_is_summed(timescale_url: str) -> None:
    """Its jobs would fail from then on if an entry of an index were too large."""
    name = incompressible(5_000)
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        db.record_llm_interaction(LLMInteractionRecord("q", T0, name, provider=name, service_tier=name, start_time=T0))
        assert db.flush()
        assert to_columnstore(connection, "1 day") == 1
        connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '1 day')")
        (model,) = db.get_cache_effectiveness_by_model()
    assert model["model"] == f"{name[:499]}…"


# -- policies ---------------------------------------------------------------------------------------------------------


def test_policies_are_changed_and_shown(timescale_url: str) -> None:
    run = CliRunner().invoke
    shown = run(app, ["policy", "--db-url", timescale_url, "--columnstore-after", "3d", "--retain", "90d", "--yes"])
    assert shown.exit_code == 0, shown.output
    assert "after 3 days, segmented by model" in shown.output
    assert "deleted after 90 days" in shown.output
    doctor = run(app, ["doctor", "--db-url", timescale_url])
    assert "deleted after 90 days" in doctor.output
    off = run(app, ["policy", "--db-url", timescale_url, "--columnstore-after", "off", "--retain", "off", "--json"])
    facts = json.loads(off.stdout)
    assert (facts["columnstore_after"], facts["retention_after"]) == (None, None)
    with psycopg.connect(timescale_url) as connection:  # created again by each change of the retention
        order = connection.execute(
            "SELECT config ->> 'refresh_newest_first' FROM timescaledb_information.jobs"
            " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        ).fetchall()
    assert order == [("false",)]


def test_policies_are_changed_while_the_scheduler_changes_the_same_job(timescale_url: str) -> None:
    waiting = "datname = current_database() AND wait_event_type = 'Lock'"
    blocked = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE {waiting}"
    with psycopg.connect(timescale_url, autocommit=True) as connection, psycopg.connect(timescale_url) as scheduler:
        migrations.migrate(connection)
        scheduler.execute(
            "SELECT alter_job(job_id, retry_period => INTERVAL '7 minutes') FROM timescaledb_information.jobs"
            " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        )
        with ThreadPoolExecutor() as pool, psycopg.connect(timescale_url, autocommit=True) as changing:
            change = pool.submit(policies.change, changing, retention_after=timedelta(days=90))
            wait_until(lambda: connection.execute(blocked).fetchone() == (True,))
            scheduler.commit()
            change.result(120)
        found = policies.describe(connection)
    assert found is not None
    assert found["retention_after"] == timedelta(days=90)


def test_doctor_reports_background_jobs_that_fail(timescale_url: str) -> None:
    failed = (
        "SELECT count(*) > 0 FROM timescaledb_information.job_stats AS s JOIN timescaledb_information.jobs AS j"
        " USING (job_id) WHERE j.proc_name = 'rlm_cachetrack_refresh_stale_hours' AND s.last_run_status = 'Failed'"
    )
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        migrations.migrate(connection)
        connection.execute(
            "CREATE OR REPLACE PROCEDURE rlm_cachetrack_refresh_stale_hours(job_id INTEGER, config JSONB)"
            " LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it is broken'; END $$"
        )
        connection.execute(
            "SELECT alter_job(job_id, next_start => now()) FROM timescaledb_information.jobs"
            " WHERE proc_name = 'rlm_cachetrack_refresh_stale_hours'"
        )
        wait_until(lambda: connection.execute(failed).fetchone() == (True,))
    doctor = CliRunner().invoke(app, ["doctor", "--db-url", timescale_url], env={"COLUMNS": "300"})
    assert doctor.exit_code == 1, doctor.output
    output = " ".join(doctor.output.split())
    assert "rlm_cachetrack_refresh_stale_hours fails: " in output
    assert "Everything is in order" not in output


def test_a_small_store_gets_chunks_of_a_week(timescale_url: str) -> None:
    width = "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'llm_interactions'"
    with TimescaleDBClient(timescale_url), psycopg.connect(timescale_url, autocommit=True) as connection:
        run_job(connection, "rlm_cachetrack_refresh_stale_hours")
        assert connection.execute(width).fetchone() == (timedelta(days=1),)  # nothing is known yet
        call_per_hour(connection, 20)
        run_job(connection, "rlm_cachetrack_refresh_stale_hours")
        assert connection.execute(width).fetchone() == (timedelta(days=7),)
        connection.execute(
            "INSERT INTO llm_interactions (query_id, run_id, time, model)"
            " SELECT 'q', %s, now() - INTERVAL '2 days' - n * INTERVAL '5 seconds', 'm'"
            " FROM generate_series(1, 80000) AS n",
            [T0],
        )
        run_job(connection, "rlm_cachetrack_refresh_stale_hours")
        assert connection.execute(width).fetchone() == (timedelta(days=1),)


def test_retention_keeps_the_hourly_sums_of_deleted_calls(timescale_url: str) -> None:
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        record_two_days(db)
        db.flush()
        connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '2 hours')")
        policies.change(connection, retention_after=timedelta(days=30))
        run_job(connection, "policy_retention")
        run_job(connection, "policy_refresh_continuous_aggregate")
        db.record_llm_interaction(LLMInteractionRecord("late", T0, "m", start_time=T0, prompt_tokens=10))
        assert db.flush()
        calls = connection.execute("SELECT count(*)::int FROM llm_interactions").fetchone()
        hours = connection.execute("SELECT sum(total_interactions)::int FROM cache_usage_hourly").fetchone()
    assert calls in ((1,), (2,))  # today's call, and the late one until the policy runs again, which may be at once
    assert hours == (7,)


def hourly_calls(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT coalesce(sum(total_interactions), 0)::int FROM cache_usage_hourly").fetchone()
    assert row is not None
    return int(row[0])


def refresh_all(connection: psycopg.Connection[Any], url: str) -> None:
    """Refresh all hours in each way: by the daily job, by the policy, and as late calls would."""
    run_job(connection, "rlm_cachetrack_refresh_stale_hours")
    run_job(connection, "policy_refresh_continuous_aggregate")
    now = datetime.now(UTC)
    with TimescaleDBClient(url) as db, db.runtime.store().session() as session:
        session.refresh_hours(now - timedelta(days=25), now)


def call_per_hour(connection: psycopg.Connection[Any], days: int) -> int:
    """Insert a call in every hour of the last days; return their number."""
    connection.execute(
        "INSERT INTO llm_interactions (query_id, run_id, time, model, prompt_tokens, cached_tokens)"
        " SELECT 'q', moment, moment, 'm', 10, 4 FROM generate_series("
        "   date_trunc('hour', now()) - make_interval(days => %s), date_trunc('hour', now()), INTERVAL '1 hour'"
        " ) AS moment",
        [days],
    )
    return days * 24 + 1


@pytest.mark.parametrize("later", [timedelta(days=15), timedelta(days=3), None], ids=["longer", "shorter", "off"])
def test_sums_of_deleted_calls_outlive_each_change_of_retention(timescale_url: str, later: timedelta | None) -> None:
    with TimescaleDBClient(timescale_url), psycopg.connect(timescale_url, autocommit=True) as connection:
        count = call_per_hour(connection, 20)
        policies.change(connection, retention_after=timedelta(days=7))
        run_job(connection, "policy_retention")
        (left,) = connection.execute("SELECT count(*)::int FROM llm_interactions").fetchone() or (0,)
        assert left < 10 * 24
        refresh_all(connection, timescale_url)
        assert hourly_calls(connection) == count
        policies.change(connection, retention_after=later)
        refresh_all(connection, timescale_url)
        assert hourly_calls(connection) == count
        policies.change(connection, retention_after=None)
        policies.change(connection, columnstore_after=timedelta(days=3))
        refresh_all(connection, timescale_url)
        assert hourly_calls(connection) == count


def test_retention_waits_for_sums_that_are_not_materialized(timescale_url: str) -> None:
    with TimescaleDBClient(timescale_url), psycopg.connect(timescale_url, autocommit=True) as connection:
        count = call_per_hour(connection, 20)
        policies.change(connection, retention_after=timedelta(days=7))
        run_job(connection, "policy_retention")
        assert hourly_calls(connection) == count


def test_the_refresh_policy_reaches_back_to_the_last_deleted_day(timescale_url: str) -> None:
    """The policy begins at an age, so the daily job increases it as the deleted days become older."""
    start = (
        "SELECT (config ->> 'start_offset')::interval FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    )
    with TimescaleDBClient(timescale_url), psycopg.connect(timescale_url, autocommit=True) as connection:
        policies.change(connection, retention_after=timedelta(days=7))
        assert connection.execute(start).fetchone() == (timedelta(days=6),)
        policies.change(connection, retention_after=None)
        connection.execute(  # ten days later
            "SELECT alter_job(job_id, config =>"
            " config || jsonb_build_object('never_before', now() - INTERVAL '17 days'))"
            " FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        )
        run_job(connection, "rlm_cachetrack_refresh_stale_hours")
        (age,) = connection.execute(start).fetchone() or (None,)
        assert age is not None
        assert timedelta(days=16, hours=23) <= age <= timedelta(days=17, minutes=1)


def test_calls_of_deleted_days_are_stored_and_announced_as_not_summed(
    timescale_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TimescaleDBClient(timescale_url) as db, psycopg.connect(timescale_url, autocommit=True) as connection:
        call_per_hour(connection, 20)
        policies.change(connection, retention_after=timedelta(days=7))
        run_job(connection, "policy_retention")
        old = datetime.now(UTC) - timedelta(days=15)
        for _ in range(2):
            db.record_llm_interaction(LLMInteractionRecord("late", old, "m", start_time=old, prompt_tokens=10))
            assert db.flush()
        assert db.count(query_id="late")["interactions"] == 2
    (warning,) = [record.getMessage() for record in caplog.records if "retention" in record.getMessage()]
    assert "cache_usage_hourly omits them" in warning


def run_job(connection: psycopg.Connection[Any], procedure: str) -> None:
    """Run a job now; retry it after a deadlock with a job that the scheduler runs at the same time."""
    row = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s", [procedure]
    ).fetchone()
    assert row is not None
    retry_on_conflict(lambda: connection.execute("CALL run_job(%s)", row))


def test_policy_on_a_plain_server_reports_plain_tables(db_url: str) -> None:
    with psycopg.connect(db_url) as plain:
        if detect(plain).timescale:
            pytest.skip("the suite itself runs on TimescaleDB")
    shown = CliRunner().invoke(app, ["policy", "--db-url", db_url])
    assert shown.exit_code == 0
    assert "plain table" in shown.output
    with psycopg.connect(db_url, autocommit=True) as plain, pytest.raises(ConfigError, match="prune --before"):
        policies.change(plain, retention_after=timedelta(days=30))


# -- the Apache edition -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apache_url() -> Iterator[str]:
    """A server with the Apache edition, which is a setting of the whole server."""
    programs = clusters.installation_with("timescaledb")
    if programs is None:
        pytest.skip("no installed PostgreSQL has timescaledb.control (a server's address will not do here)")
    with clusters.cluster(programs, "timescaledb", timescaledb__license="apache") as url:
        yield url


def test_the_apache_edition_has_hypertables_and_views_and_reports_it(apache_url: str) -> None:
    answers = everything(apache_url)
    assert answers["summary a"]["total_interactions"] == 6
    with psycopg.connect(apache_url, autocommit=True) as connection:
        kept = policies.describe(connection)
        row = connection.execute("SELECT sum(total_interactions)::int FROM cache_usage_hourly").fetchone()
        with pytest.raises(ConfigError, match="community edition"):
            policies.change(connection, columnstore_after=timedelta(days=7))
    assert row == (1,)  # the call of query b; the other one was deleted
    assert kept is not None
    assert kept["hourly"] == "view"
    assert kept["limits"] == "the Apache edition has no columnstore, continuous aggregates or policies"
    doctor = CliRunner().invoke(app, ["doctor", "--db-url", apache_url])
    assert doctor.exit_code == 0
    assert "licence: apache (views instead of continuous aggregates)" in " ".join(doctor.output.split())
