"""Taking over a database that has calls from before: every row, column and view stays, and recording goes on in it.

Each on the embedded PostgreSQL and, where there is one, on TimescaleDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from openai import OpenAI
from psycopg.rows import dict_row
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import MigrationError
from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALLS = """
CREATE TABLE llm_interactions (
    time TIMESTAMPTZ NOT NULL,
    interaction_id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    query_id VARCHAR(100),
    run_id TIMESTAMPTZ,
    model VARCHAR(60) NOT NULL,
    model_type TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    total_tokens INTEGER,
    duration_ms DOUBLE PRECISION NOT NULL,
    start_time TIMESTAMPTZ,
    end_time TIMESTAMPTZ,
    context_messages INTEGER,
    context_tokens INTEGER,
    response_length INTEGER,
    has_tool_calls BOOLEAN,
    tool_call_count INTEGER,
    success BOOLEAN NOT NULL,
    error_message TEXT,
    error_type TEXT,
    metadata JSONB,
    tenant TEXT DEFAULT 'a'
)
"""
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
ROW = """
INSERT INTO llm_interactions
    (time, query_id, run_id, model, prompt_tokens, completion_tokens, duration_ms, success, tenant)
VALUES (%s, %s, %s, 'gpt-5', %s, %s, 100, TRUE, 'b')
"""


@pytest.fixture(params=["plain", "timescale"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(engine: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("empty_db_url" if engine == "plain" else "timescale_url"))


@pytest.fixture
def connection(address: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(address, autocommit=True) as opened:
        yield opened


def fill(connection: psycopg.Connection[Any], *, rows: int = 10) -> None:
    """Two days of calls: every fourth without a query and a run."""
    for number in range(rows):
        moment = T0 + timedelta(hours=5 * number)
        named = ("q", T0) if number % 4 else (None, None)
        connection.execute(ROW, [moment, *named, 100 + number, 10])


def calls(connection: psycopg.Connection[Any], columns: str = "*") -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT {columns} FROM llm_interactions ORDER BY time, interaction_id").fetchall()  # type: ignore[arg-type]


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments])


def migrated(address: str) -> str:
    result = cli("migrate", "--db-url", address)
    assert result.exit_code == 0, result.output
    return result.output


def record_one(address: str) -> None:
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=address)
        with query_run("new"):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
        assert flush(30)


THEIRS = "time, interaction_id, model, prompt_tokens, completion_tokens, duration_ms, success, tenant"


def test_a_table_of_calls_is_taken_over_with_every_row_and_column(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    connection.execute(
        "CREATE VIEW theirs AS SELECT tenant, sum(prompt_tokens) AS tokens FROM llm_interactions GROUP BY 1"
    )
    fill(connection)
    before, summed = calls(connection, THEIRS), connection.execute("SELECT * FROM theirs").fetchall()

    said = migrated(address)

    assert "10 calls are taken over" in said
    assert "3 of them have no query_id or run_id" in said
    assert "tenant" in said
    assert calls(connection, THEIRS) == before
    assert connection.execute("SELECT * FROM theirs").fetchall() == summed
    rows = calls(connection)
    assert [(row["query_id"], row["run_id"]) for row in rows] == [
        ("q", T0) if number % 4 else ("adhoc", T0 + timedelta(hours=5 * number)) for number in range(10)
    ]
    assert [row["total_tokens"] for row in rows] == [110 + number for number in range(10)]
    assert {row["cached_tokens"] for row in rows} == {None}  # nobody said anything of a cache
    assert "The schema is up to date." in migrated(address)
    record_one(address)
    assert len(calls(connection)) == 11
    with TimescaleDBClient(address) as db:
        assert {row["query_id"] for row in db.list_query_runs()} == {"q", "adhoc", "new"}
        summary = db.get_token_cache_summary("q", T0)
        assert summary is not None
        # Calls 1, 2, 3, 5, 6, 7 and 9: 101 + 102 + 103 + 105 + 106 + 107 + 109.
        assert (summary["total_interactions"], summary["total_prompt_tokens"]) == (7, 733)


def test_cache_columns_that_are_there_keep_their_zeros_which_are_reported(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    connection.execute(OTHERS)
    fill(connection)
    connection.execute("UPDATE llm_interactions SET total_cost = 0.01250001 WHERE prompt_tokens = 101")
    connection.execute("UPDATE llm_interactions SET cached_tokens = 64 WHERE prompt_tokens = 102")
    theirs = "(query_id, run_id, total_prompt_tokens, total_cached_tokens)"
    connection.execute(f"INSERT INTO token_cache_optimization {theirs} VALUES ('q', %s, 733, 64)", [T0])

    said = migrated(address)

    assert "9 of them have cached_tokens = 0" in said
    rows = {row["prompt_tokens"]: row for row in calls(connection)}
    assert [rows[100 + number]["cached_tokens"] for number in range(4)] == [0, 0, 64, 0]
    assert rows[101]["total_cost"] == pytest.approx(0.01250001, abs=1e-12)
    assert rows[102]["uncached_prompt_tokens"] == 38
    assert connection.execute("SELECT name FROM latency_events").fetchall() == [("x",)]
    assert connection.execute("SELECT * FROM code_executions").fetchall() == [(1, "print()")]
    theirs = "SELECT total_duration_ms, notes FROM query_run_summaries WHERE query_id = 'q'"
    assert connection.execute(theirs).fetchall() == [(12.5, "theirs")]
    record_one(address)
    with TimescaleDBClient(address) as db:
        (model,) = [row for row in db.get_cache_effectiveness_by_model() if row["model"] == "gpt-5"]
        assert model["total_interactions"] >= 10
        stored = db.get_token_cache_optimization("q", T0)
        assert stored is not None
        assert (stored["total_prompt_tokens"], stored["total_cached_tokens"]) == (733, 64)


def test_a_column_that_a_view_uses_keeps_its_type_and_takes_new_calls(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    connection.execute(CACHE_COLUMNS)
    connection.execute("ALTER TABLE llm_interactions ALTER COLUMN prompt_tokens TYPE BIGINT")
    connection.execute(
        "CREATE VIEW spent AS SELECT sum(total_cost) AS spent, sum(prompt_tokens) AS tokens FROM llm_interactions"
    )
    fill(connection)

    migrated(address)
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
def test_a_hypertable_is_taken_over(timescale_url: str, compressed: bool) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(CALLS.replace("UUID PRIMARY KEY", "UUID"))
        connection.execute(
            "SELECT create_hypertable('llm_interactions', 'time', chunk_time_interval => INTERVAL '7 days')"
        )
        fill(connection)
        if compressed:
            connection.execute(
                "ALTER TABLE llm_interactions SET (timescaledb.compress, timescaledb.compress_segmentby = 'query_id')"
            )
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('llm_interactions') AS c")
            connection.execute("SELECT add_compression_policy('llm_interactions', INTERVAL '3000 days')")
        before = calls(connection, THEIRS)

        migrated(timescale_url)

        assert calls(connection, THEIRS) == before
        record_one(timescale_url)
        assert len(calls(connection)) == 11


def test_nothing_is_taken_over_unasked(address: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute(CALLS)
    fill(connection)
    before = calls(connection)

    with pytest.raises(MigrationError, match=r"llm_interactions\. `rlm-cachetrack migrate` takes them over"):
        TimescaleDBClient(address)

    assert calls(connection) == before


def test_a_dry_run_prints_the_sql_and_changes_nothing(
    engine: str, address: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(CALLS)
    fill(connection)
    before = calls(connection)

    dry = cli("migrate", "--dry-run", "--db-url", address)

    assert dry.exit_code == 0
    assert "-- 10 calls are taken over" in dry.stdout
    assert calls(connection) == before
    assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
    connection.execute(dry.stdout)  # type: ignore[arg-type]
    assert migrations.pending(connection) == []
    if engine == "timescale":  # the extension, which this database lacked, is made before
        tables = "SELECT count(*)::int FROM timescaledb_information.hypertables WHERE hypertable_schema = 'public'"
        assert connection.execute(tables).fetchone() == (2,)
    record_one(address)
    assert len(calls(connection)) == 11


def test_a_step_that_is_interrupted_is_rolled_back_and_goes_on_later(
    address: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute(CALLS)
    fill(connection)
    before = calls(connection, THEIRS)
    original = _sql.scripts

    def broken(engine: str) -> tuple[_sql.Script, ...]:
        found = original(engine)
        if engine != "adopt":
            return found
        return tuple(
            _sql.Script(s.engine, s.version, s.name, s.sql + "\nSELECT 1 / 0;") if s.name == "fill" else s
            for s in found
        )

    monkeypatch.setattr(_sql, "scripts", broken)
    assert cli("migrate", "--db-url", address).exit_code != 0
    monkeypatch.undo()
    assert calls(connection, THEIRS) == before
    assert calls(connection)[0]["query_id"] is None  # the step that fills it was undone

    said = migrated(address)

    assert "adopt/0002" not in said  # done before
    assert "applied adopt/0003_fill" in said
    assert calls(connection, THEIRS) == before
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
def test_what_stops_it_is_named_before_any_change(
    address: str, connection: psycopg.Connection[Any], statement: str, named: str
) -> None:
    connection.execute(CALLS)
    connection.execute(statement)  # type: ignore[arg-type]

    dry = cli("migrate", "--dry-run", "--db-url", address)
    real = cli("migrate", "--db-url", address)

    assert dry.exit_code == 1
    assert "stops here" in dry.stdout
    assert named in dry.stdout
    assert real.exit_code == 1
    assert named in " ".join(real.output.split())
    with pytest.raises(MigrationError):
        TimescaleDBClient(address)
    assert connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'").fetchone() == (0,)
    assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
