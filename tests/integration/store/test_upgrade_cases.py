"""Taking over tables as people have them: what depends on them, odd types, interruptions, two at once, roles.

The usual course is in ``test_adoption.py``. Each on the embedded PostgreSQL and, where there is one, on TimescaleDB.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.store import migrations
from tests.support import clusters

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALLS = """
CREATE TABLE llm_interactions (
    time TIMESTAMPTZ NOT NULL,
    interaction_id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    query_id TEXT,
    run_id TIMESTAMPTZ,
    model TEXT NOT NULL,
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
ROWS = """
INSERT INTO llm_interactions
    (time, interaction_id, query_id, run_id, model, prompt_tokens, completion_tokens, duration_ms, success)
SELECT
    {begin}::timestamptz + n * INTERVAL '5 hours', md5(n::text)::uuid, CASE WHEN mod(n, 4) > 0 THEN 'q' END,
    CASE WHEN mod(n, 4) > 0 THEN {begin}::timestamptz END, 'gpt-5', 100 + n, 10, 100, TRUE
FROM generate_series(0, {rows} - 1) AS n
"""
THEIRS = (
    "SELECT time, interaction_id, model, prompt_tokens, completion_tokens, duration_ms, success, tenant"
    " FROM llm_interactions ORDER BY time, interaction_id"
)


@pytest.fixture(params=["plain", "timescale"])
def address(request: pytest.FixtureRequest) -> str:
    name = "empty_db_url" if request.param == "plain" else "timescale_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def connection(address: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(address, autocommit=True) as opened:
        yield opened


def filled(connection: psycopg.Connection[Any], *, table: str = CALLS, rows: int = 10) -> list[tuple[Any, ...]]:
    """Their table with calls over two days; what of it must be the same afterwards."""
    connection.execute(table)  # type: ignore[arg-type]
    connection.execute(sql.SQL(ROWS).format(begin=sql.Literal(T0), rows=sql.Literal(rows)))
    return connection.execute(THEIRS).fetchall()


def migrated(address: str) -> str:
    result = CliRunner().invoke(app, ["migrate", "--db-url", address])
    assert result.exit_code == 0, result.output
    return result.output


def refused(address: str) -> str:
    result = CliRunner().invoke(app, ["migrate", "--db-url", address])
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def assert_it_goes_on(address: str, *, rows: int = 10) -> None:
    """A call recorded by this library comes to those that were there."""
    with TimescaleDBClient(address) as db:
        db.record_llm_interaction(LLMInteractionRecord("new", T0, "gpt-5", start_time=T0, prompt_tokens=1))
        assert db.flush()
        assert {run["query_id"] for run in db.list_query_runs(limit=10_000)} == {"q", "adhoc", "new"}
        models = db.get_cache_effectiveness_by_model()
        assert sum(row["total_interactions"] for row in models) == rows + 1


# -- what depends on the tables ---------------------------------------------------------------------------------------


def test_materialized_views_and_views_on_them_stay(address: str, connection: psycopg.Connection[Any]) -> None:
    before = filled(connection)
    connection.execute(
        "CREATE MATERIALIZED VIEW by_tenant AS SELECT tenant, model, sum(prompt_tokens) AS tokens, max(time) AS newest"
        " FROM llm_interactions GROUP BY 1, 2"
    )
    connection.execute("CREATE UNIQUE INDEX ON by_tenant (tenant, model)")
    connection.execute("CREATE VIEW large AS SELECT * FROM by_tenant WHERE tokens > 1")
    seen = connection.execute("SELECT * FROM large").fetchall()

    migrated(address)

    assert connection.execute("SELECT * FROM large").fetchall() == seen
    assert connection.execute(THEIRS).fetchall() == before
    assert_it_goes_on(address)
    connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY by_tenant")
    (row,) = connection.execute("SELECT tokens FROM large WHERE model = 'gpt-5'").fetchall()[:1]
    assert row[0] >= seen[0][2]


def test_a_view_that_leans_on_the_primary_key(address: str, connection: psycopg.Connection[Any]) -> None:
    """It groups by the key and shows other columns. PostgreSQL keeps the key; that it goes on TimescaleDB is said."""
    before = filled(connection)
    connection.execute(
        "CREATE VIEW leaning AS"
        " SELECT interaction_id, model, count(*) AS n FROM llm_interactions GROUP BY interaction_id"
    )
    if migrations.detect(connection).timescale or migrations.detect(connection).timescale_missing:
        assert "view leaning" in refused(address)
        assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
    else:
        migrated(address)
        assert_it_goes_on(address)
        before.append((T0,))
    assert len(connection.execute("SELECT * FROM leaning").fetchall()) == len(before)


def test_triggers_stay_and_what_is_filled_in_does_not_set_them_off(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    before = filled(connection)
    connection.execute("CREATE TABLE audit (id BIGINT GENERATED ALWAYS AS IDENTITY, what TEXT, model TEXT)")
    connection.execute(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN INSERT INTO audit (what, model) VALUES (TG_OP, NEW.model); RETURN NEW; END $$"
    )
    connection.execute(
        "CREATE TRIGGER audited AFTER INSERT OR UPDATE ON llm_interactions FOR EACH ROW EXECUTE FUNCTION noted()"
    )

    migrated(address)

    assert connection.execute("SELECT count(*)::int FROM audit").fetchone() == (0,)
    assert connection.execute(THEIRS).fetchall() == before
    assert_it_goes_on(address)
    assert connection.execute("SELECT what, model FROM audit").fetchall() == [("INSERT", "gpt-5")]


def test_a_continuous_aggregate_of_theirs_stays(timescale_url: str) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        filled(connection, table=CALLS.replace("UUID PRIMARY KEY", "UUID"), rows=0)
        connection.execute("SELECT create_hypertable('llm_interactions', 'time')")
        connection.execute(sql.SQL(ROWS).format(begin=sql.Literal(T0), rows=sql.Literal(10)))
        connection.execute(
            "CREATE MATERIALIZED VIEW theirs WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', time) AS day,"
            " tenant, sum(prompt_tokens) AS tokens FROM llm_interactions GROUP BY 1, 2"
        )
        seen = connection.execute("SELECT * FROM theirs ORDER BY 1").fetchall()

        migrated(timescale_url)

        assert connection.execute("SELECT * FROM theirs ORDER BY 1").fetchall() == seen
        assert_it_goes_on(timescale_url)


# -- odd tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "ALTER COLUMN run_id TYPE TEXT",
            r"run_id is of type text, expected timestamp with time zone.*"
            r"ALTER TABLE llm_interactions ALTER COLUMN run_id TYPE TIMESTAMPTZ USING run_id::timestamptz",
        ),
        (
            "ALTER COLUMN time TYPE TIMESTAMP USING time AT TIME ZONE 'UTC'",
            r"time is of type timestamp without time zone.*"
            r"ALTER COLUMN \"time\" TYPE TIMESTAMPTZ USING \"time\" AT TIME ZONE 'UTC'",
        ),
        (
            "ALTER COLUMN interaction_id DROP DEFAULT, ALTER COLUMN interaction_id TYPE TEXT",
            r"interaction_id is of type text, expected uuid.*ALTER COLUMN interaction_id TYPE UUID USING",
        ),
    ],
    ids=["run_id text", "time without zone", "interaction_id text"],
)
def test_a_column_of_another_type_stops_it_and_the_statement_that_helps_is_said(
    address: str, connection: psycopg.Connection[Any], change: str, said: str
) -> None:
    filled(connection)
    connection.execute(f"ALTER TABLE llm_interactions {change}")  # type: ignore[arg-type]

    message = refused(address)

    assert re.search(said, message), message
    assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
    (statement,) = re.findall(r"ALTER TABLE llm_interactions ALTER COLUMN [^;`]+", message)
    connection.execute("ALTER TABLE llm_interactions ALTER COLUMN interaction_id DROP DEFAULT")
    connection.execute(statement)
    migrated(address)
    assert_it_goes_on(address)


def test_a_partitioned_table_is_refused_and_named(address: str, connection: psycopg.Connection[Any]) -> None:
    filled(connection, table=CALLS.replace("UUID PRIMARY KEY", "UUID") + " PARTITION BY RANGE (time)", rows=0)

    message = refused(address)

    assert "llm_interactions is a partitioned table" in message
    assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)


def test_a_table_in_the_schema_that_the_address_names(address: str, connection: psycopg.Connection[Any]) -> None:
    """Beside a table of the same name in public, which is nothing of ours."""
    connection.execute("CREATE TABLE public.llm_interactions (mine INTEGER)")
    connection.execute("CREATE SCHEMA theirs")
    there = make_conninfo(address, options="-csearch_path=theirs")
    with psycopg.connect(there, autocommit=True) as within:
        before = filled(within)

        migrated(there)

        assert within.execute(THEIRS).fetchall() == before
    assert_it_goes_on(there)
    columns = (
        "SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'public.llm_interactions'::regclass AND attnum > 0"
    )
    assert connection.execute(columns).fetchone() == (1,)


# -- interrupted, and at once -----------------------------------------------------------------------------------------

KILLED = """
import sys, psycopg
from rlm_cachetrack.store import named_sql as _sql; from rlm_cachetrack.store import migrations

address, label = sys.argv[1:]
original = _sql.scripts

def slow(engine):
    return tuple(
        _sql.Script(s.engine, s.version, s.name, s.sql + "\\nSELECT pg_sleep(60);") if s.label == label else s
        for s in original(engine)
    )

_sql.scripts = slow
with psycopg.connect(address, autocommit=True) as connection:
    connection.execute("SET client_connection_check_interval = 50")  # ms, until the server sees that we are gone
    migrations.migrate(connection, adopt=True)
"""
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


def test_it_goes_on_after_a_kill_in_each_step(address: str, connection: psycopg.Connection[Any]) -> None:
    before = filled(connection)
    if migrations.detect(connection).timescale_missing:
        connection.execute("CREATE EXTENSION timescaledb")
    steps = [script.label for script in migrations.plan(connection).scripts]
    assert steps[0].startswith("adopt/")

    def sleeping() -> bool:
        return connection.execute(SLEEPING).fetchone() != (0,)

    for label in steps:
        process = subprocess.Popen([sys.executable, "-c", KILLED, address, label])
        until(sleeping)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        until(lambda: not sleeping())
        assert connection.execute(THEIRS).fetchall() == before
        assert migrations.pending(connection)[0].label == label  # what was done before stays done, this step is not
        migrate_up_to(connection, label)
    assert migrations.pending(connection) == []
    assert_it_goes_on(address)


def migrate_up_to(connection: psycopg.Connection[Any], label: str) -> None:
    class EnoughError(Exception):
        pass

    def told(step: str, _number: int, _count: int) -> None:
        if step != label:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        migrations.migrate(connection, adopt=True, progress=told)


def until(condition: Any, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_that_take_over_at_once_do_it_once(address: str, connection: psycopg.Connection[Any]) -> None:
    before = filled(connection, rows=2000)
    if migrations.detect(connection).timescale_missing:
        connection.execute("CREATE EXTENSION timescaledb")
    expected = [script.label for script in migrations.plan(connection).scripts]
    applied: list[str] = []
    failed: list[BaseException] = []

    def take_over() -> None:
        try:
            with psycopg.connect(address, autocommit=True) as other:
                applied.extend(migrations.migrate(other, adopt=True))
        except BaseException as exc:
            failed.append(exc)

    both = [threading.Thread(target=take_over) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert failed == []
    assert sorted(applied) == sorted(expected)
    assert connection.execute(THEIRS).fetchall() == before
    assert_it_goes_on(address, rows=2000)


def test_who_does_not_own_the_table_is_told(address: str, connection: psycopg.Connection[Any]) -> None:
    before = filled(connection)
    if migrations.detect(connection).timescale_missing:
        connection.execute("CREATE EXTENSION timescaledb")
    name = f"somebody_{uuid.uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    try:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name}")
        connection.execute(f"GRANT SELECT ON llm_interactions TO {name}")
        message = refused(make_conninfo(address, user=name, password="x"))
        assert f"role '{name}' may not bring the schema up to date" in message
        assert "must be owner of table llm_interactions" in message
        assert "as the owner of the tables" in message
        assert connection.execute(THEIRS).fetchall() == before
    finally:
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


# -- the printed SQL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [None, "timescaledb"], ids=["plain", "timescale"])
@pytest.mark.parametrize("state", ["empty", "from before"])
def test_what_a_dry_run_prints_makes_the_same_schema_as_migrate(
    extension: str | None, state: str, tmp_path: Path
) -> None:
    """Run by psql, and compared by pg_dump: those of an installed PostgreSQL."""
    programs = clusters.installation_with(extension)
    if programs is None or not all((programs / name).is_file() for name in ("psql", "pg_dump")):
        pytest.skip(f"no installed PostgreSQL has {extension or 'psql and pg_dump'}")
    settings = {"timescaledb__max_background_workers": "0"} if extension else {}
    with clusters.cluster(programs, extension, **settings) as server:
        dumps = []
        for how in ("migrated", "replayed"):
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {how}")
            url = make_conninfo(server, dbname=how)
            with psycopg.connect(url, autocommit=True) as connection:
                if state == "from before":
                    filled(connection)
            if how == "migrated":
                migrated(url)
            else:
                dry = CliRunner().invoke(app, ["migrate", "--dry-run", "--db-url", url])
                assert dry.exit_code == 0, dry.output
                script = tmp_path / "dry.sql"
                script.write_text(dry.stdout)
                run(programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), url)
            with psycopg.connect(url, autocommit=True) as connection:
                assert migrations.pending(connection) == []
                jobs = "SELECT proc_name, schedule_interval, config FROM timescaledb_information.jobs ORDER BY 1, 2"
                dumps.append(
                    (
                        run(programs / "pg_dump", "--schema-only", url),
                        connection.execute(jobs).fetchall() if extension else None,
                    )
                )
    clean = [re.sub(r"\\(un)?restrict \S+", "", text) for text, _ in dumps]
    assert clean[0] == clean[1]
    assert dumps[0][1] == dumps[1][1]
    assert "llm_interactions" in clean[0]


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    return done.stdout
