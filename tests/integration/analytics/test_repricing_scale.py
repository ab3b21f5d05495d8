"""Re-pricing of many runs, during background jobs, and of runs whose calls retention dropped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.errors import QueryError
from rlm_cachetrack.store import migrations
from tests.support.timescale import to_columnstore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRICES = "version: 1\nper: 1M\nmodels:\n  mine: {prompt: 2, cached: 0.2, completion: 8}\n"
CALLS = """
INSERT INTO llm_interactions (
    time, query_id, run_id, model, prompt_tokens, completion_tokens, cached_tokens, prompt_token_price,
    completion_token_price, total_cost, original_cost, price_source, provider
)
SELECT
    run_id + mod(n, %(calls)s) * INTERVAL '1 second', 'q', run_id, 'mine', 1000, 0, 0, 0.001, 0.004, 0.001, 0.001,
    'yaml:00000000', 'openai'
FROM (
    SELECT n, %(begin)s::timestamptz + (n / %(calls)s) * %(step)s::interval AS run_id
    FROM generate_series(0, %(runs)s * %(calls)s - 1) AS n
) AS numbered
"""
RUNS = """
INSERT INTO query_run_summaries (
    query_id, run_id, start_time, end_time, status, total_interactions, total_cost, first_call_time, last_call_time
)
SELECT query_id, run_id, run_id, max(time), 'completed', count(*), sum(total_cost), min(time), max(time)
FROM llm_interactions GROUP BY query_id, run_id
"""
# 1,000 prompt tokens at 2 USD per million.
NEW_COST = 0.002


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.yaml"
    path.write_text(PRICES)
    return path


def fill(connection: psycopg.Connection[Any], *, runs: int, calls: int, step: timedelta) -> None:
    migrations.migrate(connection)
    connection.execute(CALLS, {"begin": T0, "runs": runs, "calls": calls, "step": step})
    connection.execute(RUNS)


def costs(connection: psycopg.Connection[Any]) -> tuple[float, float]:
    """Return the cost of all calls, and the cost that all runs have stored."""
    row = connection.execute(
        "SELECT (SELECT sum(total_cost) FROM llm_interactions), (SELECT sum(total_cost) FROM query_run_summaries)"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.fixture
def plain(empty_db_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        yield connection


def test_the_planner_knows_the_number_of_runs_before_they_are_summed(
    plain: psycopg.Connection[Any], empty_db_url: str, new: Path
) -> None:
    """Without statistics it expected one run, and joined each run with each: 81 s for 7,588 runs."""
    fill(plain, runs=200, calls=2, step=timedelta(hours=1))
    plain.execute("ALTER TABLE price_change_runs SET (autovacuum_enabled = off)")
    with TimescaleDBClient(empty_db_url) as db:
        db.reprice(new)
    assert plain.execute("SELECT reltuples FROM pg_class WHERE relname = 'price_change_runs'").fetchone() == (200,)
    assert costs(plain) == (pytest.approx(400 * NEW_COST), pytest.approx(400 * NEW_COST))


def test_all_runs_of_years_are_summed_and_undone(plain: psycopg.Connection[Any], empty_db_url: str, new: Path) -> None:
    """Runs are summed in steps of at most 30 days; the time range of one is not known."""
    fill(plain, runs=100, calls=3, step=timedelta(days=11))
    plain.execute("UPDATE query_run_summaries SET first_call_time = NULL WHERE run_id = %s", [T0 + timedelta(days=22)])
    with TimescaleDBClient(empty_db_url) as db:
        change = db.reprice(new)["change"]
        assert change is not None
        assert (change["status"], change["changed_interactions"]) == ("done", 300)
        assert costs(plain) == (pytest.approx(300 * NEW_COST), pytest.approx(300 * NEW_COST))
        db.undo_repricing()
        assert costs(plain) == (pytest.approx(0.3), pytest.approx(0.3))


def fail_sometimes(connection: psycopg.Connection[Any], sqlstate: str, times: int) -> None:
    """Let the first updates of calls fail as the server reports a deadlock or a serialization failure."""
    connection.execute("CREATE SEQUENCE attempts")
    connection.execute(
        f"""
        CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('attempts') <= {times} THEN
                RAISE EXCEPTION 'conflict' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NULL;
        END
        $$
        """  # type: ignore[arg-type]
    )
    connection.execute(
        "CREATE TRIGGER conflict AFTER UPDATE ON llm_interactions FOR EACH STATEMENT EXECUTE FUNCTION conflict()"
    )


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_a_step_that_loses_a_conflict_is_repeated(
    plain: psycopg.Connection[Any], empty_db_url: str, new: Path, sqlstate: str
) -> None:
    fill(plain, runs=4, calls=5, step=timedelta(hours=1))
    fail_sometimes(plain, sqlstate, times=2)
    with TimescaleDBClient(empty_db_url) as db:
        change = db.reprice(new)["change"]
        assert change is not None
        assert (change["status"], change["changed_interactions"], change["batches"]) == ("done", 20, 1)
        plain.execute("ALTER SEQUENCE attempts RESTART")
        assert db.undo_repricing()["status"] == "undone"
    assert costs(plain) == (pytest.approx(0.02), pytest.approx(0.02))
    assert plain.execute("SELECT count(*) FROM price_change_rows").fetchone() == (0,)


def test_another_error_of_a_step_is_raised_at_once(
    plain: psycopg.Connection[Any], empty_db_url: str, new: Path
) -> None:
    fill(plain, runs=1, calls=2, step=timedelta(hours=1))
    fail_sometimes(plain, "55000", times=1)
    with TimescaleDBClient(empty_db_url) as db, pytest.raises(QueryError, match="55000"):
        db.reprice(new)


def test_costs_of_runs_with_dropped_calls_are_kept(
    plain: psycopg.Connection[Any], empty_db_url: str, new: Path
) -> None:
    """The remaining calls get the new prices; the run keeps the sum over all of its calls."""
    fill(plain, runs=2, calls=10, step=timedelta(hours=1))
    with TimescaleDBClient(empty_db_url) as db:
        for number in range(2):
            db.calculate_and_store_cache_optimization("q", T0 + timedelta(hours=number))
        plain.execute("DELETE FROM llm_interactions WHERE time < %s", [T0 + timedelta(seconds=4)])
        db.reprice(new)
        runs = db.list_query_runs()
        savings = db.get_token_cache_optimization("q", T0)
    assert [run["total_cost"] for run in runs] == [pytest.approx(10 * NEW_COST), pytest.approx(0.01)]
    assert savings is not None
    assert savings["cached_cost"] == pytest.approx(0.01)


# -- TimescaleDB ------------------------------------------------------------------------------------------------------


def chunk_bytes(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT hypertable_size('llm_interactions')").fetchone()
    assert row is not None
    return int(row[0])


def test_re_priced_days_return_to_the_columnstore(timescale_url: str, new: Path) -> None:
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        fill(connection, runs=300, calls=50, step=timedelta(minutes=10))
        to_columnstore(connection)
        before = chunk_bytes(connection)
        with TimescaleDBClient(timescale_url) as db:
            for act in (lambda: db.reprice(new), db.undo_repricing):
                act()
                assert chunk_bytes(connection) < 1.3 * before
                outside = connection.execute(
                    "SELECT count(*) FROM show_chunks('llm_interactions') AS c WHERE pg_relation_size(c) > 0"
                ).fetchone()
                assert outside == (0,)
        assert costs(connection) == (pytest.approx(15), pytest.approx(15))
