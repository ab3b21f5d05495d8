"""The record of a call: its fields, defaults, checks, ids and times."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest

from rlm_cachetrack import LLMInteractionRecord, RecordBatch, RecordError, RecordSink
from rlm_cachetrack.records import (
    COLUMNS,
    RunEnd,
    RunKey,
    RunStart,
    aware,
    checked_json,
    checked_query_id,
    clean_text,
    event_of_record,
)

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

# Fields of the contract and their defaults.
CONTRACT: dict[str, Any] = {
    "query_id": dataclasses.MISSING,
    "run_id": dataclasses.MISSING,
    "model": dataclasses.MISSING,
    "model_type": None,
    "model_index": None,
    "prompt_tokens": None,
    "completion_tokens": None,
    "total_tokens": None,
    "cached_tokens": 0,
    "uncached_prompt_tokens": None,
    "cache_write_tokens": None,
    "reasoning_tokens": None,
    "prompt_token_price": None,
    "cached_token_price": None,
    "cache_write_token_price": None,
    "completion_token_price": None,
    "total_cost": None,
    "original_cost": None,
    "duration_ms": None,
    "time_to_first_token_ms": None,
    "start_time": None,
    "end_time": None,
    "context_messages": None,
    "context_tokens": None,
    "response_length": None,
    "iteration": None,
    "recursion_id": None,
    "parent_recursion_id": None,
    "current_depth": None,
    "max_depth": None,
    "has_tool_calls": None,
    "tool_call_count": None,
    "success": True,
    "error_message": None,
    "error_type": None,
    "metadata": None,
}


def record(**fields: Any) -> LLMInteractionRecord:
    return LLMInteractionRecord(**{"query_id": "q", "run_id": T0, "model": "m", **fields})


def test_the_fields_and_defaults_are_those_of_the_contract() -> None:
    found = {field.name: field.default for field in dataclasses.fields(LLMInteractionRecord)}
    assert {name: found.get(name, "missing") for name in CONTRACT} == CONTRACT
    more = {name: default for name, default in found.items() if name not in CONTRACT}
    assert set(more) >= {"interaction_id", "provider", "api", "service_tier", "request_id", "price_source", "usage"}
    assert set(more.values()) == {None}


def test_columns_are_the_fields_with_the_key_first() -> None:
    assert COLUMNS[:4] == ("time", "interaction_id", "query_id", "run_id")
    assert sorted(COLUMNS) == sorted(field.name for field in dataclasses.fields(LLMInteractionRecord))


def test_a_record_does_not_show_the_usage_when_printed() -> None:
    assert "unmistakable" not in repr(record(usage={"note": "unmistakable"}))


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt_tokens": 0, "cached_tokens": 0},
        {"prompt_tokens": 5, "cached_tokens": 5},
        {"prompt_tokens": 5, "cached_tokens": None, "uncached_prompt_tokens": 5},
        {"cached_tokens": 7},
        {"prompt_tokens": 2**31 - 1},
        {"prompt_tokens": 10, "cached_tokens": 4, "uncached_prompt_tokens": 6},
        {"prompt_token_price": 0, "total_cost": 0.0, "duration_ms": 12},
        {"run_id": "2026-03-01T12:00:00+01:00", "start_time": "2026-03-01T12:00:00Z"},
        {"success": False, "has_tool_calls": False, "metadata": {}, "usage": {}},
    ],
)
def test_valid_values_are_accepted(fields: dict[str, Any]) -> None:
    record(**fields).check()


TOKENS = [name for name in CONTRACT if name.endswith("_tokens")]
COUNTS = [
    "model_index",
    "context_messages",
    "response_length",
    "iteration",
    "current_depth",
    "max_depth",
    "tool_call_count",
]
AMOUNTS = [name for name in CONTRACT if name.endswith(("_price", "_cost", "_ms"))]


@pytest.mark.parametrize("name", TOKENS + COUNTS)
@pytest.mark.parametrize("value", [-1, 2**31, 1.0, "1", True])
def test_counts_are_whole_numbers_in_the_range_of_a_column(name: str, value: Any) -> None:
    with pytest.raises(RecordError, match=f"{name}="):
        record(**{name: value}).check()


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "1", True])
def test_amounts_are_finite_and_not_negative(name: str, value: Any) -> None:
    with pytest.raises(RecordError, match=f"{name}="):
        record(**{name: value}).check()


def test_more_cached_than_prompt_tokens_raise_with_the_reason() -> None:
    with pytest.raises(RecordError, match=r"cached_tokens=11 is more than prompt_tokens=10: .* cached tokens included"):
        record(prompt_tokens=10, cached_tokens=11).check()


def test_uncached_tokens_must_be_the_difference() -> None:
    with pytest.raises(RecordError, match=r"uncached_prompt_tokens=5: expected prompt_tokens - cached_tokens = 6"):
        record(prompt_tokens=10, cached_tokens=4, uncached_prompt_tokens=5).check()


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        T0,
        datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1))),
        "2026-03-01T12:00:00Z",
        "2026-03-01 07:00:00-05:00",
    ],
)
def test_times_are_converted_to_utc(value: Any) -> None:
    moment = aware(value, "run_id")
    assert moment == T0
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime(2026, 3, 1), "naive"),
        ("2026-03-01T12:00:00", "naive"),
        ("2026-03-01", "naive"),
        ("soon", "ISO 8601"),
        ("", "ISO 8601"),
        (date(2026, 3, 1), "not date"),
        (1772366400, "not int"),
        (None, "not NoneType"),
    ],
)
def test_invalid_times_are_rejected(value: Any, message: str) -> None:
    with pytest.raises(RecordError, match=rf"run_id=.*{message}"):
        aware(value, "run_id")


# -- names and texts --------------------------------------------------------------------------------------------------


def test_a_query_id_has_at_most_two_thousand_bytes() -> None:
    assert checked_query_id("é" * 1000) == "é" * 1000
    with pytest.raises(RecordError, match="2002 bytes") as caught:
        checked_query_id("é" * 1001)
    assert len(str(caught.value)) < 300


def test_text_loses_only_what_postgresql_rejects() -> None:
    assert clean_text("plain") == "plain"
    assert clean_text("é 漢 🙂") == "é 漢 🙂"
    assert clean_text("a\x00b") == "a\ufffdb"
    assert clean_text("a\ud800b") == "a?b"
    assert clean_text(5) == "5"


def test_metadata_is_a_mapping_that_json_can_represent() -> None:
    assert checked_json(None, "metadata") is None
    assert checked_json(MappingProxyType({"a": T0}), "metadata") == {"a": T0}
    circular: dict[str, Any] = {}
    circular["self"] = circular
    for wrong in ("text", [1], {(1, 2): 3}, circular):
        with pytest.raises(RecordError, match="metadata"):
            checked_json(wrong, "metadata")


# -- journal events ---------------------------------------------------------------------------------------------------


def test_an_event_is_json_with_omitted_fields_from_the_context() -> None:
    event = event_of_record(
        record(
            iteration=0, metadata=MappingProxyType({"a": 1}), start_time=T0.astimezone(timezone(timedelta(hours=3)))
        ),
        {"iteration": 5, "model_type": "sub", "unknown": 1, "current_depth": None},
    )
    assert event["kind"] == "record"
    assert (event["iteration"], event["model_type"], event["current_depth"]) == (0, "sub", None)
    assert event["run_id"] == event["start_time"] == "2026-03-01T12:00:00+00:00"
    assert event["cached_tokens"] == 0
    assert set(event) == {"kind", *COLUMNS}
    assert json.loads(json.dumps(event))["metadata"] == {"a": 1}


def test_the_first_twelve_fields_may_be_positional_and_no_others() -> None:
    given = LLMInteractionRecord("q", T0, "gpt-5", "root", 1500, 20, 1520, 1200, 300, 0.001, 0.008, 0.0005)
    assert given == record(
        model="gpt-5",
        model_type="root",
        prompt_tokens=1500,
        completion_tokens=20,
        total_tokens=1520,
        cached_tokens=1200,
        uncached_prompt_tokens=300,
        prompt_token_price=0.001,
        completion_token_price=0.008,
        total_cost=0.0005,
    )
    with pytest.raises(TypeError, match="positional"):
        LLMInteractionRecord("q", T0, "gpt-5", "root", 1500, 20, 1520, 1200, 300, 0.001, 0.008, 0.0005, 1)  # type: ignore[misc]


@pytest.mark.parametrize("value", [{"item": "web_search"}, "web_search", 1])
def test_charges_that_are_not_a_list_are_refused(value: Any) -> None:
    with pytest.raises(RecordError, match="expected a list"):
        record(charges=value).check()


def test_a_batch_counts_everything_in_it() -> None:
    batch = RecordBatch(
        [("row",)], [RunStart("q", T0, T0)], [RunEnd("q", T0, T0), RunEnd("r", T0, T0)], [RunKey("q", T0)]
    )
    assert len(batch) == 5
    assert len(RecordBatch()) == 0
    assert batch.run_ends[0].status == "completed"


def test_any_object_with_store_and_close_is_a_sink() -> None:
    class Sink:
        def store(self, batch: RecordBatch) -> None: ...

        def close(self) -> None: ...

    assert isinstance(Sink(), RecordSink)
    assert not isinstance(object(), RecordSink)
