"""The report on a run has the values of the client's methods and needs at most three queries and one flush."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.analytics import run_report
from rlm_cachetrack.cli import app
from rlm_cachetrack.pipeline import Runtime
from rlm_cachetrack.store import PostgresStore
from tests.support.web import record

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)


@pytest.fixture
def stored(reused_db_url: str) -> str:
    """Store a finished run with reported and not reported cache use, a run in progress, and a run without calls."""
    with TimescaleDBClient(reused_db_url) as db:
        for number, cached in enumerate((0, 500, None, 700)):
            db.record_llm_interaction(record("q", T0, number, prompt_tokens=1000, cached_tokens=cached))
        db.record_llm_interaction(record("q", T0, 4, prompt_tokens=900, cached_tokens=0, iteration=None))
        db.record_llm_interaction(record("q", T0, 5, success=False, completion_tokens=None))
        db.complete_query_run("q", T0)
        db.record_llm_interaction(record("q", LATER, prompt_tokens=1000, cached_tokens=0))
        db.initialize_query_run("empty", T0)
    return reused_db_url


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the list of the names of all queries that run, with an entry for each flush."""
    observed: dict[str, list[str]] = {"queries": [], "flushes": []}
    query, flush = PostgresStore.query, Runtime.flush

    def counting_query(store: PostgresStore, name: str, **parameters: Any) -> list[dict[str, Any]]:
        observed["queries"].append(name)
        return query(store, name, **parameters)

    def counting_flush(runtime: Runtime, *timeout_s: float) -> bool:
        observed["flushes"].append("flush")
        return flush(runtime, *timeout_s)

    monkeypatch.setattr(PostgresStore, "query", counting_query)
    monkeypatch.setattr(Runtime, "flush", counting_flush)
    return observed


def read_only(url: str) -> str:
    """Return the URL of the database for a read-only session."""
    return make_conninfo(url, options="-c default_transaction_read_only=on")


def tables(url: str) -> list[Any]:
    """Return all rows of the tables that a report might write."""
    names = ("llm_interactions", "query_run_summaries", "token_cache_optimization")
    with psycopg.connect(url) as connection:
        return [connection.execute(f"SELECT t::text FROM {name} AS t ORDER BY 1").fetchall() for name in names]


@pytest.mark.parametrize("run", ["latest", T0.isoformat(), "2026-03-01T12"])
def test_show_needs_three_queries_one_flush_and_no_write(stored: str, counted: dict[str, list[str]], run: str) -> None:
    before = tables(stored)
    result = CliRunner().invoke(app, ["show", "q", "--run", run, "--json", "--db-url", read_only(stored)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["optimization"] is not None
    assert counted == {"queries": ["run_records", "run_totals", "run_iterations"], "flushes": ["flush"]}
    assert tables(stored) == before


@pytest.mark.parametrize(
    "arguments", [["report", "q"], ["explain", "q"], ["compare", "q@2026-03-01T12", "q"], ["runs"], ["top"], ["models"]]
)
def test_a_command_that_reads_flushes_once_and_writes_nothing(
    stored: str, counted: dict[str, list[str]], arguments: list[str]
) -> None:
    result = CliRunner().invoke(app, [*arguments, "--db-url", read_only(stored)])
    assert result.exit_code == 0, result.output
    assert counted["flushes"] == ["flush"]


def test_a_report_has_the_figures_of_the_client_methods(stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        for query_id, run_id in (("q", T0), ("q", LATER), ("empty", T0)):
            report = run_report(db.reader(), query_id, run_id)
            assert report is not None
            assert report["run"] == db.get_query_run_summary(query_id, run_id)
            assert report["summary"] == db.get_token_cache_summary(query_id, run_id)
            assert report["optimization"] == db.calculate_and_store_cache_optimization(query_id, run_id)
        assert run_report(db.reader(), "q", T0 + timedelta(days=1)) is None


def test_a_stored_optimization_is_not_computed_by_reading(stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        assert db.get_token_cache_optimization("q", T0) is not None
        assert db.get_token_cache_optimization("q", LATER) is None
        assert run_report(db.reader(), "q", LATER) is not None
        assert db.get_token_cache_optimization("q", LATER) is None
