"""The savings of a run, stored and computed again, and the runs with the highest savings."""

from __future__ import annotations

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient
from tests.support.client_calls import T0, call, record_the_mixed_run

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


def test_optimization_of_a_mixed_run(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    assert db.get_token_cache_optimization("q", T0) is None  # nothing is stored before the run is complete
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
    assert stored["interactions_not_reported"] == 1
    assert stored["unpriced_interactions"] == 1
    assert stored["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 2000, "cached_tokens": 0, "cache_hit_rate": 0.0},
        # 2000 of 3000 with reported cache use; the 1000 of the other call count only as prompt tokens
        {"iteration": 2, "prompt_tokens": 4000, "cached_tokens": 2000, "cache_hit_rate": pytest.approx(2 / 3)},
        {"iteration": 3, "prompt_tokens": 500, "cached_tokens": 100, "cache_hit_rate": 0.2},
    ]
    assert list(stored["cache_evolution"][0]) == ["iteration", "prompt_tokens", "cached_tokens", "cache_hit_rate"]


def test_stored_savings_are_not_replaced_by_sums_over_fewer_calls(db: TimescaleDBClient, db_url: str) -> None:
    """Retention drops calls, but not the stored totals of their run."""
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    stored = db.get_token_cache_optimization("q", T0)
    totals = "SELECT total_interactions, total_cost, p99_duration_ms FROM query_run_summaries"
    with psycopg.connect(db_url) as connection:
        run = connection.execute(totals).fetchall()
        connection.execute("DELETE FROM llm_interactions WHERE iteration >= 2")

    assert db.calculate_and_store_cache_optimization("q", T0) == stored
    db.record_llm_interaction(call(9, iteration=9))  # a late call, after which the totals are computed again
    assert db.flush()

    assert db.get_token_cache_optimization("q", T0) == stored
    with psycopg.connect(db_url) as connection:
        assert connection.execute(totals).fetchall() == run


def test_stored_costs_are_not_replaced_where_the_calls_have_none(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    db.complete_query_run("q", T0)
    stored = db.get_token_cache_optimization("q", T0)
    with psycopg.connect(db_url) as connection:
        connection.execute("UPDATE llm_interactions SET total_cost = NULL, original_cost = NULL")

    again = db.calculate_and_store_cache_optimization("q", T0)

    assert stored is not None
    assert again is not None
    for name in ("original_cost", "cached_cost", "cost_savings", "cost_savings_percentage"):
        assert again[name] == stored[name]  # type: ignore[literal-required]


def test_cache_writes_that_are_never_read_are_negative_savings(db: TimescaleDBClient) -> None:
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


def test_an_iteration_without_reported_values_is_null_not_zero(db: TimescaleDBClient) -> None:
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


def test_calculating_again_returns_the_same_and_includes_new_calls(db: TimescaleDBClient, db_url: str) -> None:
    record_the_mixed_run(db)
    first = db.calculate_and_store_cache_optimization("q", T0)
    assert first == db.calculate_and_store_cache_optimization("q", T0) == db.get_token_cache_optimization("q", T0)
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM token_cache_optimization").fetchone() == (1,)
    # 100 x .002 + 0 = 0.2 thousandths of a dollar
    db.record_llm_interaction(call(9, iteration=4, prompt_tokens=100, completion_tokens=0))
    later = db.get_token_cache_optimization("q", T0)  # a call recorded after the run was stored is included
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
    # Savings of n x (.002 - .0005) thousandths: 1.5, 4.5, 3.0; then a run without savings, a negative, an unpriced one.
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
