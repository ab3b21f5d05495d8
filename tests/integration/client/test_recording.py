"""Hand-made records: every column is stored, omitted fields are filled, and prices apply."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from tests.support.client_calls import PRICES, T0, at, call


def test_a_record_is_stored_column_by_column(db: TimescaleDBClient) -> None:
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
        "token_details": {"audio_prompt_tokens": 40},
        "tool_usage": {"web_search": 2},
        "request_options": {"region": "eu"},
        "charges": [{"item": "web_search", "quantity": 2, "unit": "call", "price": 0.01, "amount": 0.02}],
        "unpriced_reason": "no price for audio",
        "cost_excludes": ["code_interpreter"],
        "tags": {"user": "u-17"},
        "call_site": "app:main",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "response_id": "resp_1",
        "cache_diagnostics": {"reason": "reasoning_effort_changed"},
        "interaction_id": "01890000-0000-7000-8000-000000000001",
        "time": at(1.5),
    }
    assert set(given) == {field.name for field in fields(LLMInteractionRecord)}  # the record sets every field
    assert db.record_llm_interaction(LLMInteractionRecord(**given)) == given["interaction_id"]
    (row,) = db.get_llm_interactions("q", T0)
    assert row == given


def test_omitted_fields_of_a_record_are_filled_in(db: TimescaleDBClient) -> None:
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


def test_calls_are_returned_in_order_of_time_not_of_recording(db: TimescaleDBClient) -> None:
    for seconds in (30, 10, 20):
        db.record_llm_interaction(call(seconds, prompt_tokens=seconds))
    assert [row["prompt_tokens"] for row in db.get_llm_interactions("q", T0)] == [10, 20, 30]


def test_a_record_sent_twice_is_stored_once(db: TimescaleDBClient) -> None:
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


# -- prices ----


def stored_row(db: TimescaleDBClient, **fields: Any) -> dict[str, Any]:
    db.record_llm_interaction(call(0, priced=False, **fields))
    (row,) = db.get_llm_interactions("q", T0)
    return row


def prices_of(row: dict[str, Any]) -> list[float | None]:
    return [row[f"{kind}_token_price"] for kind in ("prompt", "cached", "cache_write", "completion")]


def test_a_record_without_prices_is_priced_from_the_pricing_file(priced_db: TimescaleDBClient) -> None:
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


def test_the_pricing_file_takes_precedence_over_the_built_in_table(priced_db: TimescaleDBClient) -> None:
    row = stored_row(priced_db, model="gpt-5", provider="openai", prompt_tokens=1000, completion_tokens=0)
    assert row["total_cost"] == pytest.approx(0.002)


def test_a_model_without_a_cached_price_has_no_discount(priced_db: TimescaleDBClient) -> None:
    row = stored_row(priced_db, model="no-discount", prompt_tokens=1000, cached_tokens=1000, completion_tokens=0)
    assert row["total_cost"] == row["original_cost"] == pytest.approx(0.004)


def test_the_built_in_table_knows_gpt_5(db: TimescaleDBClient) -> None:
    # USD 1.25, 0.125 and 10 per 1M tokens in OpenAI's price list since the model's release in August 2025.
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
    # In the list, cached/prompt = 1/4 and write/prompt = 5/4; the completion price is not scaled.
    assert prices_of(row) == pytest.approx([0.008, 0.002, 0.010, 0.016])
    assert row["total_cost"] == pytest.approx((500 * 0.008 + 500 * 0.002) / 1000)
    assert row["original_cost"] == pytest.approx(0.008)


def test_a_prompt_price_alone_means_no_discount_for_an_unknown_model(db: TimescaleDBClient) -> None:
    row = stored_row(
        db, model="nobody/none", prompt_token_price=0.008, prompt_tokens=1000, cached_tokens=500, completion_tokens=0
    )
    assert prices_of(row) == [0.008, 0.008, 0.008, None]
    assert row["total_cost"] == row["original_cost"] == pytest.approx(0.008)


def test_unpriced_tokens_leave_the_cost_unknown(db: TimescaleDBClient) -> None:
    row = stored_row(db, model="nobody/none", prompt_token_price=0.008, prompt_tokens=1000, completion_tokens=1)
    assert row["total_cost"] is row["original_cost"] is None


def test_costs_given_on_a_record_are_kept(priced_db: TimescaleDBClient) -> None:
    row = stored_row(
        priced_db, model="listed", total_cost=1.0, prompt_tokens=1000, cached_tokens=1000, completion_tokens=0
    )
    assert row["total_cost"] == 1.0
    # The difference by the list: 1000 x (.004 - .001) thousandths.
    assert row["original_cost"] == pytest.approx(1.003)


def test_a_given_cost_of_an_unknown_model_has_no_original_cost_if_cached(db: TimescaleDBClient) -> None:
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
