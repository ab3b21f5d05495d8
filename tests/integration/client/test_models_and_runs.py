"""Cache effectiveness by model, the list of runs, and the end and status of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from tests.support.client_calls import T0, at, call, record_the_mixed_run


def test_models_are_weighted_by_tokens_not_by_calls(db: TimescaleDBClient) -> None:
    # The mean of the calls' rates would be (0.9 + 0 + 0) / 3 = 0.3; weighted by tokens it is 900 / 10000.
    db.record_llm_interaction(call(0, prompt_tokens=1000, cached_tokens=900, completion_tokens=10, duration_ms=10))
    db.record_llm_interaction(call(1, prompt_tokens=9000, cached_tokens=0, completion_tokens=20, duration_ms=30))
    db.record_llm_interaction(call(2, prompt_tokens=500, cached_tokens=None, completion_tokens=0))
    db.record_llm_interaction(call(3, model="model-b", run_id=at(60), prompt_tokens=10, cached_tokens=5, priced=False))
    first, second = db.get_cache_effectiveness_by_model()
    assert first["model"] == "model-a"
    assert first["total_interactions"] == 3
    assert first["interactions_with_cache"] == 1
    assert first["interactions_without_cache"] == 1
    assert first["interactions_not_reported"] == 1
    assert first["failed_interactions"] == 0
    assert first["unpriced_interactions"] == 0
    assert first["total_prompt_tokens"] == 10_500
    assert first["total_completion_tokens"] == 30
    assert first["total_cached_tokens"] == 900
    assert first["total_uncached_tokens"] == 100 + 9000
    assert first["avg_cache_hit_rate"] == pytest.approx(0.09)
    # 100 x .002 + 900 x .0005 + 10 x .008 = .73; 9000 x .002 + 20 x .008 = 18.16; 500 x .002 = 1 (thousandths)
    assert first["total_cost"] == pytest.approx(0.00073 + 0.01816 + 0.001)
    assert first["avg_cost_per_interaction"] == pytest.approx(0.01989 / 3)
    assert first["cost_savings"] == pytest.approx(900 * 0.0015 / 1000)
    assert first["original_cost"] == pytest.approx(0.01989 + 0.00135)
    assert first["avg_duration_ms"] == pytest.approx(20.0)
    assert first["avg_time_to_first_token_ms"] is None
    assert second["model"] == "model-b"
    assert second["avg_cache_hit_rate"] == pytest.approx(0.5)
    assert second["total_cost"] is None
    assert second["unpriced_interactions"] == 1


def test_by_model_since_is_inclusive_and_until_exclusive(db: TimescaleDBClient) -> None:
    for seconds, prompt in ((0, 1), (3600, 10), (7200, 100), (10 * 86400, 1000)):
        db.record_llm_interaction(call(seconds, prompt_tokens=prompt))

    def tokens(**bounds: datetime) -> int:
        rows = db.get_cache_effectiveness_by_model(**bounds)
        return rows[0]["total_prompt_tokens"] if rows else 0

    assert tokens() == 1111
    assert tokens(since=at(3600)) == 1110
    assert tokens(until=at(3600)) == 1
    assert tokens(since=at(3600), until=at(7200)) == 10
    assert tokens(since=at(3599.5), until=at(7200.5)) == 110
    assert db.get_cache_effectiveness_by_model(since=at(20 * 86400)) == []


def test_by_model_counts_each_call_around_the_hour_in_progress_once(db: TimescaleDBClient) -> None:
    """Parts of hours are summed from calls, whole hours are read from their sums, also those in the future."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = {-2.0: 1, -0.5: 10, 0.0: 100, 0.4: 1000, 1.0: 10_000, 2.5: 100_000}  # since the start of the hour: tokens
    for since, prompt in hours.items():
        moment = hour + timedelta(hours=since)
        db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=moment, prompt_tokens=prompt))

    def tokens(**bounds: datetime) -> tuple[int, int]:
        rows = db.get_cache_effectiveness_by_model(**bounds)
        buckets = db.get_usage(["hour"], **bounds)
        return rows[0]["total_prompt_tokens"] if rows else 0, sum(bucket["total_prompt_tokens"] for bucket in buckets)

    for since in (None, -3.0, -2.0, -1.7, -0.5, -0.2, 0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 3.0):
        for until in (None, -1.0, -0.4, 0.0, 0.3, 1.0, 1.2, 3.0):
            bounds = {} if since is None else {"since": hour + timedelta(hours=since)}
            bounds |= {} if until is None else {"until": hour + timedelta(hours=until)}
            within = [
                prompt
                for moment, prompt in hours.items()
                if (since is None or moment >= since) and (until is None or moment < until)
            ]
            assert tokens(**bounds) == (sum(within), sum(within)), (since, until)


# -- runs ----


def test_runs_are_listed_newest_first_with_or_without_start_and_end(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, query_id="known by a call", prompt_tokens=100, cached_tokens=25))
    db.initialize_query_run("started", at(10), {"note": 1})
    db.initialize_query_run("done", at(20))
    db.complete_query_run("done", at(20), "error")
    runs = db.list_query_runs()
    assert [run["query_id"] for run in runs] == ["done", "started", "known by a call"]
    done, started, known = runs
    assert set(known) >= {"query_id", "run_id", "start_time", "end_time", "status", "total_interactions"}
    assert (known["start_time"], known["end_time"], known["status"]) == (T0, None, "running")
    assert known["total_interactions"] == 1
    assert known["total_prompt_tokens"] == 100
    assert known["cache_hit_rate"] == 0.25
    assert known["total_cost"] == pytest.approx((75 * 0.002 + 25 * 0.0005) / 1000)
    assert (started["status"], started["total_interactions"], started["metadata"]) == ("running", 0, {"note": 1})
    assert (started["start_time"], started["end_time"], started["total_cost"]) == (at(10), None, None)
    assert (done["start_time"], done["status"]) == (at(20), "error")
    assert done["end_time"] is not None
    assert done["end_time"] > done["start_time"]
    assert [run["query_id"] for run in db.list_query_runs(limit=2)] == ["done", "started"]


def test_a_run_summary_has_times_totals_and_percentiles(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    run = db.get_query_run_summary("q", T0)
    assert run is not None
    assert (run["query_id"], run["run_id"], run["status"]) == ("q", T0, "completed")
    assert run["metadata"] == {"suite": "mixed"}
    assert run["start_time"] <= run["end_time"]
    assert run["duration_ms"] == pytest.approx((run["end_time"] - run["start_time"]).total_seconds() * 1000)
    assert run["total_interactions"] == 5
    assert run["failed_interactions"] == 1
    assert run["total_prompt_tokens"] == 6500
    assert run["total_completion_tokens"] == 660
    assert run["total_tokens"] == 7160
    assert run["total_cached_tokens"] == 2100
    assert run["cache_hit_rate"] == pytest.approx(2100 / 5500)
    assert run["total_cost"] == pytest.approx(0.0147)
    assert run["cost_savings"] == pytest.approx(0.0025)
    # Durations 100, 200, 300 ms; interpolated between neighbours: 200 + 0.9 x 100 and 200 + 0.98 x 100.
    assert run["avg_duration_ms"] == pytest.approx(200)
    assert run["p50_duration_ms"] == pytest.approx(200)
    assert run["p95_duration_ms"] == pytest.approx(290)
    assert run["p99_duration_ms"] == pytest.approx(298)


def test_the_totals_of_a_completed_run_are_stored_with_the_run(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    assert db.flush()
    with psycopg.connect(db_url) as connection:
        row = connection.execute(
            "SELECT status, total_interactions, failed_interactions, total_prompt_tokens, total_completion_tokens,"
            " total_tokens, total_cached_tokens, total_cost, p50_duration_ms FROM query_run_summaries"
        ).fetchone()
    assert row == ("completed", 5, 1, 6500, 660, 7160, 2100, pytest.approx(0.0147), pytest.approx(200))


def test_initializing_a_run_again_keeps_its_start_and_metadata(db: TimescaleDBClient) -> None:
    db.initialize_query_run("q", T0)
    first = db.get_query_run_summary("q", T0)
    db.initialize_query_run("q", T0, metadata={"late": True})
    db.initialize_query_run("q", T0, metadata={"too": "late"})
    again = db.get_query_run_summary("q", T0)
    assert first is not None
    assert again == {**first, "metadata": {"late": True}}
    db.complete_query_run("q", T0)
    db.initialize_query_run("q", T0)
    run = db.get_query_run_summary("q", T0)
    assert run is not None
    assert run["status"] == "completed"
    assert len(db.list_query_runs()) == 1


def test_completing_a_run_again_keeps_one_run_with_the_last_status(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    first = db.get_token_cache_optimization("q", T0)
    db.complete_query_run("q", T0)
    assert db.get_token_cache_optimization("q", T0) == first
    assert [run["status"] for run in db.list_query_runs()] == ["completed"]
    db.complete_query_run("q", T0, status="error")
    assert [run["status"] for run in db.list_query_runs()] == ["error"]
    assert db.get_token_cache_optimization("q", T0) == first


def test_completing_a_run_that_never_began_lists_it(db: TimescaleDBClient) -> None:
    db.complete_query_run("q", T0)
    (run,) = db.list_query_runs()
    assert (run["query_id"], run["status"], run["total_interactions"]) == ("q", "completed", 0)
