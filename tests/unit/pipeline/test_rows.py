"""A journal event becomes the row of its call, in both forms in which calls are journaled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from rlm_cachetrack.fingerprint import HashedRequest
from rlm_cachetrack.journal import call_event as _call_line
from rlm_cachetrack.journal import expand_event, next_number
from rlm_cachetrack.pipeline.batches import BatchBuilder
from rlm_cachetrack.pipeline.rows import RowBuilder
from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.records import COLUMNS

START = 1_768_035_600_123_456_789  # 2026-01-10T09:00:00.123456789Z
USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 100,
    "total_tokens": 2100,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
RUN_CONTEXT = {"query_id": "q", "run_id": "2026-01-10T09:00:00+00:00", "iteration": 3}


def line(
    usage: Any = USAGE,
    run_context: Mapping[str, Any] = RUN_CONTEXT,
    extra: Mapping[str, Any] | None = None,
    **more: Any,
) -> bytes:
    values = {
        "number": next_number(),
        "api": "chat.completions",
        "provider": "openai",
        "model": "gpt-5-2025-08-07",
        "requested_model": "gpt-5",
        "start_ns": START,
        "duration_ns": 1_500_500_000,
        "time_to_first_token_ns": None,
        "context_messages": 4,
        "response_length": 400,
        "request_id": "req_1",
        "response_id": "chatcmpl-1",
        "service_tier": "default",
        "finish_reason": "stop",
        "tool_call_count": 0,
        "error_type": None,
        "error_message": None,
        "metadata": None,
        **more,
    }
    return _call_line.encode(json.dumps(run_context), tuple(values[name] for name in _call_line.FIELDS), usage, extra)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return PriceBook()


def decoded(written: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(written)
    return value


def named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def test_a_call_becomes_a_row_with_its_tokens_times_and_cost(prices: PriceBook) -> None:
    written = decoded(line())
    row = named(RowBuilder(prices).row(written))

    began = datetime(2026, 1, 10, 9, 0, 0, 123_456, tzinfo=UTC)
    assert row["time"] == row["start_time"] == began
    assert row["end_time"] == began + timedelta(microseconds=1_500_500)
    assert row["run_id"] == datetime(2026, 1, 10, 9, tzinfo=UTC)
    assert (row["prompt_tokens"], row["cached_tokens"], row["uncached_prompt_tokens"]) == (2000, 1920, 80)
    assert row["cache_write_tokens"] is None
    # USD per million: 1.25, cached 0.125, completion 10. 80 x 1.25 + 1,920 x 0.125 + 100 x 10 = 1,340 millionths.
    assert row["total_cost"] == pytest.approx(0.00134, rel=1e-12)
    assert row["original_cost"] == pytest.approx(0.0035, rel=1e-12)
    assert (row["query_id"], row["model"]) == ("q", "gpt-5-2025-08-07")
    assert (row["request_id"], row["response_id"]) == ("req_1", "chatcmpl-1")
    assert (row["iteration"], row["success"], row["has_tool_calls"]) == (3, True, False)
    assert row["interaction_id"].int >> 80 == START // 1_000_000
    assert json.loads(row["usage"]) == USAGE
    assert (row["error_type"], row["error_message"], row["context_tokens"]) == (None, None, None)


def test_a_fingerprint_is_found_by_the_number_of_the_call(prices: PriceBook) -> None:
    written = decoded(line())
    number = written["call"][0]
    hashed = {number: HashedRequest(b"hash", None)}
    assert named(RowBuilder(prices, hashed.get).row(written))["fingerprint"] == b"hash"
    assert named(RowBuilder(prices, {}.get).row(written))["fingerprint"] is None


def test_an_option_that_the_response_states_wins(prices: PriceBook) -> None:
    written = decoded(line(extra={"request_options": {"cache_retention": "24h"}}))
    hashed = {written["call"][0]: HashedRequest(b"hash", {"cache_retention": "in_memory", "verbosity": "low"})}
    options = named(RowBuilder(prices, hashed.get).row(written))["request_options"]
    assert json.loads(options) == {"cache_retention": "24h", "verbosity": "low"}


CALLS: list[dict[str, Any]] = [
    {"error_type": "RateLimitError", "error_message": "slow down"},
    {"usage": None},
    {"usage": {}},
    {"usage": {**USAGE, "total_tokens": 2099}},
    {"usage": {**USAGE, "prompt_tokens": -1}},
    {"usage": {**USAGE, "prompt_tokens": 2000.0}},
    {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 2001}}},
    {"usage": {**USAGE, "cost": 0.5}},
    {"usage": {"prompt_tokens": 5, "total_tokens": 5}},
    {"metadata": {"attempts": 2}},
    {"extra": {"request_options": {"region": "eu"}, "call_site": "a:\0 \u00fc"}},
    {"extra": {"tool_usage": {"code_interpreter": 1, "web_search": 2}, "trace_id": 0x4BF92F3577B34DA6, "span_id": 1}},
    {"run_context": {**RUN_CONTEXT, "tags": {"user": "u-17"}}},
    {},
    {"model": None},
    {"model": "gpt-5"},
    {"model": "nobody-knows-it", "requested_model": "nobody-knows-it"},
    {"service_tier": "flex"},
    {"service_tier": "no-such-tier"},
    {"time_to_first_token_ns": 12_250_001},
    {"context_messages": None},
    {"response_length": None},
    {"request_id": None},
    {"request_id": "r\0q \u00fc", "response_id": "resp_\0 \u00fc"},
    {"request_id": None, "response_id": None},
    {"finish_reason": None, "service_tier": None, "provider": None},
    {"provider": "azure"},
    {"provider": "unknown@llm.example.org:8000"},
    {"metadata": {"stream": True}},
    {"metadata": {"stream": True}, "model": "gpt-5", "provider": "unknown@llm.example.org"},
    {"tool_call_count": 3},
    {"start_ns": START + 500},
    {"start_ns": 1_700_000_000_999_999_999},
    {"duration_ns": 999, "start_ns": 1_700_000_000_999_999_999},
    {"duration_ns": 0},
    {"duration_ns": 9_235_579, "time_to_first_token_ns": 3_141_592},
    {"run_context": {**RUN_CONTEXT, "query_id": "\u00fcber\0"}},
    {
        "run_context": {
            **RUN_CONTEXT,
            "recursion_id": "r1",
            "parent_recursion_id": "r0",
            "current_depth": 1,
            "max_depth": 4,
        }
    },
    {"run_context": {**RUN_CONTEXT, "model_type": "root", "model_index": 0}},
    {"usage": {**USAGE, "prompt_tokens_details": None}},
    {"usage": {**USAGE, "completion_tokens_details": {}}},
    {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 2000}}},
    {"usage": {**USAGE, "note": '\u00fc\u2028\\ " \n'}},
    {"usage": {**USAGE, "large": 2**70, "small": 1e-300}},
    {
        "usage": {
            "input_tokens": 9,
            "output_tokens": 1,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 8},
        }
    },
    {"usage": {"prompt_tokens": 300_000, "completion_tokens": 1, "total_tokens": 300_001}, "model": "gpt-5.4"},
]


@pytest.mark.parametrize("more", CALLS, ids=str)
def test_both_forms_of_a_call_become_the_same_row(more: dict[str, Any], prices: PriceBook) -> None:
    written = decoded(line(**more))
    builder = RowBuilder(prices)
    assert named(builder.row(written)) == named(builder.row(expand_event(written)))


def test_extra_values_of_a_call_are_stored_in_their_columns(prices: PriceBook) -> None:
    extra = {"request_options": {"region": "eu"}, "tool_usage": {"web_search": 2}, "call_site": "app:main"}
    row = named(RowBuilder(prices).row(decoded(line(extra=extra))))
    assert json.loads(row["request_options"]) == {"region": "eu"}
    assert json.loads(row["tool_usage"]) == {"web_search": 2}
    assert (row["call_site"], row["tags"], row["trace_id"]) == ("app:main", None, None)


def test_values_that_a_server_sends_with_the_wrong_type_are_not_stored(prices: PriceBook) -> None:
    wrong: dict[str, Any] = {"model": ["a"], "service_tier": {"a": 1}, "finish_reason": 5}
    wrong |= {"request_id": [1], "response_id": 7}
    row = named(RowBuilder(prices).row(decoded(line(**wrong))))
    assert (row["model"], row["service_tier"], row["finish_reason"]) == ("gpt-5", None, None)
    assert (row["request_id"], row["response_id"]) == (None, None)


@pytest.mark.parametrize(
    "run_context",
    [{**RUN_CONTEXT, "run_id": "yesterday"}, {**RUN_CONTEXT, "color": "red"}, {**RUN_CONTEXT, "iteration": 2**31}],
    ids=str,
)
def test_a_damaged_call_is_reported_and_the_others_are_built(run_context: dict[str, Any], prices: PriceBook) -> None:
    damaged = decoded(line(run_context=run_context))
    built = BatchBuilder(prices).build([damaged, decoded(line())])
    assert len(built.batch.interactions) == 1
    assert [event for event, _ in built.unreadable] == [damaged]


@pytest.mark.parametrize("name", ["model_index", "context_tokens", "tool_call_count", "prompt_tokens"])
def test_a_number_that_does_not_fit_its_column_is_reported(name: str, prices: PriceBook) -> None:
    """psycopg would store only the lower 32 bits."""
    event = {"kind": "record", "query_id": "q", "run_id": RUN_CONTEXT["run_id"], "model": "m", name: 2**31}
    with pytest.raises(ValueError, match=f"{name}=2147483648"):
        RowBuilder(prices).row({**event, "interaction_id": str(UUID(int=7))})
