"""The options of a request that affect price or cache: from both APIs, and never content."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack.usage import read_cache_options, read_request_options


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [], "model": "m", "temperature": 1}, {}),
        ({"reasoning_effort": "low", "verbosity": "high"}, {"reasoning_effort": "low", "verbosity": "high"}),
        (
            {"reasoning": {"effort": "low"}, "text": {"verbosity": "high"}},
            {"reasoning_effort": "low", "verbosity": "high"},
        ),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"service_tier": "auto"}, {}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"prompt_cache_retention": "24h"}, {"cache_retention": "24h"}),
        (
            {"prompt_cache_options": {"mode": "explicit", "ttl": "12h", "prewarm": True}},
            {"cache_mode": "explicit", "cache_ttl": "12h", "prewarm": True},
        ),
        (
            {"context_management": [{"type": "compaction", "compact_threshold": 9000}]},
            {"context_management": True},
        ),
        (
            {"background": True, "background_options": {"completion_window": "8h"}},
            {"completion_window": "8h"},
        ),
        ({"background_options": {"completion_window": "8h"}}, {}),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"cache_mode": "automatic", "cache_ttl": "1h"}),
        ({"response_format": {"type": "json_object"}}, {"text_format": "a hash"}),
        ({"text": {"format": {"type": "json_schema"}}}, {"text_format": "a hash"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tool_choice": "auto"}, {}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "any"}),
        ({"tool_choice": {"type": "auto"}}, {}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"tool_choice": "tool a hash"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, {"thinking": "enabled 4096"}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": "adaptive"}),
        ({"reasoning": {"max_tokens": 2000}}, {"thinking": "enabled 2000"}),
        ({"reasoning": {"enabled": False}}, {"thinking": "disabled"}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"verbosity": "a text that is far too long to be the value of an option"}, {}),
    ],
)
def test_the_options_of_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read_request_options(body, lambda form: "a hash") == expected


def test_the_lifetime_of_a_marked_part_is_read() -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {"messages": [{"role": "system", "content": [part]}]}
    assert read_request_options(body, marked=True) == {"cache_ttl": "1h"}
    assert read_request_options(body) == {}


def test_what_a_response_states() -> None:
    stated = {"prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit", "ttl": "30m"}}
    assert read_cache_options(stated) == {"cache_retention": "24h", "cache_mode": "implicit", "cache_ttl": "30m"}
    assert read_cache_options({"prompt_cache_retention": None}) == {}
