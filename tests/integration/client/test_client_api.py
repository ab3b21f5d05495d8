"""``TimescaleDBClient``, key by key and number by number; every expected value is computed by hand beside its input."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from openai import OpenAI

import rlm_cachetrack
from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.analytics import summaries as analytics
from rlm_cachetrack.simulator import SimulatedEndpoint

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PRICES: dict[str, float] = {
    "prompt_token_price": 0.002,
    "cached_token_price": 0.0005,
    "cache_write_token_price": 0.0025,
    "completion_token_price": 0.008,
}
"""USD per 1,000 tokens, given by hand, so that no table can change what is expected."""

SUMMARY_KEYS = {
    "total_prompt_tokens",
    "total_completion_tokens",
    "total_tokens",
    "total_cached_tokens",
    "total_uncached_tokens",
    "cache_hit_rate",
    "total_cost",
    "avg_cost_per_interaction",
    "total_interactions",
    "interactions_with_cache",
    "interactions_without_cache",
    "cache_savings_tokens",
    "cache_savings_percentage",
}
OPTIMIZATION_KEYS = {
    "query_id",
    "run_id",
    "total_prompt_tokens",
    "total_cached_tokens",
    "cache_savings_tokens",
    "cache_savings_percentage",
    "original_cost",
    "cached_cost",
    "cost_savings",
    "cost_savings_percentage",
    "total_interactions",
    "interactions_with_cache",
    "interactions_without_cache",
    "cache_evolution",
}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def call(seconds: float, **fields: Any) -> LLMInteractionRecord:
    """A call of query "q", run T0, so many seconds after T0; priced by hand unless ``priced=False``."""
    priced = fields.pop("priced", True)
    given: dict[str, Any] = {"query_id": "q", "run_id": T0, "model": "model-a", "start_time": at(seconds)}
    return LLMInteractionRecord(**{**given, **(PRICES if priced else {}), **fields})


def record_the_mixed_run(db: TimescaleDBClient) -> None:
    """Five calls: one that writes the cache, one that reads it, one silent about it, one unpriced, one failed."""
    db.initialize_query_run("q", T0, {"suite": "mixed"})
    for record in (
        # total 1000 x .002 + 1000 x .0025 + 500 x .008 = 8.5 thousandths of a dollar; original 2000 x .002 + 4 = 8.0
        call(0, iteration=1, prompt_tokens=2000, cache_write_tokens=1000, completion_tokens=500, duration_ms=100),
        # total 1000 x .002 + 2000 x .0005 + 100 x .008 = 3.8; original 3000 x .002 + .8 = 6.8
        call(1, iteration=2, prompt_tokens=3000, cached_tokens=2000, completion_tokens=100, duration_ms=300),
        # cache use not reported, so all uncached: 1000 x .002 + 50 x .008 = 2.4; original 2.4
        call(2, iteration=2, prompt_tokens=1000, cached_tokens=None, completion_tokens=50, duration_ms=200),
        # a model that no list knows: no price, no cost
        call(
            3,
            iteration=3,
            model="nobody/none",
            priced=False,
            prompt_tokens=500,
            cached_tokens=100,
            completion_tokens=10,
        ),
        # failed before any token
        call(4, iteration=3, priced=False, cached_tokens=None, success=False, error_type="APIConnectionError"),
    ):
        db.record_llm_interaction(record)


@pytest.fixture
def db_url(reused_db_url: str) -> str:
    return reused_db_url


@pytest.fixture
def db(db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(db_url) as client:
        yield client


# -- get_token_cache_summary ------------------------------------------------------------------------------------------


def test_summary_of_a_mixed_run(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    summary = db.get_token_cache_summary("q", T0)
    assert summary is not None
    assert set(summary) >= SUMMARY_KEYS
    assert summary["query_id"] == "q"
    assert summary["run_id"] == T0
    assert summary["total_prompt_tokens"] == 2000 + 3000 + 1000 + 500
    assert summary["total_completion_tokens"] == 500 + 100 + 50 + 10
    assert summary["total_tokens"] == 6500 + 660
    assert summary["total_cached_tokens"] == 2000 + 100
    assert summary["total_uncached_tokens"] == 2000 + 1000 + 400  # of the calls that reported
    assert summary["total_cache_write_tokens"] == 1000
    assert summary["cache_hit_rate"] == pytest.approx(2100 / 5500)  # 2000 + 3000 + 500 reported
    assert summary["cache_savings_tokens"] == 2100
    assert summary["cache_savings_percentage"] == pytest.approx(100 * 2100 / 5500)
    assert summary["total_cost"] == pytest.approx(0.0085 + 0.0038 + 0.0024)
    assert summary["original_cost"] == pytest.approx(0.0080 + 0.0068 + 0.0024)
    assert summary["cost_savings"] == pytest.approx(0.0172 - 0.0147)
    assert summary["avg_cost_per_interaction"] == pytest.approx(0.0147 / 3)  # three are priced
    assert summary["total_interactions"] == 5
    assert summary["interactions_with_cache"] == 2
    assert summary["interactions_without_cache"] == 1
    assert summary["interactions_not_reported"] == 2  # the failed one among them
    assert summary["failed_interactions"] == 1
    assert summary["unpriced_interactions"] == 1  # a call that failed without tokens has nothing to price
    assert summary["avg_duration_ms"] == pytest.approx((100 + 300 + 200) / 3)
    assert summary["avg_time_to_first_token_ms"] is None
    assert summary["first_call_time"] == at(0)
    assert summary["last_call_time"] == at(4)
    assert summary["models"] == ["model-a", "nobody/none"]


def test_numbers_come_as_int_and_float(db: TimescaleDBClient) -> None:
    """No Decimal: a sum must go into JSON and into float arithmetic."""
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    summary, optimization = db.get_token_cache_summary("q", T0), db.get_token_cache_optimization("q", T0)
    assert summary is not None
    assert optimization is not None
    (model, *_), (run,) = db.get_cache_effectiveness_by_model(), db.list_query_runs()
    whole = db.get_query_run_summary("q", T0)
    assert whole is not None
    for row in (summary, optimization, model, run, whole, *optimization["cache_evolution"]):
        for key, value in dict(row).items():
            if key.endswith(("_tokens", "_interactions")) or key.startswith("interactions_"):
                assert type(value) is int, key
            elif key.endswith(("_cost", "_rate", "_percentage", "_ms", "_savings")):
                assert value is None or type(value) is float, key


@pytest.mark.parametrize(
    ("reported", "rate", "with_cache", "without_cache", "not_reported", "uncached"),
    [(400, 0.4, 1, 0, 0, 600), (0, 0.0, 0, 1, 0, 1000), (None, None, 0, 0, 1, 0)],
    ids=["some", "none", "not-reported"],
)
def test_zero_is_none_cached_and_null_is_not_reported(
    db: TimescaleDBClient,
    reported: int | None,
    rate: float | None,
    with_cache: int,
    without_cache: int,
    not_reported: int,
    uncached: int,
) -> None:
    db.record_llm_interaction(call(0, prompt_tokens=1000, cached_tokens=reported, completion_tokens=0))
    summary = db.get_token_cache_summary("q", T0)
    assert summary is not None
    assert summary["cache_hit_rate"] == rate
    assert summary["cache_savings_percentage"] == (None if rate is None else pytest.approx(100 * rate))
    assert summary["interactions_with_cache"] == with_cache
    assert summary["interactions_without_cache"] == without_cache
    assert summary["interactions_not_reported"] == not_reported
    assert summary["total_cached_tokens"] == (reported or 0)
    assert summary["total_uncached_tokens"] == uncached
    # 400 x .0005 + 600 x .002 = 1.4 thousandths of a dollar; otherwise 1000 x .002 = 2.0
    assert summary["total_cost"] == pytest.approx(0.0014 if reported else 0.002)
    (row,) = db.get_llm_interactions("q", T0)
    assert row["cached_tokens"] == reported
    assert row["uncached_prompt_tokens"] == (None if reported is None else uncached)


def test_uncached_tokens_are_counted_only_where_the_cache_use_was_reported(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, prompt_tokens=100, cached_tokens=None, uncached_prompt_tokens=100))
    db.record_llm_interaction(call(1, prompt_tokens=50, cached_tokens=20))
    summary, (model,) = db.get_token_cache_summary("q", T0), db.get_cache_effectiveness_by_model()
    assert summary is not None
    assert summary["total_uncached_tokens"] == model["total_uncached_tokens"] == 30
    assert summary["total_uncached_tokens"] + summary["total_cached_tokens"] == 50  # the prompt tokens that reported


def test_a_run_of_unpriced_calls_has_no_cost_instead_of_zero(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, model="nobody/none", priced=False, prompt_tokens=10, completion_tokens=1))
    summary = db.get_token_cache_summary("q", T0)
    stored = db.calculate_and_store_cache_optimization("q", T0)
    (model,) = db.get_cache_effectiveness_by_model()
    assert summary is not None
    assert stored is not None
    assert summary["total_cost"] is summary["original_cost"] is summary["avg_cost_per_interaction"] is None
    assert summary["unpriced_interactions"] == 1
    assert stored["original_cost"] is stored["cached_cost"] is stored["cost_savings"] is None
    assert stored["cost_savings_percentage"] is None
    assert stored["unpriced_interactions"] == 1
    assert model["total_cost"] is None
    assert db.get_top_cache_savings() == []
    assert db.list_query_runs()[0]["total_cost"] is None


def test_a_run_without_calls_has_zero_tokens_and_no_rate(db: TimescaleDBClient) -> None:
    db.initialize_query_run("empty", T0)
    db.complete_query_run("empty", T0)
    summary = db.get_token_cache_summary("empty", T0)
    stored = db.get_token_cache_optimization("empty", T0)
    assert summary is not None
    assert stored is not None
    assert summary["total_interactions"] == summary["total_tokens"] == summary["cache_savings_tokens"] == 0
    assert summary["cache_hit_rate"] is summary["total_cost"] is summary["cache_savings_percentage"] is None
    assert summary["models"] == []
    assert stored["cache_evolution"] == []
    assert stored["total_interactions"] == 0
    assert stored["cost_savings"] is None


def test_unknown_runs_are_none_and_their_calls_none(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    other = T0 + timedelta(microseconds=1)
    for query_id, run_id in (("q", other), ("Q", T0)):
        assert db.get_token_cache_summary(query_id, run_id) is None
        assert db.get_token_cache_optimization(query_id, run_id) is None
        assert db.calculate_and_store_cache_optimization(query_id, run_id) is None
        assert db.get_query_run_summary(query_id, run_id) is None
        assert db.get_llm_interactions(query_id, run_id) == []
    assert [run["query_id"] for run in db.list_query_runs()] == ["q"]  # asking made no run


def test_a_run_is_named_by_its_moment_whatever_the_zone_or_the_form(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, run_id="2026-03-01T14:00:00+02:00", prompt_tokens=7))
    for name in (T0, T0.astimezone(timezone(timedelta(hours=-8))), "2026-03-01T12:00:00Z", T0.isoformat()):
        summary = db.get_token_cache_summary("q", name)
        assert summary is not None
        assert summary["run_id"] == T0
        assert summary["run_id"].utcoffset() == timedelta(0)
        assert summary["total_prompt_tokens"] == 7


# -- the optimization -------------------------------------------------------------------------------------------------


def test_optimization_of_a_mixed_run(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    assert db.get_token_cache_optimization("q", T0) is None  # none is stored before the run is complete
    db.complete_query_run("q", T0)
    stored = db.get_token_cache_optimization("q", T0)
    assert stored is not None
    assert set(stored) >= OPTIMIZATION_KEYS
    assert stored["query_id"] == "q"
    assert stored["run_id"] == T0
    assert stored["total_prompt_tokens"] == 6500
    assert stored["total_cached_tokens"] == stored["cache_savings_tokens"] == 2100
    assert stored["cache_savings_percentage"] == pytest.approx(100 * 2100 / 5500)
    assert stored["original_cost"] == pytest.approx(0.0172)
    assert stored["cached_cost"] == pytest.approx(0.0147)
    assert stored["cost_savings"] == pytest.approx(0.0025)
    assert stored["cost_savings_percentage"] == pytest.approx(100 * 25 / 172)
    assert stored["total_interactions"] == 5
    assert stored["interactions_with_cache"] == 2
    assert stored["interactions_without_cache"] == 1
    assert stored["interactions_not_reported"] == 2
    assert stored["unpriced_interactions"] == 1
    assert stored["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 2000, "cached_tokens": 0, "cache_hit_rate": 0.0},
        # 2000 of the 3000 that were reported; the silent call's 1000 are prompt tokens all the same
        {"iteration": 2, "prompt_tokens": 4000, "cached_tokens": 2000, "cache_hit_rate": pytest.approx(2 / 3)},
        {"iteration": 3, "prompt_tokens": 500, "cached_tokens": 100, "cache_hit_rate": 0.2},
    ]
    assert list(stored["cache_evolution"][0]) == ["iteration", "prompt_tokens", "cached_tokens", "cache_hit_rate"]


def test_writing_the_cache_for_nothing_is_a_negative_saving(db: TimescaleDBClient) -> None:
    # total 1000 x .0025 = 2.5 thousandths, original 1000 x .002 = 2.0
    db.record_llm_interaction(call(0, prompt_tokens=1000, cache_write_tokens=1000, completion_tokens=0))
    stored = db.calculate_and_store_cache_optimization("q", T0)
    assert stored is not None
    assert stored["cost_savings"] == pytest.approx(-0.0005)
    assert stored["cost_savings_percentage"] == pytest.approx(-25.0)


def test_calls_without_an_iteration_are_numbered_in_order_of_time(db: TimescaleDBClient) -> None:
    for seconds, prompt, cached in ((20, 300, 200), (0, 100, 0), (10, 200, 100)):
        db.record_llm_interaction(call(seconds, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=0))
    stored = db.calculate_and_store_cache_optimization("q", T0)
    assert stored is not None
    assert stored["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 100, "cached_tokens": 0, "cache_hit_rate": 0.0},
        {"iteration": 2, "prompt_tokens": 200, "cached_tokens": 100, "cache_hit_rate": 0.5},
        {"iteration": 3, "prompt_tokens": 300, "cached_tokens": 200, "cache_hit_rate": pytest.approx(2 / 3)},
    ]


def test_an_iteration_of_which_nothing_was_reported_is_null_not_zero(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, iteration=1, prompt_tokens=100, cached_tokens=None, completion_tokens=0))
    db.record_llm_interaction(call(1, iteration=2, cached_tokens=None, success=False, priced=False))
    stored = db.calculate_and_store_cache_optimization("q", T0)
    assert stored is not None
    assert stored["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 100, "cached_tokens": None, "cache_hit_rate": None},
        {"iteration": 2, "prompt_tokens": 0, "cached_tokens": None, "cache_hit_rate": None},
    ]
    assert stored["cache_savings_percentage"] is None


def test_calls_with_and_without_an_iteration_do_not_share_a_number(db: TimescaleDBClient) -> None:
    for seconds, iteration in ((0, None), (1, 1), (2, 4), (3, None)):
        db.record_llm_interaction(call(seconds, iteration=iteration, prompt_tokens=10 + int(seconds)))
    stored = db.calculate_and_store_cache_optimization("q", T0)
    assert stored is not None
    steps = [(step["iteration"], step["prompt_tokens"]) for step in stored["cache_evolution"]]
    assert steps == [(1, 11), (4, 12), (5, 10), (6, 13)]


def test_calculating_again_gives_the_same_and_sees_new_calls(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    first = db.calculate_and_store_cache_optimization("q", T0)
    assert first == db.calculate_and_store_cache_optimization("q", T0) == db.get_token_cache_optimization("q", T0)
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM token_cache_optimization").fetchone() == (1,)
    # 100 x .002 + 0 = 0.2 thousandths of a dollar
    db.record_llm_interaction(call(9, iteration=4, prompt_tokens=100, completion_tokens=0))
    later = db.get_token_cache_optimization("q", T0)  # a late call of a run that is stored is not left out
    assert first is not None
    assert later is not None
    assert later["total_interactions"] == 6
    assert later["cached_cost"] == pytest.approx(0.0147 + 0.0002)
    assert later["cost_savings"] == pytest.approx(0.0025)


def test_calculating_does_not_complete_a_run(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    db.calculate_and_store_cache_optimization("q", T0)
    (run,) = db.list_query_runs()
    assert (run["status"], run["end_time"]) == ("running", None)


def test_top_savings_are_ordered_by_dollars(db: TimescaleDBClient) -> None:
    # Savings of n x (.002 - .0005) thousandths: 1.5, 4.5, 3.0; then one that saved nothing, one negative, one unpriced.
    for name, cached in (("small", 1000), ("large", 3000), ("middle", 2000), ("none", 0)):
        db.record_llm_interaction(call(0, query_id=name, prompt_tokens=4000, cached_tokens=cached, completion_tokens=0))
    db.record_llm_interaction(call(0, query_id="negative", prompt_tokens=100, cache_write_tokens=100))
    db.record_llm_interaction(
        call(0, query_id="unpriced", model="nobody/none", priced=False, prompt_tokens=9000, cached_tokens=9000)
    )
    for name in ("small", "unpriced", "large", "negative", "middle", "none"):
        db.calculate_and_store_cache_optimization(name, T0)
    top = db.get_top_cache_savings()
    assert [run["query_id"] for run in top] == ["large", "middle", "small", "none", "negative"]
    assert [run["cost_savings"] for run in top] == pytest.approx([0.0045, 0.003, 0.0015, 0.0, -0.00005])
    assert set(top[0]) >= OPTIMIZATION_KEYS
    assert top[0] == db.get_token_cache_optimization("large", T0)
    assert [run["query_id"] for run in db.get_top_cache_savings(limit=2)] == ["large", "middle"]


def test_top_savings_are_ten_by_default(db: TimescaleDBClient) -> None:
    for number in range(12):
        db.record_llm_interaction(call(0, query_id=f"q{number}", prompt_tokens=100 + number, cached_tokens=number))
        db.complete_query_run(f"q{number}", T0)
    assert [run["query_id"] for run in db.get_top_cache_savings()] == [f"q{number}" for number in range(11, 1, -1)]


# -- by model ---------------------------------------------------------------------------------------------------------


def test_models_are_weighted_by_tokens_not_by_calls(db: TimescaleDBClient) -> None:
    # A mean of the calls' rates were (0.9 + 0 + 0) / 3 = 0.3; by tokens it is 900 / 10000.
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
    """Parts of hours are read from their calls, whole ones from their sums; those to come are in them, too."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = {-2.0: 1, -0.5: 10, 0.0: 100, 0.4: 1000, 1.0: 10_000, 2.5: 100_000}  # since the hour began: tokens
    for since, prompt in hours.items():
        moment = hour + timedelta(hours=since)
        db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=moment, prompt_tokens=prompt))

    def tokens(**bounds: datetime) -> tuple[int, int]:
        rows = db.get_cache_effectiveness_by_model(**bounds)
        buckets = analytics.usage_over_time(db.runtime.store(), **bounds)
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


# -- runs -------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_whatever_makes_them_known(db: TimescaleDBClient) -> None:
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


def test_the_totals_of_a_completed_run_stand_in_its_table_too(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    assert db.flush()
    with psycopg.connect(db_url) as connection:
        row = connection.execute(
            "SELECT status, total_interactions, failed_interactions, total_prompt_tokens, total_completion_tokens,"
            " total_tokens, total_cached_tokens, total_cost, p50_duration_ms FROM query_run_summaries"
        ).fetchone()
    assert row == ("completed", 5, 1, 6500, 660, 7160, 2100, pytest.approx(0.0147), pytest.approx(200))


def test_initializing_again_keeps_what_is_there(db: TimescaleDBClient) -> None:
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


def test_completing_again_keeps_one_run_and_the_last_word(db: TimescaleDBClient, db_url: str) -> None:
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


# -- record_llm_interaction -------------------------------------------------------------------------------------------


def test_a_record_comes_back_column_by_column(db: TimescaleDBClient) -> None:
    given: dict[str, Any] = {
        "query_id": "q",
        "run_id": T0,
        "model": "model-a",
        "model_type": "sub",
        "model_index": 2,
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 1100,
        "cached_tokens": 600,
        "uncached_prompt_tokens": 400,
        "cache_write_tokens": 200,
        "reasoning_tokens": 60,
        **PRICES,
        "total_cost": 0.5,
        "original_cost": 0.75,
        "duration_ms": 1234.5,
        "time_to_first_token_ms": 200.25,
        "start_time": at(1),
        "end_time": at(2.2345),
        "context_messages": 4,
        "context_tokens": 950,
        "response_length": 321,
        "iteration": 3,
        "recursion_id": "r-2",
        "parent_recursion_id": "r-1",
        "current_depth": 1,
        "max_depth": 3,
        "has_tool_calls": True,
        "tool_call_count": 2,
        "success": False,
        "error_message": "Rate limit reached.",
        "error_type": "RateLimitError",
        "metadata": {"nested": {"list": [1, 2.5, None, "é"]}},
        "provider": "openai",
        "api": "responses",
        "service_tier": "flex",
        "finish_reason": "stop",
        "request_id": "req_1",
        "price_source": "invoice",
        "usage": {"prompt_tokens": 1000},
        "usage_anomaly": "none",
        "fingerprint": "20ad3501",
        "interaction_id": "01890000-0000-7000-8000-000000000001",
        "time": at(1.5),
    }
    assert set(given) == {field.name for field in fields(LLMInteractionRecord)}  # nothing is left out here
    assert db.record_llm_interaction(LLMInteractionRecord(**given)) == given["interaction_id"]
    (row,) = db.get_llm_interactions("q", T0)
    assert row == given


def test_what_a_record_leaves_out_is_filled_in(db: TimescaleDBClient) -> None:
    interaction_id = db.record_llm_interaction(
        call(5, prompt_tokens=1000, completion_tokens=10, cached_tokens=300, tool_call_count=1, end_time=at(5.25))
    )
    assert UUID(interaction_id).version == 7
    (row,) = db.get_llm_interactions("q", T0)
    assert row["interaction_id"] == interaction_id
    assert row["time"] == row["start_time"] == at(5)
    assert row["uncached_prompt_tokens"] == 700
    assert row["total_tokens"] == 1010
    assert row["duration_ms"] == pytest.approx(250)
    assert row["has_tool_calls"] is True
    assert row["success"] is True
    # 700 x .002 + 300 x .0005 + 10 x .008 = 1.63 thousandths; original 1000 x .002 + .08 = 2.08
    assert row["total_cost"] == pytest.approx(0.00163)
    assert row["original_cost"] == pytest.approx(0.00208)
    assert row["price_source"] == "record"
    assert row["iteration"] is row["model_type"] is row["metadata"] is row["usage"] is None


def test_the_time_of_a_call_is_its_start_else_its_end_else_now(db: TimescaleDBClient) -> None:
    before = datetime.now(UTC)
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "model-a", start_time=at(1), end_time=at(2)))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "model-a", end_time=at(3)))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "model-a"))
    times = [row["time"] for row in db.get_llm_interactions("q", T0)]
    assert times[:2] == [at(1), at(3)]
    assert before <= times[2] <= datetime.now(UTC)


def test_calls_come_in_order_of_time_not_of_recording(db: TimescaleDBClient) -> None:
    for seconds in (30, 10, 20):
        db.record_llm_interaction(call(seconds, prompt_tokens=seconds))
    assert [row["prompt_tokens"] for row in db.get_llm_interactions("q", T0)] == [10, 20, 30]


def test_a_record_offered_twice_is_stored_once(db: TimescaleDBClient) -> None:
    record = call(0, prompt_tokens=5, interaction_id="01890000-0000-7000-8000-000000000001")
    assert db.record_llm_interaction(record) == db.record_llm_interaction(record)
    assert len(db.get_llm_interactions("q", T0)) == 1


def test_every_column_of_the_table_is_a_key(db: TimescaleDBClient, db_url: str) -> None:
    db.record_llm_interaction(call(0))
    (row,) = db.get_llm_interactions("q", T0)
    with psycopg.connect(db_url) as connection:
        columns = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'llm_interactions'"
        ).fetchall()
    assert set(row) == {name for (name,) in columns}


# -- prices -----------------------------------------------------------------------------------------------------------

PRICING = """\
version: 1
per: 1M
models:
  listed: {prompt: 4, cached: 1, cache_write: 5, completion: 16}
  no-discount: {prompt: 4, completion: 16}
  gpt-5: {prompt: 2, cached: 1, completion: 8}
"""


@pytest.fixture
def priced_db(db_url: str, tmp_path: Path) -> Iterator[TimescaleDBClient]:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICING)
    with TimescaleDBClient(db_url, pricing=path) as client:
        yield client


def stored_row(db: TimescaleDBClient, **fields: Any) -> dict[str, Any]:
    db.record_llm_interaction(call(0, priced=False, **fields))
    (row,) = db.get_llm_interactions("q", T0)
    return row


def prices_of(row: dict[str, Any]) -> list[float | None]:
    return [row[f"{kind}_token_price"] for kind in ("prompt", "cached", "cache_write", "completion")]


def test_a_silent_record_is_priced_from_the_pricing_file_per_thousand_tokens(priced_db: TimescaleDBClient) -> None:
    row = stored_row(
        priced_db,
        model="listed",
        prompt_tokens=10_000,
        cached_tokens=6000,
        cache_write_tokens=1000,
        completion_tokens=100,
    )
    assert prices_of(row) == pytest.approx([0.004, 0.001, 0.005, 0.016])
    # 3000 x .004 + 6000 x .001 + 1000 x .005 + 100 x .016 = 24.6 thousandths; original 10000 x .004 + 1.6 = 41.6
    assert row["total_cost"] == pytest.approx(0.0246)
    assert row["original_cost"] == pytest.approx(0.0416)
    assert row["price_source"].startswith("yaml:")


def test_the_pricing_file_wins_over_the_built_in_table(priced_db: TimescaleDBClient) -> None:
    row = stored_row(priced_db, model="gpt-5", provider="openai", prompt_tokens=1000, completion_tokens=0)
    assert row["total_cost"] == pytest.approx(0.002)


def test_a_model_without_a_cached_price_has_no_discount(priced_db: TimescaleDBClient) -> None:
    row = stored_row(priced_db, model="no-discount", prompt_tokens=1000, cached_tokens=1000, completion_tokens=0)
    assert row["total_cost"] == row["original_cost"] == pytest.approx(0.004)


def test_the_built_in_table_knows_gpt_5(db: TimescaleDBClient) -> None:
    # USD 1.25, 0.125 and 10 per 1M tokens, in OpenAI's price list since its release in August 2025.
    row = stored_row(
        db, model="gpt-5", provider="openai", prompt_tokens=10_000, cached_tokens=8000, completion_tokens=1000
    )
    # 2000 x 1.25 + 8000 x .125 + 1000 x 10 = 13,500 millionths of a dollar; original 12,500 + 10,000 = 22,500
    assert row["total_cost"] == pytest.approx(0.0135)
    assert row["original_cost"] == pytest.approx(0.0225)
    assert row["prompt_token_price"] == pytest.approx(0.00125)
    assert row["price_source"].startswith("genai-prices:")


def test_a_prompt_price_alone_takes_the_models_own_discount(priced_db: TimescaleDBClient) -> None:
    row = stored_row(
        priced_db, model="listed", prompt_token_price=0.008, prompt_tokens=1000, cached_tokens=500, completion_tokens=0
    )
    # The list says cached/prompt = 1/4 and write/prompt = 5/4; completion is not scaled.
    assert prices_of(row) == pytest.approx([0.008, 0.002, 0.010, 0.016])
    assert row["total_cost"] == pytest.approx((500 * 0.008 + 500 * 0.002) / 1000)
    assert row["original_cost"] == pytest.approx(0.008)


def test_a_prompt_price_alone_means_no_discount_for_an_unknown_model(db: TimescaleDBClient) -> None:
    row = stored_row(
        db, model="nobody/none", prompt_token_price=0.008, prompt_tokens=1000, cached_tokens=500, completion_tokens=0
    )
    assert prices_of(row) == [0.008, 0.008, 0.008, None]
    assert row["total_cost"] == row["original_cost"] == pytest.approx(0.008)


def test_tokens_that_have_no_price_leave_the_cost_unknown(db: TimescaleDBClient) -> None:
    row = stored_row(db, model="nobody/none", prompt_token_price=0.008, prompt_tokens=1000, completion_tokens=1)
    assert row["total_cost"] is row["original_cost"] is None


def test_given_costs_stand(priced_db: TimescaleDBClient) -> None:
    row = stored_row(
        priced_db, model="listed", total_cost=1.0, prompt_tokens=1000, cached_tokens=1000, completion_tokens=0
    )
    assert row["total_cost"] == 1.0
    # The list's difference: 1000 x (.004 - .001) thousandths.
    assert row["original_cost"] == pytest.approx(1.003)


def test_a_given_cost_of_an_unknown_model_has_no_original_where_something_was_cached(db: TimescaleDBClient) -> None:
    row = stored_row(db, model="nobody/none", total_cost=1.0, prompt_tokens=1000, cached_tokens=1, completion_tokens=5)
    summary = db.get_token_cache_summary("q", T0)
    assert summary is not None
    assert (row["total_cost"], row["original_cost"]) == (1.0, None)
    assert summary["total_cost"] == 1.0
    assert summary["cost_savings"] is None


def test_zero_prices_are_prices(db: TimescaleDBClient) -> None:
    row = stored_row(
        db, model="my-own-gpu", prompt_token_price=0, completion_token_price=0, prompt_tokens=1000, completion_tokens=9
    )
    summary = db.get_token_cache_summary("q", T0)
    assert summary is not None
    assert row["total_cost"] == row["original_cost"] == 0
    assert (summary["total_cost"], summary["unpriced_interactions"]) == (0, 0)


# -- context ----------------------------------------------------------------------------------------------------------


def test_context_fills_what_a_record_leaves_out(db: TimescaleDBClient) -> None:
    db.set_context(
        query_id="from context",
        run_id=T0,
        iteration=2,
        current_depth=1,
        max_depth=3,
        recursion_id="r-2",
        parent_recursion_id="r-1",
        model="context-model",
        model_index=4,
        model_type="sub",
    )
    db.record_llm_interaction(LLMInteractionRecord("", None, "", prompt_tokens=1))  # type: ignore[arg-type]
    (row,) = db.get_llm_interactions("from context", T0)
    expected = {
        "query_id": "from context",
        "run_id": T0,
        "iteration": 2,
        "current_depth": 1,
        "max_depth": 3,
        "recursion_id": "r-2",
        "parent_recursion_id": "r-1",
        "model": "context-model",
        "model_index": 4,
        "model_type": "sub",
    }
    assert {name: row[name] for name in expected} == expected
    assert set(expected) == set(inspect.signature(db.set_context).parameters)


def test_only_what_is_passed_changes(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=1, model_type="root")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(0)))
    db.set_context(iteration=2)
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(1)))
    db.set_context(current_depth=0, model_type="sub")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(2)))
    rows = db.get_llm_interactions("q", T0)
    seen = [(row["iteration"], row["model_type"], row["current_depth"]) for row in rows]
    assert seen == [(1, "root", None), (2, "root", None), (2, "sub", 0)]


def test_what_a_record_says_wins_over_the_context(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=1, model="other", model_type="root")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "mine", iteration=0, model_type="sub"))
    (row,) = db.get_llm_interactions("q", T0)
    assert (row["model"], row["iteration"], row["model_type"]) == ("mine", 0, "sub")


def test_the_context_of_one_run_does_not_reach_into_another(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=7)
    db.record_llm_interaction(LLMInteractionRecord("other", T0, "m"))
    (row,) = db.get_llm_interactions("other", T0)
    assert row["iteration"] is None


def test_context_holds_for_instrumented_calls_too(db: TimescaleDBClient, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        instrument(openai, store=db)
        db.set_context(query_id="by hand", run_id=T0, iteration=5, model_type="root", max_depth=2)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        db.set_context(iteration=6)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    rows = db.get_llm_interactions("by hand", T0)
    assert [(row["iteration"], row["model_type"], row["max_depth"]) for row in rows] == [(5, "root", 2), (6, "root", 2)]
    assert {row["model"] for row in rows} == {"gpt-5-2025-08-07"}  # the server's word


def test_a_query_run_wins_over_the_context_of_another_run(db: TimescaleDBClient, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        instrument(openai, store=db)
        db.set_context(query_id="by hand", run_id=T0, iteration=5)
        with query_run("q") as run:
            openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
            db.record_llm_interaction(LLMInteractionRecord("", None, "m"))  # type: ignore[arg-type]
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    inside = db.get_llm_interactions("q", run.run_id)
    assert [row["iteration"] for row in inside] == [None, None]  # iteration 5 belongs to the other run
    assert [row["iteration"] for row in db.get_llm_interactions("by hand", T0)] == [5]


def test_context_completes_what_a_query_run_does_not_say(db: TimescaleDBClient) -> None:
    db.set_context(iteration=3, model_type="root", model="m")
    with query_run("q") as run:
        db.record_llm_interaction(LLMInteractionRecord("", None, ""))  # type: ignore[arg-type]
        run.iteration = 4
        db.record_llm_interaction(LLMInteractionRecord("", None, ""))  # type: ignore[arg-type]
    rows = db.get_llm_interactions("q", run.run_id)
    assert sorted((row["iteration"], row["model_type"], row["model"]) for row in rows) == [
        (3, "root", "m"),
        (4, "root", "m"),
    ]


def test_closing_a_client_ends_its_context(db_url: str, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        with TimescaleDBClient(db_url) as first:
            instrument(openai, store=first)
            first.set_context(query_id="gone", run_id=T0)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        with TimescaleDBClient(db_url) as second:
            assert [run["query_id"] for run in second.list_query_runs()] == ["adhoc"]


# -- the client itself ------------------------------------------------------------------------------------------------


def test_signatures_are_those_of_the_contract() -> None:
    def shape(function: Any) -> list[tuple[str, Any]]:
        parameters = list(inspect.signature(function).parameters.values())
        return [(p.name, p.default) for p in parameters if p.name != "self"]

    empty = inspect.Parameter.empty
    assert shape(TimescaleDBClient) == [("db_url", None), ("pool_size", 10), ("pricing", None)]
    assert shape(TimescaleDBClient.set_context) == [
        (name, None)
        for name in (
            "query_id",
            "run_id",
            "iteration",
            "current_depth",
            "max_depth",
            "recursion_id",
            "parent_recursion_id",
            "model",
            "model_index",
            "model_type",
        )
    ]
    run = [("query_id", empty), ("run_id", empty)]
    assert shape(TimescaleDBClient.initialize_query_run) == [*run, ("metadata", None)]
    assert shape(TimescaleDBClient.record_llm_interaction) == [("record", empty)]
    assert shape(TimescaleDBClient.complete_query_run) == [*run, ("status", "completed")]
    for name in (
        "get_token_cache_summary",
        "calculate_and_store_cache_optimization",
        "get_token_cache_optimization",
        "get_llm_interactions",
        "get_query_run_summary",
    ):
        assert shape(getattr(TimescaleDBClient, name)) == run
    assert shape(TimescaleDBClient.get_top_cache_savings) == [("limit", 10)]
    assert shape(TimescaleDBClient.get_cache_effectiveness_by_model) == [("since", None), ("until", None)]
    assert shape(TimescaleDBClient.list_query_runs)[0] == ("limit", 100)
    assert shape(TimescaleDBClient.close) == []


def test_writing_methods_return_nothing(db: TimescaleDBClient) -> None:
    assert db.set_context(iteration=1) is None  # type: ignore[func-returns-value]
    assert db.initialize_query_run("q", T0) is None  # type: ignore[func-returns-value]
    assert db.complete_query_run("q", T0) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("variable", ["RLM_CACHETRACK_DB_URL", "TIMESCALE_DB_URL"])
def test_the_address_may_come_from_the_environment(db_url: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, db_url)
    with TimescaleDBClient() as db:
        db.record_llm_interaction(call(0, prompt_tokens=3))
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT prompt_tokens FROM llm_interactions").fetchall() == [(3,)]


def test_two_clients_of_one_store_see_each_others_records_and_close_apart(db_url: str) -> None:
    with TimescaleDBClient(db_url) as first:
        with TimescaleDBClient(db_url) as second:
            second.record_llm_interaction(call(0, prompt_tokens=3))
            assert len(first.get_llm_interactions("q", T0)) == 1
        first.record_llm_interaction(call(1, prompt_tokens=4))
        assert len(first.get_llm_interactions("q", T0)) == 2


def test_closing_stores_what_was_recorded_and_may_be_repeated(db_url: str) -> None:
    db = TimescaleDBClient(db_url)
    db.record_llm_interaction(call(0, prompt_tokens=3))
    db.close()
    db.close()
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (1,)


def test_closing_ends_the_writer_thread(db_url: str) -> None:
    before = set(threading.enumerate())
    for _ in range(30):  # it may be anywhere in its cycle
        TimescaleDBClient(db_url).close()
        assert set(threading.enumerate()) <= before


def test_stats_count_what_was_recorded_and_stored(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    assert rlm_cachetrack.flush(timeout_s=10)
    counts = rlm_cachetrack.stats()
    assert counts["recorded"] == counts["stored"] == 6  # the run's start and five calls
    assert counts["pending"] == 0
    assert counts["dropped"] == {}
    assert counts["internal_errors"] == db.stats()["internal_errors"]


# -- deleting ---------------------------------------------------------------------------------------------------------


def test_count_says_what_delete_then_deletes(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    db.initialize_query_run("q", at(1))  # a run without calls
    db.record_llm_interaction(call(0, query_id="kept"))
    db.complete_query_run("q", T0)
    assert db.count(query_id="q") == {"interactions": 5, "runs": 2}
    assert db.delete(query_id="q") == {"interactions": 5, "runs": 2}
    assert [run["query_id"] for run in db.list_query_runs()] == ["kept"]
    assert db.get_token_cache_optimization("q", T0) is None
    assert db.count(query_id="q") == {"interactions": 0, "runs": 0}


def test_pruning_keeps_runs_that_have_later_calls(db: TimescaleDBClient) -> None:
    later = at(86400)  # run_id only names a run; when it began is when its first call did
    db.record_llm_interaction(call(0, query_id="old", run_id=later, prompt_tokens=10, completion_tokens=0))
    db.record_llm_interaction(call(0, query_id="both", prompt_tokens=10, completion_tokens=0))
    db.record_llm_interaction(call(100, query_id="both", prompt_tokens=10, completion_tokens=0))
    for key in (("old", later), ("both", T0)):
        db.calculate_and_store_cache_optimization(*key)
    assert db.count(before=at(50)) == {"interactions": 2, "runs": 1}
    assert db.delete(before=at(50)) == {"interactions": 2, "runs": 1}
    assert [run["query_id"] for run in db.list_query_runs()] == ["both"]
    assert [run["query_id"] for run in db.get_top_cache_savings()] == ["both"]
