"""An upgrade reports the problems that prevent it before it changes anything; everything else is upgraded.

Each test runs on the embedded PostgreSQL and, where it is installed, on TimescaleDB.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.errors import MigrationError
from rlm_cachetrack.store import migrations
from tests.support import clusters
from tests.support.legacy import (
    CALLS,
    T0,
    assert_not_changed,
    assert_recording_works,
    create_legacy_table,
    dry_run,
    is_migrated,
    legacy_rows,
    refused_upgrade,
    upgrade,
    wait_until,
)

FUNCTION = """
CREATE TABLE noted (n BIGINT);
CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (1); RETURN NULL; END $$;
"""


EVERYWHERE = {
    "foreign key of its query": (
        "CREATE TABLE queries (id TEXT PRIMARY KEY); INSERT INTO queries VALUES ('q');"
        "ALTER TABLE llm_interactions ADD CONSTRAINT of_query FOREIGN KEY (query_id) REFERENCES queries",
        "foreign key 'of_query' of llm_interactions references queries",
    ),
    "computed column": (
        "ALTER TABLE llm_interactions DROP COLUMN total_tokens;"
        "ALTER TABLE llm_interactions ADD COLUMN total_tokens INTEGER"
        " GENERATED ALWAYS AS (prompt_tokens + completion_tokens) STORED",
        "llm_interactions.total_tokens is a generated column",
    ),
    "fingerprint of text": (
        "ALTER TABLE llm_interactions ADD COLUMN fingerprint TEXT",
        "llm_interactions.fingerprint has type text, expected bytea",
    ),
    "rows that are there twice": (
        "ALTER TABLE llm_interactions DROP CONSTRAINT llm_interactions_pkey;"
        "INSERT INTO llm_interactions SELECT * FROM llm_interactions LIMIT 3",
        "llm_interactions has 3 duplicate calls",
    ),
    "a table named budgets": ("CREATE TABLE budgets (team TEXT)", "the name budgets is in use"),
    "a table named price_changes": ("CREATE TABLE price_changes (x INTEGER)", "the name price_changes is in use"),
    "another index of that name": (
        "CREATE INDEX idx_llm_key ON llm_interactions (model)",
        "the name idx_llm_key is in use by an index of llm_interactions",
    ),
    "an index of that name elsewhere": (
        "CREATE TABLE latency_events (time TIMESTAMPTZ); CREATE INDEX idx_llm_time ON latency_events (time)",
        "the name idx_llm_time is in use by an index of latency_events",
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
        "query_run_summaries.status has type state, expected",
    ),
    "an evolution of text": (
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ, cache_evolution TEXT)",
        "cache_evolution has type text, expected json or jsonb: if its values can be converted, run"
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
        "exclusion constraint apart of llm_interactions lacks the partitioning column",
    ),
    "rule": (
        "CREATE RULE silent AS ON DELETE TO llm_interactions DO ALSO NOTHING",
        "TimescaleDB refuses rule silent of llm_interactions",
    ),
    "publication": (
        "CREATE PUBLICATION theirs FOR TABLE llm_interactions",
        "llm_interactions is in publication theirs",
    ),
    "row security": (
        "ALTER TABLE llm_interactions ENABLE ROW LEVEL SECURITY",
        "llm_interactions has row security, which continuous aggregates refuse",
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
def test_a_problem_is_named_before_anything_is_changed(
    address: str, connection: psycopg.Connection[Any], case: str
) -> None:
    statements, named = EVERYWHERE[case]
    create_legacy_table(connection)
    connection.execute(statements)  # type: ignore[arg-type]
    before = legacy_rows(connection)

    assert named in refused_upgrade(address)
    assert_not_changed(connection, before)


@pytest.mark.parametrize("case", TIMESCALE)
def test_features_that_timescale_refuses_are_named_and_stay_on_postgresql(
    engine: str, address: str, connection: psycopg.Connection[Any], case: str
) -> None:
    statements, named = TIMESCALE[case]
    create_legacy_table(connection)
    connection.execute(statements)  # type: ignore[arg-type]
    before = legacy_rows(connection)

    if engine == "timescale":
        assert named in refused_upgrade(address)
        assert_not_changed(connection, before)
    else:
        upgrade(address)
        assert legacy_rows(connection) == before
        assert_recording_works(address)


def test_existing_indexes_with_our_names_and_columns_are_used(
    address: str, connection: psycopg.Connection[Any]
) -> None:
    create_legacy_table(connection)
    connection.execute("CREATE INDEX idx_llm_time ON llm_interactions (time)")  # the existing index is ascending
    connection.execute("CREATE UNIQUE INDEX idx_llm_key ON llm_interactions (query_id, run_id, time, interaction_id)")

    upgrade(address)

    assert_recording_works(address)


def test_tables_of_runs_get_wide_types_and_a_key(
    engine: str, address: str, connection: psycopg.Connection[Any]
) -> None:
    """The tables have a serial key. TimescaleDB refuses it where run_id partitions the table, so it is replaced."""
    create_legacy_table(connection)
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

    upgrade(address)

    assert_recording_works(address)
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


def test_triggers_of_the_savings_do_not_fire_for_the_upgrade(address: str, connection: psycopg.Connection[Any]) -> None:
    create_legacy_table(connection)
    connection.execute(
        "CREATE TABLE token_cache_optimization (query_id TEXT, run_id TIMESTAMPTZ, PRIMARY KEY (query_id, run_id));"
        "INSERT INTO token_cache_optimization VALUES ('q', '2026-03-01 12:00:00+00')"
    )
    connection.execute(FUNCTION)
    connection.execute(
        "CREATE TRIGGER each AFTER INSERT OR UPDATE ON token_cache_optimization FOR EACH ROW EXECUTE FUNCTION noting()"
    )

    upgrade(address)

    assert connection.execute("SELECT count(*)::int FROM noted").fetchone() == (0,)
    with TimescaleDBClient(address) as db:
        db.calculate_and_store_cache_optimization("q", T0)
    assert connection.execute("SELECT count(*)::int FROM noted").fetchone() == (1,)


def test_notes_name_what_may_reject_new_calls(address: str, connection: psycopg.Connection[Any]) -> None:
    create_legacy_table(connection, table=CALLS.replace("VARCHAR(60)", "VARCHAR(6)"))
    connection.execute("CREATE VIEW by_model AS SELECT model, count(*) AS calls FROM llm_interactions GROUP BY 1")
    connection.execute("ALTER TABLE llm_interactions ADD CONSTRAINT never_empty CHECK (prompt_tokens > 0)")

    dry = dry_run(address)

    assert dry.exit_code == 0, dry.output
    assert "-- column model keeps type character varying(6), because view by_model uses it" in dry.stdout
    assert "-- constraint never_empty of llm_interactions stays" in dry.stdout
    assert "CHECK ((prompt_tokens > 0))" in dry.stdout


def test_an_upgrade_is_not_limited_by_statement_timeout(address: str, connection: psycopg.Connection[Any]) -> None:
    """Another session reads the table for longer than the role's ``statement_timeout``."""
    before = create_legacy_table(connection)
    waits = (
        "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND clock_timestamp() - query_start > INTERVAL '1200 ms'"
    )
    outputs: list[str] = []
    upgrading = threading.Thread(
        target=lambda: outputs.append(upgrade(make_conninfo(address, options="-cstatement_timeout=1000")))
    )
    with psycopg.connect(address) as reading:
        reading.execute("SELECT count(*) FROM llm_interactions")
        upgrading.start()
        wait_until(lambda: connection.execute(waits).fetchone() == (1,))
    upgrading.join()

    assert "The schema is up to date." in outputs[0]
    assert legacy_rows(connection) == before
    assert_recording_works(address)


def test_a_note_names_another_owner_of_the_table(address: str, connection: psycopg.Connection[Any]) -> None:
    create_legacy_table(connection)
    name = f"somebody_{uuid.uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {name}")  # type: ignore[arg-type]
    try:
        connection.execute(f"ALTER TABLE llm_interactions OWNER TO {name}")  # type: ignore[arg-type]
        dry = dry_run(address)
        assert f"-- llm_interactions belongs to {name}" in dry.stdout
    finally:
        connection.execute(f"DROP OWNED BY {name}")  # type: ignore[arg-type]
        connection.execute(f"DROP ROLE {name}")  # type: ignore[arg-type]


# -- Citus ------------------------------------------------------------------------------------------------------------


def test_citus_refuses_an_upgrade_and_the_two_steps_it_names_work(citus: clusters.Citus) -> None:
    with psycopg.connect(citus.coordinator, autocommit=True) as connection:
        before = create_legacy_table(connection)
        connection.execute(
            "CREATE TABLE query_run_summaries (id BIGSERIAL PRIMARY KEY, query_id TEXT, run_id TIMESTAMPTZ)"
        )

        message = refused_upgrade(citus.coordinator)

        assert "existing tables not created by rlm_cachetrack: llm_interactions, query_run_summaries" in message
        assert "On Citus they cannot be upgraded. Two steps work: (1) run `rlm-cachetrack migrate` while" in message
        dry = dry_run(citus.coordinator)
        assert dry.exit_code == 1
        assert "On Citus they cannot be upgraded" in dry.stdout
        with pytest.raises(MigrationError, match="On Citus they cannot be upgraded"):
            TimescaleDBClient(citus.coordinator)
        assert not is_migrated(connection)
        assert legacy_rows(connection) == before

        for worker in citus.workers:
            connection.execute("SELECT citus_remove_node(%s, %s)", clusters.node(worker))
        connection.execute("DROP EXTENSION citus")
        upgrade(citus.coordinator)
        connection.execute("CREATE EXTENSION citus")
        connection.execute("SELECT citus_set_coordinator_host(%s, %s)", clusters.node(citus.coordinator))
        for worker in citus.workers:
            connection.execute("SELECT citus_add_node(%s, %s)", clusters.node(worker))
        assert "applied citus/0001_distribute" in upgrade(citus.coordinator)

        assert legacy_rows(connection) == before
        assert migrations.pending(connection) == []
        tables = "SELECT table_name::text FROM citus_tables WHERE distribution_column = 'query_id' ORDER BY 1"
        assert [name for (name,) in connection.execute(tables)] == [
            "llm_interactions",
            "price_change_rows",
            "price_change_runs",
            "query_run_summaries",
            "token_cache_optimization",
        ]
    assert_recording_works(citus.coordinator)
