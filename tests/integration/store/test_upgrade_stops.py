"""What stands in the way of taking over tables is named before any change, and what does not is taken over.

Each on the embedded PostgreSQL and, where there is one, on TimescaleDB.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.store import migrations
from tests.integration.store.test_upgrade_cases import (
    CALLS,
    T0,
    THEIRS,
    assert_it_goes_on,
    filled,
    migrated,
    refused,
    until,
)
from tests.support import clusters

FUNCTION = """
CREATE TABLE noted (n BIGINT);
CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (1); RETURN NULL; END $$;
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


def assert_nothing_was_changed(connection: psycopg.Connection[Any], before: list[tuple[Any, ...]]) -> None:
    assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
    assert connection.execute("SELECT count(*)::int FROM pg_extension WHERE extname = 'timescaledb'").fetchone() == (0,)
    assert connection.execute(THEIRS).fetchall() == before


EVERYWHERE = {
    "foreign key of its query": (
        "CREATE TABLE queries (id TEXT PRIMARY KEY); INSERT INTO queries VALUES ('q');"
        "ALTER TABLE llm_interactions ADD CONSTRAINT of_query FOREIGN KEY (query_id) REFERENCES queries",
        "foreign key 'of_query' of llm_interactions points at queries",
    ),
    "computed column": (
        "ALTER TABLE llm_interactions DROP COLUMN total_tokens;"
        "ALTER TABLE llm_interactions ADD COLUMN total_tokens INTEGER"
        " GENERATED ALWAYS AS (prompt_tokens + completion_tokens) STORED",
        "llm_interactions.total_tokens is computed by the database",
    ),
    "fingerprint of text": (
        "ALTER TABLE llm_interactions ADD COLUMN fingerprint TEXT",
        "llm_interactions.fingerprint is of type text, expected bytea",
    ),
    "rows that are there twice": (
        "ALTER TABLE llm_interactions DROP CONSTRAINT llm_interactions_pkey;"
        "INSERT INTO llm_interactions SELECT * FROM llm_interactions LIMIT 3",
        "3 calls are in llm_interactions more than once",
    ),
    "a table named budgets": ("CREATE TABLE budgets (team TEXT)", "the name budgets is taken"),
    "a table named price_changes": ("CREATE TABLE price_changes (x INTEGER)", "the name price_changes is taken"),
    "another index of that name": (
        "CREATE INDEX idx_llm_key ON llm_interactions (model)",
        "the name idx_llm_key is taken by an index of llm_interactions",
    ),
    "an index of that name elsewhere": (
        "CREATE TABLE latency_events (time TIMESTAMPTZ); CREATE INDEX idx_llm_time ON latency_events (time)",
        "the name idx_llm_time is taken by an index of latency_events",
    ),
    "children": (
        "CREATE TABLE old_calls () INHERITS (llm_interactions)",
        "table old_calls inherits from llm_interactions",
    ),
    "a run without a name": (
        "CREATE TABLE query_run_summaries (query_id TEXT, run_id TIMESTAMPTZ);"
        "INSERT INTO query_run_summaries VALUES ('q', NULL), (NULL, now())",
        "query_run_summaries has 2 rows without query_id or run_id",
    ),
    "savings without a run": (
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ);"
        "INSERT INTO token_cache_optimization VALUES ('q', NULL)",
        "token_cache_optimization has 1 rows without query_id or run_id",
    ),
    "a status of an enum": (
        "CREATE TYPE state AS ENUM ('running', 'done');"
        "CREATE TABLE query_run_summaries (query_id TEXT, run_id TIMESTAMPTZ, status state)",
        "query_run_summaries.status is of type state, expected",
    ),
    "an evolution of text": (
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ, cache_evolution TEXT)",
        "cache_evolution is of type text, expected json or jsonb: where its values are such, run"
        " `ALTER TABLE token_cache_optimization ALTER COLUMN cache_evolution TYPE JSONB USING cache_evolution::jsonb`",
    ),
}
TIMESCALE = {
    "trigger with a transition table": (
        f"{FUNCTION} CREATE TRIGGER each AFTER INSERT ON llm_interactions REFERENCING NEW TABLE AS fresh FOR EACH ROW"
        " EXECUTE FUNCTION noting()",
        "trigger each of llm_interactions has a transition table",
    ),
    "trigger with a transition table, by statement": (
        f"{FUNCTION} CREATE TRIGGER each AFTER INSERT ON llm_interactions REFERENCING NEW TABLE AS fresh"
        " FOR EACH STATEMENT EXECUTE FUNCTION noting()",
        "trigger each of llm_interactions has a transition table",
    ),
    "exclusion constraint": (
        "ALTER TABLE llm_interactions ADD CONSTRAINT apart EXCLUDE (interaction_id WITH =)",
        "exclusion constraint apart of llm_interactions lacks the column",
    ),
    "rule": (
        "CREATE RULE silent AS ON DELETE TO llm_interactions DO ALSO NOTHING",
        "rule silent of llm_interactions is refused by TimescaleDB",
    ),
    "publication": (
        "CREATE PUBLICATION theirs FOR TABLE llm_interactions",
        "llm_interactions is in publication theirs",
    ),
    "row security": (
        "ALTER TABLE llm_interactions ENABLE ROW LEVEL SECURITY",
        "row security of llm_interactions is refused by continuous aggregates",
    ),
    "parent": (
        "CREATE TABLE any_calls (time TIMESTAMPTZ NOT NULL); ALTER TABLE llm_interactions INHERIT any_calls",
        "llm_interactions inherits from any_calls",
    ),
    "another unique key of savings": (
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ, number INTEGER UNIQUE)",
        "unique index token_cache_optimization_number_key of token_cache_optimization lacks the column run_id",
    ),
}


@pytest.mark.parametrize("case", EVERYWHERE)
def test_it_is_named_before_any_change(address: str, connection: psycopg.Connection[Any], case: str) -> None:
    statements, named = EVERYWHERE[case]
    filled(connection)
    connection.execute(statements)  # type: ignore[arg-type]
    before = connection.execute(THEIRS).fetchall()

    said = refused(address)

    assert named in said
    assert_nothing_was_changed(connection, before)


@pytest.mark.parametrize("case", TIMESCALE)
def test_what_timescale_refuses_is_named_before_any_change_and_postgresql_keeps_it(
    engine: str, address: str, connection: psycopg.Connection[Any], case: str
) -> None:
    statements, named = TIMESCALE[case]
    filled(connection)
    connection.execute(statements)  # type: ignore[arg-type]
    before = connection.execute(THEIRS).fetchall()

    if engine == "timescale":
        assert named in refused(address)
        assert_nothing_was_changed(connection, before)
    else:
        migrated(address)
        assert connection.execute(THEIRS).fetchall() == before
        assert_it_goes_on(address)


def test_indexes_of_our_names_over_our_columns_serve(address: str, connection: psycopg.Connection[Any]) -> None:
    filled(connection)
    connection.execute("CREATE INDEX idx_llm_time ON llm_interactions (time)")  # theirs ascends
    connection.execute("CREATE UNIQUE INDEX idx_llm_key ON llm_interactions (query_id, run_id, time, interaction_id)")

    migrated(address)

    assert_it_goes_on(address)


def test_tables_of_runs_get_types_that_hold_every_sum_and_a_key(
    engine: str, address: str, connection: psycopg.Connection[Any]
) -> None:
    """Theirs have a number as their key; TimescaleDB refuses it where it divides the table by run, and it makes way."""
    filled(connection)
    connection.execute(
        "CREATE TABLE token_cache_optimization ("
        "    id SERIAL PRIMARY KEY, query_id VARCHAR(20) NOT NULL, run_id TIMESTAMPTZ NOT NULL,"
        "    total_prompt_tokens INTEGER NOT NULL, total_cached_tokens INTEGER NOT NULL, cost_savings NUMERIC(6, 4),"
        "    cost_savings_percentage NUMERIC(5, 2) NOT NULL, time TIMESTAMPTZ NOT NULL DEFAULT now())"
    )
    connection.execute(
        "INSERT INTO token_cache_optimization"
        " (query_id, run_id, total_prompt_tokens, total_cached_tokens, cost_savings, cost_savings_percentage)"
        " VALUES ('q', %s, 700, 70, 1.2345, 12.5)",
        [T0],
    )
    connection.execute(
        "CREATE TABLE query_run_summaries ("
        " id SERIAL PRIMARY KEY, query_id VARCHAR(20) NOT NULL, run_id TIMESTAMPTZ NOT NULL,"
        " status VARCHAR(8), total_cost NUMERIC(6, 4), total_tokens INTEGER, notes TEXT)"
    )
    connection.execute(
        "INSERT INTO query_run_summaries (query_id, run_id, total_cost, notes) VALUES ('q', %s, 1, 'theirs')", [T0]
    )

    migrated(address)

    assert_it_goes_on(address)
    assert connection.execute("SELECT notes, status FROM query_run_summaries WHERE query_id = 'q'").fetchall() == [
        ("theirs", "completed")
    ]
    with TimescaleDBClient(address) as db:
        stored = db.get_token_cache_optimization("q", T0)
        assert stored is not None
        assert (stored["total_cached_tokens"], stored["cost_savings"]) == (70, 1.2345)
        name = "a query whose name has more than twenty letters"
        db.initialize_query_run(name, T0)
        for number in range(3):
            fields: dict[str, Any] = {"prompt_tokens": 1_000_000_000, "cached_tokens": 999_999_999, "model": "gpt-5"}
            db.record_llm_interaction(
                LLMInteractionRecord(name, T0, start_time=T0.replace(second=number), total_cost=1234.5, **fields)
            )
        db.complete_query_run(name, T0)
        made = db.calculate_and_store_cache_optimization(name, T0)
        assert db.get_token_cache_optimization(name, T0) == made
        assert made["total_prompt_tokens"] == 3_000_000_000
        summary = db.get_query_run_summary(name, T0)
        assert summary is not None
        assert summary["total_cost"] == 3703.5
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'"
    of_savings = "PRIMARY KEY (query_id, run_id)" if engine == "timescale" else "PRIMARY KEY (id)"
    assert connection.execute(key, ["token_cache_optimization"]).fetchone() == (of_savings,)
    assert connection.execute(key, ["query_run_summaries"]).fetchone() == ("PRIMARY KEY (id)",)


def test_triggers_of_savings_are_not_set_off_either(address: str, connection: psycopg.Connection[Any]) -> None:
    filled(connection)
    connection.execute(
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ, PRIMARY KEY (query_id, run_id));"
        "INSERT INTO token_cache_optimization VALUES ('q', '2026-03-01 12:00:00+00')"
    )
    connection.execute(FUNCTION)
    connection.execute(
        "CREATE TRIGGER each AFTER INSERT OR UPDATE ON token_cache_optimization FOR EACH ROW EXECUTE FUNCTION noting()"
    )

    migrated(address)

    assert connection.execute("SELECT count(*)::int FROM noted").fetchone() == (0,)
    with TimescaleDBClient(address) as db:
        db.calculate_and_store_cache_optimization("q", T0)
    assert connection.execute("SELECT count(*)::int FROM noted").fetchone() == (1,)


def test_what_may_refuse_new_calls_is_said(address: str, connection: psycopg.Connection[Any]) -> None:
    filled(connection, table=CALLS.replace("model TEXT", "model VARCHAR(6)"))
    connection.execute("CREATE VIEW by_model AS SELECT model, count(*) AS calls FROM llm_interactions GROUP BY 1")
    connection.execute("ALTER TABLE llm_interactions ADD CONSTRAINT never_empty CHECK (prompt_tokens > 0)")

    dry = CliRunner().invoke(app, ["migrate", "--dry-run", "--db-url", address])

    assert dry.exit_code == 0, dry.output
    assert "-- column model stays character varying(6), as view by_model leans on it" in dry.stdout
    assert "-- constraint never_empty of llm_interactions stays" in dry.stdout
    assert "CHECK ((prompt_tokens > 0))" in dry.stdout


def test_it_takes_longer_than_a_statement_may(address: str, connection: psycopg.Connection[Any]) -> None:
    """As where a role has a ``statement_timeout``: somebody reads the table for longer than that."""
    before = filled(connection)
    waits = (
        "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND clock_timestamp() - query_start > INTERVAL '1200 ms'"
    )
    said: list[str] = []
    taking_over = threading.Thread(
        target=lambda: said.append(migrated(make_conninfo(address, options="-cstatement_timeout=1000")))
    )
    with psycopg.connect(address) as reading:
        reading.execute("SELECT count(*) FROM llm_interactions")
        taking_over.start()
        until(lambda: connection.execute(waits).fetchone() == (1,))
    taking_over.join()

    assert "The schema is up to date." in said[0]
    assert connection.execute(THEIRS).fetchall() == before
    assert_it_goes_on(address)


def test_whose_the_new_tables_will_be_is_said(address: str, connection: psycopg.Connection[Any]) -> None:
    filled(connection)
    name = f"somebody_{uuid.uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {name}")  # type: ignore[arg-type]
    try:
        connection.execute(f"ALTER TABLE llm_interactions OWNER TO {name}")  # type: ignore[arg-type]
        dry = CliRunner().invoke(app, ["migrate", "--dry-run", "--db-url", address])
        assert f"-- llm_interactions belongs to {name}" in dry.stdout
    finally:
        connection.execute(f"DROP OWNED BY {name}")  # type: ignore[arg-type]
        connection.execute(f"DROP ROLE {name}")  # type: ignore[arg-type]


# -- Citus ------------------------------------------------------------------------------------------------------------


def test_on_citus_keys_make_way_and_the_rest_is_named(citus: clusters.Citus) -> None:
    with psycopg.connect(citus.coordinator, autocommit=True) as connection:
        before = filled(connection)
        connection.execute(FUNCTION)
        connection.execute("CREATE UNIQUE INDEX once ON llm_interactions (interaction_id)")
        connection.execute(
            "CREATE TRIGGER each AFTER INSERT ON llm_interactions FOR EACH ROW EXECUTE FUNCTION noting()"
        )
        connection.execute("CREATE RULE silent AS ON DELETE TO llm_interactions DO ALSO NOTHING")
        connection.execute("CREATE TABLE tenants (name TEXT PRIMARY KEY); INSERT INTO tenants VALUES ('a')")
        connection.execute("ALTER TABLE llm_interactions ADD CONSTRAINT of FOREIGN KEY (tenant) REFERENCES tenants")
        connection.execute(
            "CREATE TABLE query_run_summaries (id BIGSERIAL PRIMARY KEY, query_id TEXT, run_id TIMESTAMPTZ)"
        )
        connection.execute("CREATE VIEW leaning AS SELECT interaction_id, model FROM llm_interactions GROUP BY 1")
        connection.execute("CREATE TABLE any_calls (time TIMESTAMPTZ); ALTER TABLE llm_interactions INHERIT any_calls")

        said = refused(citus.coordinator)

        for named in (
            "unique index once of llm_interactions lacks the column query_id",
            "trigger each of llm_interactions",
            "rule silent of llm_interactions",
            "foreign key of of llm_interactions",
            "llm_interactions inherits from any_calls, which Citus refuses",
            "view leaning leans on the primary key llm_interactions_pkey, which Citus refuses",
        ):
            assert named in said
        assert connection.execute("SELECT to_regclass('rlm_cachetrack_migrations')").fetchone() == (None,)
        connection.execute("DROP VIEW leaning; DROP INDEX once; DROP TRIGGER each ON llm_interactions")
        connection.execute("DROP RULE silent ON llm_interactions; ALTER TABLE llm_interactions DROP CONSTRAINT of")
        connection.execute("ALTER TABLE llm_interactions NO INHERIT any_calls")
        migrated(citus.coordinator)
        assert connection.execute(THEIRS).fetchall() == before
        assert migrations.pending(connection) == []
        tables = "SELECT table_name::text FROM citus_tables WHERE distribution_column = 'query_id' ORDER BY 1"
        assert ("llm_interactions",) in connection.execute(tables).fetchall()
    assert_it_goes_on(citus.coordinator)
