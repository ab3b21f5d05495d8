"""The totals of one run, key by key; every expected value is computed by hand next to its input."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from rlm_cachetrack import TimescaleDBClient
from tests.support.client_calls import T0, at, call, record_the_mixed_run

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
    assert summary["total_uncached_tokens"] == 2000 + 1000 + 400  # only calls that reported their cache use
    assert summary["total_cache_write_tokens"] == 1000
    assert summary["cache_hit_rate"] == pytest.approx(2100 / 5500)  # 2000 + 3000 + 500 reported
    assert summary["cache_savings_tokens"] == 2100
    assert summary["cache_savings_percentage"] == pytest.approx(100 * 2100 / 5500)
    assert summary["total_cost"] == pytest.approx(0.0085 + 0.0038 + 0.0024)
    assert summary["original_cost"] == pytest.approx(0.0080 + 0.0068 + 0.0024)
    assert summary["cost_savings"] == pytest.approx(0.0172 - 0.0147)
    assert summary["avg_cost_per_interaction"] == pytest.approx(0.0147 / 3)  # three calls are priced
    assert summary["total_interactions"] == 5
    assert summary["interactions_with_cache"] == 2
    assert summary["interactions_without_cache"] == 1
    assert summary["interactions_not_reported"] == 1  # the failed call has no usage: it is counted as failed
    assert summary["failed_interactions"] == 1
    assert summary["unpriced_interactions"] == 1  # a call that failed without tokens needs no price
    assert summary["avg_duration_ms"] == pytest.approx((100 + 300 + 200) / 3)
    assert summary["avg_time_to_first_token_ms"] is None
    assert summary["first_call_time"] == at(0)
    assert summary["last_call_time"] == at(4)
    assert summary["models"] == ["model-a", "nobody/none"]


def test_numbers_come_as_int_and_float(db: TimescaleDBClient) -> None:
    """Sums are not Decimal, so that they work in JSON and float arithmetic."""
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
    assert (
        summary["total_uncached_tokens"] + summary["total_cached_tokens"] == 50
    )  # prompt tokens of calls with reported cache use


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


def test_an_unknown_run_has_no_summary_and_no_calls(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    other = T0 + timedelta(microseconds=1)
    for query_id, run_id in (("q", other), ("Q", T0)):
        assert db.get_token_cache_summary(query_id, run_id) is None
        assert db.get_token_cache_optimization(query_id, run_id) is None
        assert db.calculate_and_store_cache_optimization(query_id, run_id) is None
        assert db.get_query_run_summary(query_id, run_id) is None
        assert db.get_llm_interactions(query_id, run_id) == []
    assert [run["query_id"] for run in db.list_query_runs()] == ["q"]  # the query did not create a run


def test_a_run_is_found_by_its_time_in_any_time_zone_or_form(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(call(0, run_id="2026-03-01T14:00:00+02:00", prompt_tokens=7))
    for name in (T0, T0.astimezone(timezone(timedelta(hours=-8))), "2026-03-01T12:00:00Z", T0.isoformat()):
        summary = db.get_token_cache_summary("q", name)
        assert summary is not None
        assert summary["run_id"] == T0
        assert summary["run_id"].utcoffset() == timedelta(0)
        assert summary["total_prompt_tokens"] == 7
