"""The list of runs: ended runs have the totals stored at their end, others are counted from their calls."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics import CallFilters
from rlm_cachetrack.store import named_sql as _sql
from tests.support import plans

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PRICES = {"prompt_token_price": 0.0021, "cached_token_price": 0.0007, "completion_token_price": 0.0083}
SHARED = (
    "total_interactions",
    "failed_interactions",
    "total_prompt_tokens",
    "total_completion_tokens",
    "total_cached_tokens",
    "cache_hit_rate",
    "total_cost",
)


def record(db: TimescaleDBClient, number: int, **fields: Any) -> None:
    moment = T0 + timedelta(seconds=number)
    given = {"prompt_tokens": 1001 + 7 * number, "completion_tokens": 13, "start_time": moment, **PRICES, **fields}
    db.record_llm_interaction(
        LLMInteractionRecord("q", T0, "m", interaction_id=str(uuid.UUID(int=number + 1)), **given)
    )


def listed(db: TimescaleDBClient) -> dict[str, Any]:
    (run,) = db.list_query_runs()
    return dict(run)


def assert_listed_as_counted(db: TimescaleDBClient, calls: int) -> None:
    run, summary = listed(db), db.get_token_cache_summary("q", T0)
    assert summary is not None
    assert run["total_interactions"] == calls
    assert {name: run[name] for name in SHARED} == {name: summary[name] for name in SHARED}
    assert run["cost_savings"] == pytest.approx(summary["cost_savings"], rel=1e-12)


@pytest.fixture(params=["plain", "timescale"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("db_url" if request.param == "plain" else "timescale_url"))


def test_a_run_is_always_listed_with_the_totals_of_its_calls(address: str) -> None:
    with TimescaleDBClient(address) as db:
        for number, cached in enumerate((0, 384, None, 896)):
            record(db, number, cached_tokens=cached)
        record(db, 4, prompt_tokens=None, cached_tokens=None, completion_tokens=None, success=False)
        assert_listed_as_counted(db, calls=5)
        db.complete_query_run("q", T0)
        assert_listed_as_counted(db, calls=5)
        record(db, 5, cached_tokens=512)
        assert_listed_as_counted(db, calls=6)


def test_stored_totals_that_do_not_match_the_calls_are_not_used(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db, psycopg.connect(db_url, autocommit=True) as connection:
        record(db, 0, cached_tokens=100)
        db.complete_query_run("q", T0)
        db.flush()
        connection.execute("UPDATE query_run_summaries SET total_interactions = 7, reported_prompt_tokens = NULL")
        assert_listed_as_counted(db, calls=1)


def test_listing_an_ended_run_reads_none_of_its_calls(address: str) -> None:
    with TimescaleDBClient(address) as db, psycopg.connect(address, autocommit=True) as connection:
        record(db, 0, cached_tokens=100)
        db.flush()
        before_the_end = db.list_query_runs()
        assert [run["total_interactions"] for run in before_the_end] == [1]
        db.complete_query_run("q", T0)
        db.flush()
        asked: list[str] = []
        store = db.runtime.store()
        query = store.query
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "query", lambda name, **values: (asked.append(name), query(name, **values))[1])
            assert [run["total_interactions"] for run in db.list_query_runs()] == [1]
        names = (
            "search",
            "state",
            "outcome",
            "after_time",
            "after_query_id",
            "after_run_id",
            *CallFilters.__annotations__,
        )
        values = {**dict.fromkeys(names), "limit": 10}
        read, _ = plans.explain(connection, _sql.query("runs_newest_page"), values, plans.raw_relations(connection))
    assert asked == ["runs_newest_page"]
    assert read == []
