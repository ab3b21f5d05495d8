"""Upgrades of a legacy table: every row, column and view stays, and recording continues in it.

Each test runs on the embedded PostgreSQL and, where it is installed, on TimescaleDB.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.errors import MigrationError
from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import Engine
from rlm_cachetrack.store.schema_scripts import scripts_for
from tests.support.legacy import (
    CALLS,
    T0,
    WITHOUT_KEY,
    assert_not_changed,
    calls,
    create_legacy_table,
    dry_run,
    insert_legacy_rows,
    legacy_rows,
    refused_upgrade,
    upgrade,
)

CACHE_COLUMNS = """
ALTER TABLE llm_interactions
    ADD COLUMN cached_tokens INTEGER DEFAULT 0,
    ADD COLUMN uncached_prompt_tokens INTEGER,
    ADD COLUMN prompt_token_price NUMERIC(12, 8),
    ADD COLUMN completion_token_price NUMERIC(12, 8),
    ADD COLUMN total_cost NUMERIC(12, 8);
CREATE INDEX idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE TABLE token_cache_optimization (
    optimization_id UUID DEFAULT gen_random_uuid(),
    query_id TEXT NOT NULL,
    run_id TIMESTAMPTZ NOT NULL,
    total_prompt_tokens INTEGER NOT NULL,
    total_cached_tokens INTEGER NOT NULL,
    cost_savings NUMERIC(12, 8),
    time TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_cache_opt_query_id ON token_cache_optimization (query_id, time DESC);
CREATE INDEX idx_cache_opt_savings ON token_cache_optimization (cost_savings DESC, time DESC);
"""
OTHERS = """
CREATE TABLE latency_events (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time TIMESTAMPTZ, name TEXT);
INSERT INTO latency_events (time, name) VALUES (now(), 'x');
CREATE TABLE code_executions (id INTEGER PRIMARY KEY, code TEXT);
INSERT INTO code_executions VALUES (1, 'print()');
CREATE TABLE query_run_summaries (
    query_id TEXT NOT NULL, run_id TIMESTAMPTZ NOT NULL, total_duration_ms DOUBLE PRECISION, notes TEXT,
    PRIMARY KEY (query_id, run_id)
);
INSERT INTO query_run_summaries VALUES ('q', '2026-03-01 12:00:00+00', 12.5, 'theirs');
"""


def record_one(address: str) -> None:
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=address)
        with query_run("new"):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
        assert flush(120)


def test_a_legacy_table_is_upgraded_with_every_row_and_column(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    before = create_legacy_table(connection)
    connection.execute(
        "CREATE VIEW theirs AS SELECT tenant, sum(prompt_tokens) AS tokens FROM llm_interactions GROUP BY 1"
    )
    sums = connection.execute("SELECT * FROM theirs").fetchall()

    output = upgrade(address)

    assert "10 calls to upgrade" in output
    assert "3 calls have no query_id or run_id" in output
    assert "tenant" in output
    assert legacy_rows(connection) == before
    assert connection.execute("SELECT * FROM theirs").fetchall() == sums
    rows = calls(connection)
    assert [(row["query_id"], row["run_id"]) for row in rows] == [
        ("q", T0) if number % 4 else ("adhoc", T0 + timedelta(hours=5 * number)) for number in range(10)
    ]
    assert [row["total_tokens"] for row in rows] == [110 + number for number in range(10)]
    assert {row["cached_tokens"] for row in rows} == {None}  # the legacy table had no such column
    assert "The schema is up to date." in upgrade(address)
    record_one(address)
    assert len(calls(connection)) == 11
    with TimescaleDBClient(address) as db:
        assert {row["query_id"] for row in db.list_query_runs()} == {"q", "adhoc", "new"}
        summary = db.get_token_cache_summary("q", T0)
        assert summary is not None
        # Calls 1, 2, 3, 5, 6, 7 and 9: 101 + 102 + 103 + 105 + 106 + 107 + 109.
        assert (summary["total_interactions"], summary["total_prompt_tokens"]) == (7, 733)


def test_the_bounds_of_the_runs_are_stored(address: str, connection: psycopg.Connection[Any]) -> None:
    """Includes a run that the legacy table of runs already contains."""
    create_legacy_table(connection)
    connection.execute(OTHERS)

    upgrade(address)

    bounds = "SELECT first_call_time, last_call_time FROM query_run_summaries WHERE query_id = 'q'"
    assert connection.execute(bounds).fetchall() == [(T0 + timedelta(hours=5), T0 + timedelta(hours=45))]
    adhoc = (
        "SELECT count(*)::int FROM query_run_summaries"
        " WHERE query_id = 'adhoc' AND run_id = first_call_time AND run_id = last_call_time"
    )
    assert connection.execute(adhoc).fetchone() == (3,)


def test_zeros_in_existing_cache_columns_stay_as_reported(address: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    connection.execute(OTHERS)
    insert_legacy_rows(connection)
    connection.execute("UPDATE llm_interactions SET total_cost = 0.01250001 WHERE prompt_tokens = 101")
    connection.execute("UPDATE llm_interactions SET cached_tokens = 64 WHERE prompt_tokens = 102")
    columns = "(query_id, run_id, total_prompt_tokens, total_cached_tokens)"
    connection.execute(f"INSERT INTO token_cache_optimization {columns} VALUES ('q', %s, 733, 64)", [T0])

    output = upgrade(address)

    assert "9 calls have cached_tokens = 0" in output
    rows = {row["prompt_tokens"]: row for row in calls(connection)}
    assert [rows[100 + number]["cached_tokens"] for number in range(4)] == [0, 0, 64, 0]
    assert rows[101]["total_cost"] == pytest.approx(0.01250001, abs=1e-12)
    assert rows[102]["uncached_prompt_tokens"] == 38
    assert connection.execute("SELECT name FROM latency_events").fetchall() == [("x",)]
    assert connection.execute("SELECT * FROM code_executions").fetchall() == [(1, "print()")]
    summary = "SELECT total_duration_ms, notes FROM query_run_summaries WHERE query_id = 'q'"
    assert connection.execute(summary).fetchall() == [(12.5, "theirs")]
    record_one(address)
    with TimescaleDBClient(address) as db:
        (model,) = [row for row in db.get_cache_effectiveness_by_model() if row["model"] == "gpt-5"]
        assert model["total_interactions"] >= 10
        stored = db.get_token_cache_optimization("q", T0)
        assert stored is not None
        assert (stored["total_prompt_tokens"], stored["total_cached_tokens"]) == (733, 64)


def test_prices_of_legacy_rows_are_given_prices_that_re_pricing_keeps(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    insert_legacy_rows(connection)
    connection.execute(
        "UPDATE llm_interactions SET query_id = 'q', run_id = %s, prompt_tokens = 5000, completion_tokens = 500,"
        " cached_tokens = 3000, prompt_token_price = 0.0015, completion_token_price = 0.006, total_cost = 0.00826",
        [T0],
    )

    upgrade(address)

    assert {row["price_source"] for row in calls(connection)} == {"record"}
    with TimescaleDBClient(address) as db:
        stored = db.calculate_and_store_cache_optimization("q", T0)
        assert stored is not None
        # 10 x (5,000 x 0.0015 + 500 x 0.006) / 1,000
        assert stored["original_cost"] == pytest.approx(0.105, abs=1e-12)
        assert stored["cached_cost"] == pytest.approx(0.0826, abs=1e-12)
        before = calls(connection)
        kept = db.reprice()
        assert (kept["kept_interactions"], kept["difference"]) == (10, [])
        assert calls(connection) == before
        db.reprice(include_given=True)
        assert {row["prompt_token_price"] for row in calls(connection)} == {0.00125}  # gpt-5 in the price list
        db.undo_repricing()
        assert calls(connection) == before


def test_legacy_savings_stay_where_the_rows_have_no_prices(address: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    connection.execute("ALTER TABLE token_cache_optimization ADD original_cost NUMERIC, ADD cached_cost NUMERIC")
    insert_legacy_rows(connection)
    connection.execute("UPDATE llm_interactions SET query_id = 'q', run_id = %s", [T0])
    connection.execute(
        "INSERT INTO token_cache_optimization (query_id, run_id, total_prompt_tokens, total_cached_tokens,"
        " original_cost, cached_cost, cost_savings) VALUES ('q', %s, 1045, 64, 0.00657, 0.0039, 0.00267)",
        [T0],
    )

    upgrade(address)

    with TimescaleDBClient(address) as db:
        stored = db.calculate_and_store_cache_optimization("q", T0)
        assert stored is not None
        found = (stored["original_cost"], stored["cached_cost"], stored["cost_savings"])
        assert found == pytest.approx((0.00657, 0.0039, 0.00267), abs=1e-12)


def test_a_column_that_a_view_uses_keeps_its_type_and_accepts_new_calls(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    connection.execute("ALTER TABLE llm_interactions ALTER COLUMN prompt_tokens TYPE BIGINT")
    connection.execute(
        "CREATE VIEW spent AS SELECT sum(total_cost) AS spent, sum(prompt_tokens) AS tokens FROM llm_interactions"
    )
    insert_legacy_rows(connection)

    upgrade(address)
    record_one(address)

    assert len(calls(connection)) == 11
    found = connection.execute("SELECT pg_typeof(total_cost)::text FROM llm_interactions LIMIT 1").fetchone()
    assert found == ("numeric",)
    with TimescaleDBClient(address) as db:
        (run,) = [row for row in db.list_query_runs() if row["query_id"] == "new"]
        summary = db.get_token_cache_summary("new", run["run_id"])
        assert summary is not None
        assert type(summary["total_cost"]) is float


@pytest.mark.parametrize("compressed", [False, True], ids=["rows", "compressed"])
def test_a_legacy_hypertable_is_upgraded(timescale_url: str, compressed: bool) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(WITHOUT_KEY)
        connection.execute(
            "SELECT create_hypertable('llm_interactions', 'time', chunk_time_interval => INTERVAL '30 days')"
        )
        insert_legacy_rows(connection)
        if compressed:
            connection.execute(
                "ALTER TABLE llm_interactions SET (timescaledb.compress, timescaledb.compress_segmentby = 'query_id')"
            )
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('llm_interactions') AS c")
            connection.execute("SELECT add_compression_policy('llm_interactions', INTERVAL '3000 days')")
        before = legacy_rows(connection)

        upgrade(timescale_url)

        assert legacy_rows(connection) == before
        interval = "SELECT time_interval FROM timescaledb_information.dimensions WHERE column_name = 'time'"
        (width,) = connection.execute(interval).fetchall()
        # A day, until the daily job has found few calls, which it may do at once.
        assert width in ((timedelta(days=1),), (timedelta(days=7),))
        record_one(timescale_url)
        assert len(calls(connection)) == 11


def test_a_table_upgraded_on_plain_postgresql_becomes_a_hypertable(timescale_url: str) -> None:
    """The extension is created after the upgrade: the old primary key, which TimescaleDB refuses, is replaced."""
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        before = create_legacy_table(connection)
        connection.execute(CACHE_COLUMNS)
        for script in scripts_for(Engine("15"), upgrade=True):
            migrations._apply(
                connection, script
            )  # the extension is available on the server, so `migrate` would create it
        key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'llm_interactions_pkey'"
        assert connection.execute(key).fetchone() == ("PRIMARY KEY (interaction_id)",)
        connection.execute("CREATE EXTENSION timescaledb")

        assert [label.split("/")[0] for label in migrations.migrate(connection)] == ["timescale", "timescale"]

        assert connection.execute(key).fetchone() == ('PRIMARY KEY (query_id, run_id, "time", interaction_id)',)
        assert connection.execute("SELECT to_regclass('idx_llm_key')").fetchone() == (None,)
        assert legacy_rows(connection) == before
        record_one(timescale_url)


def test_no_table_is_upgraded_without_being_asked(address: str, connection: psycopg.Connection[Any]) -> None:
    create_legacy_table(connection)
    before = calls(connection)

    with pytest.raises(MigrationError, match=r"llm_interactions\. `rlm-cachetrack migrate` upgrades them in place"):
        TimescaleDBClient(address)

    assert calls(connection) == before


def test_a_dry_run_prints_the_sql_and_changes_nothing(
    engine: str, address: str, connection: psycopg.Connection[Any]
) -> None:
    before = create_legacy_table(connection)

    dry = dry_run(address)

    assert dry.exit_code == 0
    assert "-- 10 calls to upgrade" in dry.stdout
    assert_not_changed(connection, before)
    connection.execute(dry.stdout)
    assert migrations.pending(connection) == []
    if engine == "timescale":  # the script also creates the extension
        tables = "SELECT count(*)::int FROM timescaledb_information.hypertables WHERE hypertable_schema = 'public'"
        assert connection.execute(tables).fetchone() == (2,)
    record_one(address)
    assert len(calls(connection)) == 11


def test_an_interrupted_step_is_rolled_back_and_the_next_run_continues_with_it(
    address: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = create_legacy_table(connection)
    original = _sql.scripts

    def broken(engine: str) -> tuple[_sql.Script, ...]:
        found = original(engine)
        if engine != "upgrade":
            return found
        return tuple(
            _sql.Script(s.engine, s.version, s.name, s.sql + "\nSELECT 1 / 0;") if s.name == "rows" else s
            for s in found
        )

    monkeypatch.setattr(_sql, "scripts", broken)
    assert "division by zero" in refused_upgrade(address)
    monkeypatch.undo()
    assert legacy_rows(connection) == before
    assert calls(connection)[0]["query_id"] is None  # the step that fills it was rolled back

    output = upgrade(address)

    assert "upgrade/0002" not in output  # applied before
    assert "applied upgrade/0003_rows" in output
    assert legacy_rows(connection) == before
    record_one(address)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "CREATE TABLE notes (call UUID CONSTRAINT notes_call REFERENCES llm_interactions)",
            "'notes_call' of table notes",
        ),
        ("ALTER TABLE llm_interactions ADD COLUMN cost_centre TEXT NOT NULL", "llm_interactions.cost_centre"),
        ("ALTER TABLE llm_interactions ALTER COLUMN prompt_tokens TYPE TEXT", "llm_interactions.prompt_tokens"),
        ("CREATE VIEW cache_usage_hourly AS SELECT 1 AS x", "cache_usage_hourly"),
    ],
)
def test_dry_run_migrate_and_client_name_the_problem_and_change_nothing(
    address: str, connection: psycopg.Connection[Any], statement: str, named: str
) -> None:
    create_legacy_table(connection, rows=0)
    connection.execute(statement)  # type: ignore[arg-type]

    dry = dry_run(address)

    assert dry.exit_code == 1
    assert "-- cannot be upgraded: " in dry.stdout
    assert named in dry.stdout
    assert named in refused_upgrade(address)
    with pytest.raises(MigrationError):
        TimescaleDBClient(address)
    assert_not_changed(connection, [])
