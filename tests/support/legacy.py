"""A legacy table of calls, as other software creates it, and helpers to upgrade it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.store.engine import detect

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
WITHOUT_KEY = CALLS.replace("UUID PRIMARY KEY", "UUID")
_INSERT = """
INSERT INTO llm_interactions
    (time, interaction_id, query_id, run_id, model, prompt_tokens, completion_tokens, duration_ms, success)
SELECT
    {begin}::timestamptz + n * INTERVAL '5 hours', md5(n::text)::uuid, CASE WHEN mod(n, 4) > 0 THEN 'q' END,
    CASE WHEN mod(n, 4) > 0 THEN {begin}::timestamptz END, 'gpt-5', 100 + n, 10, 100, TRUE
FROM generate_series(0, {rows} - 1) AS n
"""
_LEGACY_COLUMNS = "time, interaction_id, model, prompt_tokens, completion_tokens, duration_ms, success, tenant"


def create_legacy_table(
    connection: psycopg.Connection[Any], *, table: str = CALLS, rows: int = 10
) -> list[tuple[Any, ...]]:
    """Create the table with a call every five hours, every fourth without a run; returns :func:`legacy_rows`."""
    connection.execute(table)  # type: ignore[arg-type]
    insert_legacy_rows(connection, rows=rows)
    return legacy_rows(connection)


def insert_legacy_rows(connection: psycopg.Connection[Any], *, rows: int = 10) -> None:
    connection.execute(sql.SQL(_INSERT).format(begin=sql.Literal(T0), rows=sql.Literal(rows)))


def legacy_rows(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return the values of the legacy columns, which an upgrade must not change."""
    order = "ORDER BY time, interaction_id"
    return connection.execute(f"SELECT {_LEGACY_COLUMNS} FROM llm_interactions {order}").fetchall()  # type: ignore[arg-type]


def calls(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Return all calls with all columns, oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM llm_interactions ORDER BY time, interaction_id").fetchall()


def upgrade(address: str) -> str:
    """Run `rlm-cachetrack migrate`, which must succeed; returns its output."""
    result = CliRunner().invoke(app, ["migrate", "--db-url", address])
    assert result.exit_code == 0, result.output
    return result.output


def refused_upgrade(address: str) -> str:
    """Run `rlm-cachetrack migrate`, which must fail; returns its output on one line."""
    result = CliRunner().invoke(app, ["migrate", "--db-url", address])
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def dry_run(address: str) -> Any:
    """Run `rlm-cachetrack migrate --dry-run`; returns the result."""
    return CliRunner().invoke(app, ["migrate", "--dry-run", "--db-url", address])


def create_extension(connection: psycopg.Connection[Any]) -> None:
    """Create TimescaleDB's extension if the server has it."""
    if detect(connection).timescale_missing:
        connection.execute("CREATE EXTENSION timescaledb")


def is_migrated(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() != (None,)


def assert_not_changed(connection: psycopg.Connection[Any], before: list[tuple[Any, ...]]) -> None:
    assert not is_migrated(connection)
    assert connection.execute("SELECT count(*)::int FROM pg_extension WHERE extname = 'timescaledb'").fetchone() == (0,)
    assert legacy_rows(connection) == before


def assert_recording_works(address: str, *, rows: int = 10) -> None:
    """Record one more call, and read it together with the legacy calls."""
    with TimescaleDBClient(address) as db:
        db.record_llm_interaction(LLMInteractionRecord("new", T0, "gpt-5", start_time=T0, prompt_tokens=1))
        assert db.flush()
        assert {run["query_id"] for run in db.list_query_runs(limit=10_000)} == {"q", "adhoc", "new"}
        models = db.get_cache_effectiveness_by_model()
        assert sum(row["total_interactions"] for row in models) == rows + 1


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
