"""Upgrades of unusual legacy tables: dependent objects, odd types, interruptions, two processes, roles.

``test_upgrade.py`` covers the usual case. Each test runs on the embedded PostgreSQL and, where it is installed, on
TimescaleDB.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rlm_cachetrack.store import migrations
from rlm_cachetrack.store.engine import detect
from tests.support import clusters
from tests.support.legacy import (
    T0,
    WITHOUT_KEY,
    assert_recording_works,
    create_extension,
    create_legacy_table,
    dry_run,
    insert_legacy_rows,
    is_migrated,
    legacy_rows,
    refused_upgrade,
    upgrade,
    wait_until,
)

# -- dependent objects ------------------------------------------------------------------------------------------------


def test_materialized_views_and_views_on_them_stay(address: str, connection: psycopg.Connection[Any]) -> None:
    before = create_legacy_table(connection)
    connection.execute(
        "CREATE MATERIALIZED VIEW by_tenant AS SELECT tenant, model, sum(prompt_tokens) AS tokens, max(time) AS newest"
        " FROM llm_interactions GROUP BY 1, 2"
    )
    connection.execute("CREATE UNIQUE INDEX ON by_tenant (tenant, model)")
    connection.execute("CREATE VIEW large AS SELECT * FROM by_tenant WHERE tokens > 1")
    rows_before = connection.execute("SELECT * FROM large").fetchall()

    upgrade(address)

    assert connection.execute("SELECT * FROM large").fetchall() == rows_before
    assert legacy_rows(connection) == before
    assert_recording_works(address)
    connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY by_tenant")
    (row,) = connection.execute("SELECT tokens FROM large WHERE model = 'gpt-5'").fetchall()[:1]
    assert row[0] >= rows_before[0][2]


def test_a_view_that_depends_on_the_primary_key(address: str, connection: psycopg.Connection[Any]) -> None:
    """The view groups by the key. PostgreSQL keeps the key; TimescaleDB refuses the upgrade."""
    before = create_legacy_table(connection)
    connection.execute(
        "CREATE VIEW dependent AS"
        " SELECT interaction_id, model, count(*) AS n FROM llm_interactions GROUP BY interaction_id"
    )
    if detect(connection).timescale or detect(connection).timescale_missing:
        assert "view dependent" in refused_upgrade(address)
        assert not is_migrated(connection)
    else:
        upgrade(address)
        assert_recording_works(address)
        before.append((T0,))
    assert len(connection.execute("SELECT * FROM dependent").fetchall()) == len(before)


def test_triggers_stay_and_do_not_fire_for_the_upgrade(address: str, connection: psycopg.Connection[Any]) -> None:
    before = create_legacy_table(connection)
    connection.execute("CREATE TABLE audit (id BIGINT GENERATED ALWAYS AS IDENTITY, what TEXT, model TEXT)")
    connection.execute(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN INSERT INTO audit (what, model) VALUES (TG_OP, NEW.model); RETURN NEW; END $$"
    )
    connection.execute(
        "CREATE TRIGGER audited AFTER INSERT OR UPDATE ON llm_interactions FOR EACH ROW EXECUTE FUNCTION noted()"
    )

    upgrade(address)

    assert connection.execute("SELECT count(*)::int FROM audit").fetchone() == (0,)
    assert legacy_rows(connection) == before
    assert_recording_works(address)
    assert connection.execute("SELECT what, model FROM audit").fetchall() == [("INSERT", "gpt-5")]


def test_an_existing_continuous_aggregate_stays(timescale_url: str) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        create_legacy_table(connection, table=WITHOUT_KEY, rows=0)
        connection.execute("SELECT create_hypertable('llm_interactions', 'time')")
        insert_legacy_rows(connection)
        connection.execute(
            "CREATE MATERIALIZED VIEW theirs WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', time) AS day,"
            " tenant, sum(prompt_tokens) AS tokens FROM llm_interactions GROUP BY 1, 2"
        )
        rows_before = connection.execute("SELECT * FROM theirs ORDER BY 1").fetchall()

        upgrade(timescale_url)

        assert connection.execute("SELECT * FROM theirs ORDER BY 1").fetchall() == rows_before
        assert_recording_works(timescale_url)


# -- unusual tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "ALTER COLUMN run_id TYPE TEXT",
            r"run_id has type text, expected timestamp with time zone.*"
            r"ALTER TABLE llm_interactions ALTER COLUMN run_id TYPE TIMESTAMPTZ USING run_id::timestamptz",
        ),
        (
            "ALTER COLUMN time TYPE TIMESTAMP USING time AT TIME ZONE 'UTC'",
            r"time has type timestamp without time zone.*"
            r"ALTER COLUMN \"time\" TYPE TIMESTAMPTZ USING \"time\" AT TIME ZONE 'UTC'",
        ),
        (
            "ALTER COLUMN interaction_id DROP DEFAULT, ALTER COLUMN interaction_id TYPE TEXT",
            r"interaction_id has type text, expected uuid.*ALTER COLUMN interaction_id TYPE UUID USING",
        ),
    ],
    ids=["run_id text", "time without zone", "interaction_id text"],
)
def test_the_message_about_a_wrong_type_has_the_statement_that_converts_it(
    address: str, connection: psycopg.Connection[Any], change: str, expected: str
) -> None:
    create_legacy_table(connection)
    connection.execute(f"ALTER TABLE llm_interactions {change}")  # type: ignore[arg-type]

    message = refused_upgrade(address)

    assert re.search(expected, message), message
    assert not is_migrated(connection)
    (statement,) = re.findall(r"ALTER TABLE llm_interactions ALTER COLUMN [^;`]+", message)
    connection.execute("ALTER TABLE llm_interactions ALTER COLUMN interaction_id DROP DEFAULT")
    connection.execute(statement)
    upgrade(address)
    assert_recording_works(address)


def test_a_partitioned_table_is_refused(address: str, connection: psycopg.Connection[Any]) -> None:
    create_legacy_table(connection, table=WITHOUT_KEY + " PARTITION BY RANGE (time)", rows=0)

    message = refused_upgrade(address)

    assert "llm_interactions is a partitioned table" in message
    assert not is_migrated(connection)


def test_a_table_in_the_schema_that_the_address_selects(address: str, connection: psycopg.Connection[Any]) -> None:
    """An unrelated table with the same name in public stays as it is."""
    connection.execute("CREATE TABLE public.llm_interactions (mine INTEGER)")
    connection.execute("CREATE SCHEMA theirs")
    there = make_conninfo(address, options="-csearch_path=theirs")
    with psycopg.connect(there, autocommit=True) as within:
        before = create_legacy_table(within)

        upgrade(there)

        assert legacy_rows(within) == before
    assert_recording_works(there)
    columns = (
        "SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'public.llm_interactions'::regclass AND attnum > 0"
    )
    assert connection.execute(columns).fetchone() == (1,)


# -- interruptions and concurrency ------------------------------------------------------------------------------------

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
    connection.execute("SET client_connection_check_interval = 50")  # ms until the server notices a killed client
    migrations.migrate(connection, upgrade=True)
"""
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


def test_an_upgrade_continues_after_a_kill_in_each_step(address: str, connection: psycopg.Connection[Any]) -> None:
    before = create_legacy_table(connection)
    create_extension(connection)
    steps = [script.label for script in migrations.plan(connection).scripts]
    assert steps[0].startswith("upgrade/")

    def sleeping() -> bool:
        return connection.execute(SLEEPING).fetchone() != (0,)

    for label in steps:
        process = subprocess.Popen([sys.executable, "-c", KILLED, address, label])
        wait_until(sleeping)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: not sleeping())
        assert legacy_rows(connection) == before
        assert migrations.pending(connection)[0].label == label  # earlier steps stay applied, this one is rolled back
        migrate_up_to(connection, label)
    assert migrations.pending(connection) == []
    assert_recording_works(address)


def migrate_up_to(connection: psycopg.Connection[Any], label: str) -> None:
    class EnoughError(Exception):
        pass

    def stop_after_label(step: str, _number: int, _count: int) -> None:
        if step != label:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        migrations.migrate(connection, upgrade=True, progress=stop_after_label)


def test_two_concurrent_upgrades_apply_each_step_once(address: str, connection: psycopg.Connection[Any]) -> None:
    before = create_legacy_table(connection, rows=300)
    create_extension(connection)
    expected = [script.label for script in migrations.plan(connection).scripts]
    applied: list[str] = []
    failed: list[BaseException] = []

    def run_upgrade() -> None:
        try:
            with psycopg.connect(address, autocommit=True) as other:
                applied.extend(migrations.migrate(other, upgrade=True))
        except BaseException as exc:
            failed.append(exc)

    both = [threading.Thread(target=run_upgrade) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert failed == []
    assert sorted(applied) == sorted(expected)
    assert legacy_rows(connection) == before
    assert_recording_works(address, rows=300)


def test_the_message_names_the_missing_right_of_a_role(address: str, connection: psycopg.Connection[Any]) -> None:
    before = create_legacy_table(connection)
    create_extension(connection)
    name = f"somebody_{uuid.uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    try:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name}")
        connection.execute(f"GRANT SELECT ON llm_interactions TO {name}")
        message = refused_upgrade(make_conninfo(address, user=name, password="x"))
        assert f"Role '{name}' may not migrate the database" in message
        assert "must be owner of table llm_interactions" in message
        assert "as the owner of the tables" in message
        assert legacy_rows(connection) == before
    finally:
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


# -- the printed SQL --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, "timescaledb"], ids=["plain", "timescale"])
def installed_server(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str, str | None]]:
    """An installed PostgreSQL, whose psql and pg_dump match its version: programs, address, extension."""
    extension: str | None = request.param
    programs = clusters.installation_with(extension)
    if programs is None or not all((programs / name).is_file() for name in ("psql", "pg_dump")):
        pytest.skip(f"no installed PostgreSQL has {extension or 'psql and pg_dump'}")
    settings = {"timescaledb__max_background_workers": "0"} if extension else {}
    with clusters.cluster(programs, extension, **settings) as url:
        yield programs, url, extension


@pytest.mark.parametrize("is_legacy", [False, True], ids=["empty", "legacy"])
def test_the_sql_of_a_dry_run_makes_the_same_schema_as_migrate(
    installed_server: tuple[Path, str, str | None], is_legacy: bool, tmp_path: Path
) -> None:
    programs, server, extension = installed_server
    dumps, jobs = [], []
    for method in ("migrated", "replayed"):
        name = f"{method}_{is_legacy}".lower()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        url = make_conninfo(server, dbname=name)
        with psycopg.connect(url, autocommit=True) as connection:
            if is_legacy:
                create_legacy_table(connection)
        if method == "migrated":
            upgrade(url)
        else:
            dry = dry_run(url)
            assert dry.exit_code == 0, dry.output
            script = tmp_path / "dry.sql"
            script.write_text(dry.stdout)
            run(programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), url)
        with psycopg.connect(url, autocommit=True) as connection:
            assert migrations.pending(connection) == []
            if extension:
                query = "SELECT proc_name, schedule_interval, config FROM timescaledb_information.jobs ORDER BY 1, 2"
                jobs.append(connection.execute(query).fetchall())
        dumps.append(re.sub(r"\\(un)?restrict \S+", "", run(programs / "pg_dump", "--schema-only", url)))
    assert "llm_interactions" in dumps[0]
    assert dumps[0] == dumps[1]
    assert jobs[:1] == jobs[1:]


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    return done.stdout
