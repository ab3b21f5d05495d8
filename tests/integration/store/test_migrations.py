"""Migrations: the schema that they create, concurrent processes, and errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rlm_cachetrack import LLMInteractionRecord, StoreError, TimescaleDBClient
from rlm_cachetrack.errors import MigrationError, SchemaTooNewError
from rlm_cachetrack.records import COLUMNS
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import detect
from rlm_cachetrack.store.schema_scripts import scripts_for

# The program prints a line when it is ready, waits for input, connects (which migrates), and prints the run count.
MIGRATE = """
import sys
from rlm_cachetrack import TimescaleDBClient
import rlm_cachetrack.store.postgres
print("ready", flush=True)
sys.stdin.readline()
with TimescaleDBClient(sys.argv[1]) as db:
    db.initialize_query_run("q", "2026-03-01T12:00:00Z")
    print(len(db.list_query_runs()), flush=True)
"""


@pytest.fixture
def connection(empty_db_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(empty_db_url, autocommit=True) as opened:
        yield opened


def catalogue(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the definition of every table, view and index in the schema."""
    tables = connection.execute(
        "SELECT table_name, string_agg(column_name || ' ' || data_type || ' ' || is_nullable || ' '"
        " || coalesce(column_default, ''), ', ' ORDER BY ordinal_position)"
        " FROM information_schema.columns WHERE table_schema = current_schema() GROUP BY 1"
    ).fetchall()
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
    ).fetchall()
    return dict(tables) | dict(indexes)


def count(connection: psycopg.Connection[Any], what: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {what}").fetchone()
    assert row is not None
    return int(row[0])


# -- the schema -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("llm_interactions", ["query_id", "run_id", "time", "interaction_id"]),
        ("token_cache_optimization", ["query_id", "run_id"]),
        ("query_run_summaries", ["query_id", "run_id"]),
    ],
)
def test_tables_have_the_documented_keys(reused_db_url: str, table: str, key: list[str]) -> None:
    with psycopg.connect(reused_db_url) as connection:
        row = connection.execute(
            "SELECT array_agg(a.attname::text ORDER BY k.position) FROM pg_index AS i"
            " CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, position)"
            " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
            " WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
            [table],
        ).fetchone()
    assert row == (key,)


@pytest.mark.parametrize(
    ("table", "index", "columns"),
    [
        ("llm_interactions", "idx_llm_cached_tokens", "(cached_tokens DESC, time DESC)"),
        ("llm_interactions", "idx_llm_total_cost", "(total_cost DESC, time DESC)"),
        ("token_cache_optimization", "idx_cache_opt_query_id", "(query_id, time DESC)"),
        ("token_cache_optimization", "idx_cache_opt_savings", "(cost_savings DESC, time DESC)"),
    ],
)
def test_the_documented_indexes_exist(reused_db_url: str, table: str, index: str, columns: str) -> None:
    with psycopg.connect(reused_db_url) as connection:
        row = connection.execute(
            "SELECT tablename::text, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname = %s", [index]
        ).fetchone()
    assert row is not None
    assert row[0] == table
    assert row[1].replace('"time"', "time").endswith(f"USING btree {columns}")


def test_the_table_of_calls_has_every_field_of_the_record(reused_db_url: str) -> None:
    with psycopg.connect(reused_db_url) as connection:
        rows = connection.execute(
            "SELECT attname::text, attnotnull FROM pg_attribute"
            " WHERE attrelid = 'llm_interactions'::regclass AND attnum > 0 AND NOT attisdropped"
        ).fetchall()
    assert {name for name, _ in rows} == set(COLUMNS)
    required = {name for name, not_null in rows if not_null}
    assert required == {"query_id", "run_id", "time", "interaction_id", "model", "success"}


def test_totals_of_a_run_may_be_null(reused_db_url: str) -> None:
    with psycopg.connect(reused_db_url) as connection:
        rows = connection.execute(
            "SELECT attname::text FROM pg_attribute"
            " WHERE attrelid = 'query_run_summaries'::regclass AND attnum > 0 AND attnotnull"
        ).fetchall()
    assert {name for (name,) in rows} == {"query_id", "run_id", "start_time", "status"}


def test_a_row_written_by_hand_gets_the_defaults(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        row = connection.execute(
            "INSERT INTO llm_interactions (query_id, run_id, time, model) VALUES ('q', now(), now(), 'm')"
            " RETURNING cached_tokens, success, interaction_id IS NOT NULL"
        ).fetchone()
    assert row == (0, True, True)


def test_the_hourly_view_sums_by_hour_provider_model_and_tier(db_url: str) -> None:
    prices = {"prompt_token_price": 0.002, "cached_token_price": 0.001, "completion_token_price": 0.008}
    run, bucket = "2026-03-01T12:00:00Z", "2026-03-01 12:00:00+00"
    with TimescaleDBClient(db_url) as db:
        for minute, more in (
            (1, {"prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 100, "duration_ms": 50, **prices}),
            (59, {"prompt_tokens": 500, "cached_tokens": None, "completion_tokens": 0, **prices}),
            (60, {"prompt_tokens": 7, "completion_tokens": 0, **prices}),
        ):
            moment = f"2026-03-01T{12 + minute // 60}:{minute % 60:02}:00Z"
            db.record_llm_interaction(
                LLMInteractionRecord("q", run, "m", provider="p", service_tier="flex", start_time=moment, **more)  # type: ignore[arg-type]
            )
        db.flush()
    with psycopg.connect(db_url, row_factory=psycopg.rows.dict_row) as connection:
        rows = connection.execute("SELECT * FROM cache_usage_hourly ORDER BY bucket").fetchall()
        moment = connection.execute("SELECT %s::timestamptz AS bucket", [bucket]).fetchone()
    first, second = rows
    assert moment is not None
    assert first["bucket"] == moment["bucket"]
    assert (first["provider"], first["model"], first["service_tier"]) == ("p", "m", "flex")
    assert (first["total_interactions"], first["interactions_with_cache"]) == (2, 1)
    assert (first["interactions_without_cache"], first["interactions_not_reported"]) == (0, 1)
    assert (first["prompt_tokens"], first["reported_prompt_tokens"], first["cached_tokens"]) == (1500, 1000, 400)
    assert first["uncached_prompt_tokens"] == 600
    assert first["completion_tokens"] == 100
    # 600 x .002 + 400 x .001 + 100 x .008 = 2.4 thousandths; 500 x .002 = 1.0. Originals: 2.8 and 1.0
    assert first["total_cost"] == first["compared_cost"] == pytest.approx(0.0034)
    assert first["original_cost"] == pytest.approx(0.0038)
    assert (first["timed_interactions"], first["duration_ms"]) == (1, 50)
    assert (second["total_interactions"], second["prompt_tokens"], second["cached_tokens"]) == (1, 7, 0)


# -- concurrent and repeated migrations -------------------------------------------------------------------------------


def test_processes_migrate_an_empty_database_concurrently(
    empty_db_url: str, connection: psycopg.Connection[Any]
) -> None:
    processes = 6
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", MIGRATE, empty_db_url],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=240) for process in started]
    assert [(process.returncode, *answer) for process, answer in zip(started, answers, strict=True)] == [
        (0, "1\n", "")
    ] * processes
    wanted = sorted((script.engine, script.version) for script in scripts_for(detect(connection)))
    applied = connection.execute("SELECT engine, version FROM rlm_cachetrack_migrations").fetchall()
    assert sorted(applied) == wanted
    assert count(connection, "query_run_summaries") == 1


def test_migrating_again_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    applied = migrations.migrate(connection)
    assert applied[0] == "core/0001_initial"
    before = catalogue(connection)
    assert {"llm_interactions", "token_cache_optimization", "query_run_summaries", "cache_usage_hourly"} <= set(before)
    assert migrations.pending(connection) == []
    assert migrations.migrate(connection) == []
    assert catalogue(connection) == before


def test_describe_returns_applied_and_pending_migrations(connection: psycopg.Connection[Any]) -> None:
    empty = catalogue(connection)
    before = migrations.describe(connection)
    assert before["migrations_applied"] == []
    assert catalogue(connection) == empty  # describe() changes nothing
    labels = migrations.migrate(connection)
    after = migrations.describe(connection)
    assert after["migrations_applied"] == sorted(labels)
    assert after["migrations_pending"] == []
    row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    assert row[0].startswith(after["server_version"])


def test_the_address_selects_the_schema(empty_db_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE SCHEMA cachetrack")
    connection.execute("CREATE TABLE public.llm_interactions (mine INTEGER)")
    with TimescaleDBClient(make_conninfo(empty_db_url, options="-csearch_path=cachetrack")) as db:
        db.record_llm_interaction(LLMInteractionRecord("q", "2026-03-01T12:00:00Z", "m"))  # type: ignore[arg-type]
        assert len(db.list_query_runs()) == 1
    assert count(connection, "cachetrack.llm_interactions") == 1
    assert count(connection, "public.llm_interactions") == 0


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused_and_not_changed(connection: psycopg.Connection[Any]) -> None:
    migrations.migrate(connection)
    connection.execute("INSERT INTO rlm_cachetrack_migrations VALUES ('core', 9999, 'later', 'x', now())")
    before = catalogue(connection)
    with pytest.raises(SchemaTooNewError, match="core/9999_later"):
        migrations.migrate(connection)
    assert catalogue(connection) == before
    assert issubclass(SchemaTooNewError, MigrationError)


def test_a_script_edited_after_it_was_applied_is_refused(
    empty_db_url: str, connection: psycopg.Connection[Any]
) -> None:
    """The database has another checksum than the installed file."""
    migrations.migrate(connection)
    connection.execute("UPDATE rlm_cachetrack_migrations SET checksum = repeat('0', 64) WHERE engine = 'core'")
    with pytest.raises(MigrationError, match=r"core/0001_initial was edited"):
        TimescaleDBClient(empty_db_url)


def test_an_unrelated_table_is_refused_and_not_changed(empty_db_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE llm_interactions (id INTEGER PRIMARY KEY, prompt TEXT)")
    connection.execute("INSERT INTO llm_interactions VALUES (1, 'theirs')")
    before = catalogue(connection)
    with pytest.raises(MigrationError, match=r"not created by rlm_cachetrack: llm_interactions"):
        TimescaleDBClient(empty_db_url)
    assert catalogue(connection) == before
    assert connection.execute("SELECT * FROM llm_interactions").fetchall() == [(1, "theirs")]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE token_cache_optimization (x INTEGER)",
        "CREATE VIEW query_run_summaries AS SELECT 1 AS x",
        "CREATE VIEW cache_usage_hourly AS SELECT 1 AS x",
        "CREATE TABLE cache_usage_hourly (x INTEGER)",
        "CREATE TABLE budgets (team TEXT)",
        "CREATE VIEW price_changes AS SELECT 1 AS x",
        "CREATE TABLE t (x INTEGER); CREATE INDEX idx_query_run_summaries_start ON t (x)",
    ],
)
def test_each_name_in_use_is_refused_before_anything_is_changed(
    empty_db_url: str, connection: psycopg.Connection[Any], statement: str
) -> None:
    connection.execute(statement)
    before = catalogue(connection)
    with pytest.raises(MigrationError, match="not created by rlm_cachetrack"):
        TimescaleDBClient(empty_db_url)
    assert catalogue(connection) == before


def test_a_failing_script_changes_nothing(empty_db_url: str, connection: psycopg.Connection[Any]) -> None:
    """A statement of 0001 fails because a type has the table's name, after other tables and indexes were created."""
    connection.execute("CREATE TYPE price_change_runs AS ENUM ('x')")
    before = catalogue(connection)
    with pytest.raises(StoreError, match="price_change_runs"):
        TimescaleDBClient(empty_db_url)
    assert catalogue(connection) == before
    connection.execute("DROP TYPE price_change_runs")
    with TimescaleDBClient(empty_db_url) as db:
        assert db.list_query_runs() == []


def test_a_failing_script_does_not_undo_earlier_ones(
    empty_db_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = (*_sql.scripts("core"), _sql.Script("core", 9000, "broken", "CREATE TABLE half (x INTEGER); SELECT 1 / 0;"))
    original = _sql.scripts
    monkeypatch.setattr(_sql, "scripts", lambda engine: core if engine == "core" else original(engine))
    with pytest.raises(StoreError, match="division by zero"):
        TimescaleDBClient(empty_db_url)
    monkeypatch.undo()
    assert "half" not in catalogue(connection)
    assert migrations.pending(connection) == []


def test_the_checksum_of_each_applied_script_is_stored(connection: psycopg.Connection[Any]) -> None:
    migrations.migrate(connection)
    rows = connection.execute("SELECT engine, version, name, checksum FROM rlm_cachetrack_migrations").fetchall()
    engines = ("core", "postgresql", "timescale", "citus")
    scripts = {(s.engine, s.version): (s.name, s.checksum) for engine in engines for s in _sql.scripts(engine)}
    assert rows
    for engine, version, name, checksum in rows:
        assert scripts[engine, version] == (name, checksum)
        assert len(checksum) == 64


def test_every_table_has_a_primary_key_for_logical_replication(db_url: str) -> None:
    """Without a primary key, a publication for all tables makes every UPDATE and DELETE fail."""
    without = """
        SELECT relname FROM pg_class AS c
        WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p')"""
    with psycopg.connect(db_url) as connection:
        assert connection.execute(without).fetchall() == []
