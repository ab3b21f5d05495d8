"""Counts are normalized only if the usage proves it, and contradictions are flagged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from rlm_cachetrack.usage import TokenUsage, plain, read_usage
from tests.unit.usage.samples import chat


def test_cached_tokens_outside_the_prompt_are_added_and_flagged() -> None:
    """Grok on Azure: 163 cached tokens cannot be part of 7 prompt tokens."""
    raw = chat(7, 1, 8, prompt_tokens_details={"text_tokens": 7, "cached_tokens": 163}, num_sources_used=0)
    assert read_usage(raw) == TokenUsage(170, 1, 171, 163, None, None, None, "cached_outside_prompt", "xai-chat")


def test_a_total_that_includes_cached_tokens_proves_them_outside_the_prompt() -> None:
    raw = chat(100, 10, 160, prompt_tokens_details={"cached_tokens": 50})
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.total_tokens, reading.cached_tokens) == (150, 160, 50)
    assert reading.anomaly == "cached_outside_prompt"


def test_reasoning_and_cached_tokens_can_both_be_outside() -> None:
    raw = chat(
        100,
        10,
        190,
        prompt_tokens_details={"cached_tokens": 50},
        completion_tokens_details={"reasoning_tokens": 30},
    )
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == (150, 40, 190)


def test_written_tokens_of_anthropic_are_outside_the_prompt_like_cached_ones() -> None:
    raw = chat(10, 5, 15, cache_read_input_tokens=0, cache_creation_input_tokens=4000)
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.cached_tokens, reading.cache_write_tokens) == (4010, 0, 4000)


def test_anthropic_counts_that_add_up_to_the_total_stay() -> None:
    raw = {"input_tokens": 323, "output_tokens": 7, "total_tokens": 330, "cache_read_input_tokens": 300}
    assert read_usage(raw) == TokenUsage(323, 7, 330, 300, dialect="anthropic")


@pytest.mark.parametrize(
    ("raw", "provider"),
    [
        (chat(100, 10, 110, prompt_tokens_details={"cached_tokens": 120}), "openai"),
        (chat(100, 10, 110, prompt_cache_hit_tokens=120, prompt_cache_miss_tokens=0), None),
        (
            {
                "input_tokens": 100,
                "output_tokens": 10,
                "total_tokens": 110,
                "input_tokens_details": {"cached_tokens": 120},
            },
            None,
        ),
    ],
)
def test_an_impossible_cached_count_of_an_inside_dialect_is_dropped_and_flagged(
    raw: dict[str, Any], provider: str | None
) -> None:
    reading = read_usage(raw, provider=provider)
    assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == (100, 10, 110)
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_exceeds_prompt"


def test_an_impossible_cached_count_is_not_added_against_the_total() -> None:
    reading = read_usage(chat(100, 10, 117, prompt_tokens_details={"cached_tokens": 120}))
    assert (reading.prompt_tokens, reading.total_tokens, reading.cached_tokens) == (100, 117, None)
    assert reading.anomaly == "total_mismatch,cached_exceeds_prompt"


def test_counts_are_not_added_if_the_sum_exceeds_the_column() -> None:
    most = 2**31 - 1
    reading = read_usage(chat(most - 1, 0, most - 1, prompt_tokens_details={"cached_tokens": most}))
    assert reading.prompt_tokens == most - 1
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_exceeds_prompt"


def test_reasoning_is_added_only_if_the_total_proves_it() -> None:
    inside = chat(20, 30, 50, completion_tokens_details={"reasoning_tokens": 12})
    assert read_usage(inside).completion_tokens == 30
    beyond = chat(9, 52, 61, completion_tokens_details={"reasoning_tokens": 232})
    reading = read_usage(beyond)
    assert (reading.completion_tokens, reading.reasoning_tokens) == (52, 232)
    assert reading.anomaly == "reasoning_exceeds_completion"


def test_xai_reasoning_is_added_to_completion_without_a_total() -> None:
    raw = {
        "prompt_tokens": 20,
        "completion_tokens": 30,
        "completion_tokens_details": {"reasoning_tokens": 12},
        "num_sources_used": 0,
    }
    assert read_usage(raw).completion_tokens == 42


def test_more_written_than_uncached_tokens_are_flagged_and_kept() -> None:
    raw = chat(2168, 100, 2268, prompt_tokens_details={"cached_tokens": 2161, "cache_write_tokens": 2161})
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.cached_tokens, reading.cache_write_tokens) == (2168, 2161, 2161)
    assert reading.anomaly == "cache_write_exceeds_uncached"


def test_cached_tokens_without_a_prompt_are_dropped_and_flagged() -> None:
    reading = read_usage({"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 50}})
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_without_prompt"
    none_cached = read_usage({"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}})
    assert (none_cached.cached_tokens, none_cached.anomaly) == (0, None)


@pytest.mark.parametrize(
    "bad", ["ten", "1.5", "-1", "99999999999", 1.5, -1, True, 2**31, [], {}, math.nan, math.inf, b"1", 10**400]
)
def test_malformed_counts_are_not_reported_and_valid_ones_are_kept(bad: object) -> None:
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        raw = chat(10, 5, 15, prompt_tokens_details={"cached_tokens": 0})
        raw[field] = bad
        reading = read_usage(raw)
        sound = {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "cached_tokens": 0,
            field: None,
        }
        assert {name: getattr(reading, name) for name in sound} == sound
        assert reading.anomaly == "malformed"
    nested = read_usage(chat(10, 5, 15, prompt_tokens_details={"cached_tokens": bad}))
    assert (nested.prompt_tokens, nested.cached_tokens, nested.anomaly) == (10, None, "malformed")


def test_whole_numbers_written_as_floats_are_valid() -> None:
    assert read_usage(chat(10.0, 5, 15.0)) == TokenUsage(10, 5, 15, dialect="openai-compatible")


def test_whole_numbers_written_as_text_are_valid_as_in_the_sdk() -> None:
    raw = chat("10", "5", 15, prompt_tokens_details={"cached_tokens": "8"})
    assert read_usage(raw) == TokenUsage(10, 5, 15, 8, dialect="openai-compatible")
    completion = ChatCompletion.construct(id="1", choices=[], usage=raw)
    assert read_usage(plain(completion.usage)) == read_usage(raw)


@pytest.mark.parametrize("details", ["text", 3, [], True, {}, {"cached_tokens": None}])
def test_malformed_details_are_not_reported(details: object) -> None:
    assert read_usage(chat(10, 5, 15, prompt_tokens_details=details)).cached_tokens is None


@pytest.mark.parametrize("bad", ["0.5", -0.1, math.nan, math.inf, True, [1]])
def test_a_malformed_cost_is_none(bad: object) -> None:
    reading = read_usage(chat(10, 5, 15, cost=bad))
    assert (reading.provider_cost_usd, reading.prompt_tokens, reading.anomaly) == (None, 10, "malformed")


def test_a_returned_cost_of_zero_is_kept() -> None:
    assert read_usage(chat(10, 5, 15, cost=0)).provider_cost_usd == 0.0
    assert read_usage(chat(10, 5, 15, cost=None)).provider_cost_usd is None


def test_arbitrary_usages_never_raise_and_never_give_a_rate_over_one() -> None:
    values = (None, 0, 7, 163, 10**12, -3, 2.5, "x", True, [], {"cached_tokens": 9, "reasoning_tokens": 9})
    fields = (
        "prompt_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "cache_creation_input_tokens",
        "cost",
        "input_tokens",
    )
    for number in range(len(values) ** 4):
        raw = {"completion_tokens": 7, "total_tokens": 170}
        rest = number
        for field in fields[number % 3 :][:4]:
            rest, index = divmod(rest, len(values))
            raw[field] = values[index]  # type: ignore[assignment]
        reading = read_usage(raw)
        if reading.cached_tokens is not None and reading.prompt_tokens is not None:
            assert reading.cached_tokens <= reading.prompt_tokens
