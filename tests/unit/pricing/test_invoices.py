"""Invoices computed by hand: from the usage as the server sends it to the total and the original cost.

Every expected amount is written as tokens times the published price in USD per 1M tokens, plus fees in USD. Prices were
read on 2026-12-01 on the pages of ``SOURCES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.usage import read_usage

from .samples import usd

SOURCES = {
    "openai": "https://developers.openai.com/api/docs/pricing",
    "residency": "https://developers.openai.com/api/docs/guides/data-residency",
    "windows": "https://developers.openai.com/api/docs/guides/flex-processing",
    "sol": "https://developers.openai.com/api/docs/models/gpt-6.2-sol",
    "anthropic": "https://platform.claude.com/docs/en/about-claude/pricing",
    "google": "https://ai.google.dev/gemini-api/docs/pricing",
    "perplexity": "https://docs.perplexity.ai/guides/pricing",
    "deepseek": "https://api-docs.deepseek.com/quick_start/pricing",
    "moonshot": "https://platform.moonshot.ai/docs/pricing/chat",
    "groq": "https://groq.com/pricing",
    "mistral": "https://mistral.ai/pricing",
    "openrouter": "https://openrouter.ai/docs/features/prompt-caching",
}
NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday
M = 1_000_000


class Invoice(NamedTuple):
    source: str
    model: str
    usage: dict[str, Any]
    total: float
    original: float
    more: Mapping[str, Any] = MappingProxyType({})


def chat(prompt: int, completion: int, given: dict[str, Any] | None = None, made: dict[str, Any] | None = None) -> Any:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **(given or {})},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, **(made or {})},
    }


def responses(prompt: int, completion: int, cached: int = 0, written: int = 0, long: int | None = None) -> Any:
    details: dict[str, Any] = {"cached_tokens": cached, "cache_write_tokens": written}
    if long is not None:
        details["cache_write_tokens_details"] = {"ttl_12h_tokens": long, "ttl_30m_tokens": written - long}
    return {
        "input_tokens": prompt,
        "input_tokens_details": details,
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


def claude(uncached: int, completion: int, read: int = 0, five: int = 0, hour: int = 0, searches: int = 0) -> Any:
    """Return a usage of Anthropic's own format, in which the input leaves out what was read and written."""
    usage: dict[str, Any] = {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": completion,
    }
    return usage | ({"server_tool_use": {"web_search_requests": searches}} if searches else {})


def realtime(heard: int, read: int, spoken: int, written: int, cached: tuple[int, int] = (0, 0)) -> Any:
    """Return a usage of the Realtime API: audio and text in and out, and cached audio and text."""
    return {
        "total_tokens": heard + read + spoken + written,
        "input_tokens": heard + read,
        "output_tokens": spoken + written,
        "input_token_details": {
            "text_tokens": read,
            "audio_tokens": heard,
            "image_tokens": 0,
            "cached_tokens": sum(cached),
            "cached_tokens_details": {"audio_tokens": cached[0], "text_tokens": cached[1], "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
    }


EU, US = {"options": {"region": "eu"}}, {"options": {"region": "us"}}
TWO, EIGHT = {"options": {"completion_window": "2h"}}, {"options": {"completion_window": "8h"}}
FLEX, BATCH, FAST = {"service_tier": "flex"}, {"service_tier": "batch"}, {"service_tier": "priority"}
ULTRA = {"service_tier": "ultrafast"}


def tools(**uses: Any) -> dict[str, Any]:
    return {"tools": uses}


def at(*when: int) -> dict[str, Any]:
    return {"at": datetime(*when, tzinfo=UTC)}  # type: ignore[misc,arg-type]


IMAGE = {
    "calls": 1,
    "model": "gpt-image-1.5",
    "prompt_tokens": 1_200,
    "image_prompt_tokens": 1_000,
    "completion_tokens": 4_160,
    "total_tokens": 5_360,
}

OPENAI = [
    # -- cache writes by retention: 30 minutes 1.25 x input, 12 hours 2.5 x input
    Invoice(
        "openai",
        "gpt-6.1-terra",
        responses(100_100, 100, 0, 100_000, 100_000),
        (100 * 1 + 100_000 * 2.5 + 500) / M,
        100_600 / M,
    ),
    Invoice(
        "openai",
        "gpt-6.1-terra",
        responses(100_100, 100, 0, 100_000, 60_000),
        (100 + 60_000 * 2.5 + 40_000 * 1.25 + 500) / M,
        100_600 / M,
    ),
    Invoice(
        "openai",
        "gpt-6.1-terra",
        responses(9_000, 200, 5_000, 3_000, 3_000),
        (1_000 + 5_000 * 0.05 + 3_000 * 2.5 + 1_000) / M,
        10_000 / M,
    ),
    Invoice(
        "openai",
        "gpt-6.1-sol",
        responses(10_000, 500, 6_000, 3_000, 1_000),
        (1_000 * 2 + 6_000 * 0.1 + 1_000 * 5 + 2_000 * 2.5 + 5_000) / M,
        25_000 / M,
    ),
    Invoice(
        "openai",
        "gpt-6.1-sol",
        responses(300_000, 1_000, 0, 200_000, 200_000),
        (100_000 * 4 + 200_000 * 10 + 15_000) / M,
        (300_000 * 4 + 15_000) / M,
    ),
    Invoice("openai", "gpt-6.1-terra", responses(10_000, 0, 0, 10_000, 10_000), 10_000 * 1.25 / M, 5_000 / M, FLEX),
    Invoice("openai", "gpt-6.1-terra", responses(10_000, 0, 0, 10_000, 10_000), 10_000 * 5 / M, 20_000 / M, FAST),
    Invoice(
        "openai",
        "gpt-6-luna",
        responses(10_000, 100, 0, 8_000, 8_000),
        (2_000 * 0.1 + 8_000 * 0.25 + 50) / M,
        1_050 / M,
    ),
    Invoice(
        "openai",
        "gpt-5.6-sol",
        responses(10_000, 100, 0, 8_000, 8_000),
        (2_000 * 4 + 8_000 * 10 + 2_000) / M,
        42_000 / M,
    ),
    Invoice(
        "openai",
        "gpt-6-astra",
        responses(10_000, 100, 0, 8_000, 4_000),
        (2_000 * 10 + 4_000 * 25 + 4_000 * 12.5 + 5_000) / M,
        105_000 / M,
    ),
    Invoice(
        "sol",
        "gpt-6.2-sol",
        responses(10_000, 100, 1_000, 8_000, 4_000),
        (1_000 * 2 + 100 + 4_000 * 5 + 4_000 * 2.5 + 1_000) / M,
        21_000 / M,
    ),
    Invoice("sol", "gpt-6.2-sol", responses(272_001, 100), (272_001 * 4 + 1_500) / M, (272_001 * 4 + 1_500) / M),
    Invoice("sol", "gpt-6.2-sol", responses(1_000, 100), 3_000 * 3 / M, 9_000 / M, ULTRA | at(2026, 12, 1)),
    Invoice("sol", "gpt-6.2-sol", responses(1_000, 100), 3_000 * 6 / M, 18_000 / M, ULTRA | at(2027, 3, 1)),
    Invoice("sol", "gpt-6.2-sol", responses(1_000, 100), 1_500 / M, 1_500 / M, BATCH),
    # -- regions: 10 % more for models since gpt-5.4
    Invoice("residency", "gpt-6.1-terra", responses(1_000, 200), 2_000 * 1.1 / M, 2_200 / M, EU),
    Invoice("residency", "gpt-6.1-terra", responses(1_000, 200), 2_000 * 1.1 / M, 2_200 / M, US),
    Invoice(
        "residency", "gpt-6.1-terra", responses(1_000, 200, 800), (200 + 800 * 0.05 + 1_000) * 1.1 / M, 2_200 / M, EU
    ),
    Invoice("residency", "gpt-5.4", responses(1_000, 200), (2_500 + 3_000) * 1.1 / M, 6_050 / M, EU),
    Invoice("residency", "gpt-5.4-mini", responses(1_000, 200), (750 + 900) * 1.1 / M, 1_815 / M, EU),
    Invoice("residency", "gpt-5.2", responses(1_000, 200), (1_750 + 2_800) / M, 4_550 / M, EU),
    Invoice("residency", "gpt-4o", responses(1_000, 200), 4_500 / M, 4_500 / M, EU),
    Invoice("residency", "o3", responses(1_000, 200), 3_600 / M, 3_600 / M, EU),
    Invoice("residency", "gpt-6.1-terra", responses(1_000, 200), 1_000 * 1.1 / M, 1_100 / M, EU | BATCH),
    Invoice("residency", "gpt-6.1-terra", responses(1_000, 200), 4_000 * 1.1 / M, 4_400 / M, EU | FAST),
    Invoice("residency", "gpt-6.1-terra", responses(1_000, 200), 0.0022 + 0.01, 0.0122, EU | tools(web_search=1)),
    Invoice("residency", "gpt-6.1-terra", responses(300_000, 200), (600_000 + 1_500) * 1.1 / M, 601_500 * 1.1 / M, EU),
    # -- completion windows of background responses
    Invoice("windows", "gpt-6.1-sol", responses(100_000, 1_000), 210_000 * 0.6 / M, 0.126, EIGHT),
    Invoice("windows", "gpt-6.1-sol", responses(100_000, 1_000), 210_000 * 0.7 / M, 0.147, TWO),
    Invoice(
        "windows", "gpt-6.1-sol", responses(100_000, 1_000, 50_000), (100_000 + 5_000 + 10_000) * 0.6 / M, 0.126, EIGHT
    ),
    Invoice(
        "windows", "gpt-6.1-terra", responses(1_000, 200, 0, 800, 800), (200 + 2_000 + 1_000) * 0.7 / M, 0.0014, TWO
    ),
    Invoice(
        "windows",
        "gpt-6.1-sol",
        responses(1_000, 100),
        3_000 * 0.6 * 1.1 / M,
        0.00198,
        {"options": {"region": "eu", "completion_window": "8h"}},
    ),
    Invoice(
        "windows", "gpt-6.1-sol", responses(1_000, 100), 3_000 * 0.6 / M + 0.02, 0.0218, EIGHT | tools(web_search=2)
    ),
    Invoice(
        "windows", "gpt-6.1-sol", responses(300_000, 100), (1_200_000 + 1_500) * 0.6 / M, 1_201_500 * 0.6 / M, EIGHT
    ),
    # -- hosted tools: web search 10, file search 2.50 per 1,000 calls
    Invoice("openai", "gpt-5-mini", responses(1_000, 200), 650 / M + 0.02, 0.02065, tools(web_search=2)),
    Invoice("openai", "gpt-5-mini", responses(1_000, 200), 650 / M + 0.0025, 0.00315, tools(file_search=1)),
    Invoice(
        "openai", "gpt-5-nano", responses(1_000, 200), 130 / M + 0.015, 0.01513, tools(web_search=1, file_search=2)
    ),
    Invoice("openai", "gpt-4.1", responses(1_000, 200), 3_600 / M + 0.03, 0.0336, tools(web_search=3)),
    Invoice("openai", "gpt-4o", responses(1_000, 200), 4_500 / M + 0.05, 0.0545, tools(web_search_preview=2)),
    Invoice("openai", "gpt-5", responses(1_000, 200), 3_250 / M + 0.02, 0.02325, tools(web_search_preview=2)),
    Invoice("openai", "gpt-5.3-codex", responses(1_000, 200), 4_550 / M + 0.01, 0.01455, tools(web_search=1)),
    Invoice(
        "openai",
        "o3-deep-research",
        responses(50_000, 2_000, 20_000),
        (300_000 + 50_000 + 80_000) / M + 0.4,
        0.98,
        tools(web_search=40),
    ),
    Invoice("openai", "gpt-5-mini", responses(1_000, 200), 325 / M + 0.01, 0.010325, tools(web_search=1) | BATCH),
    Invoice("openai", "gpt-5-mini", responses(1_000, 200), 650 / M, 0.00065, tools(code_interpreter=2)),
    Invoice(
        "openai",
        "gpt-5-mini",
        responses(1_000, 200),
        (650 + 200 * 5 + 1_000 * 8 + 4_160 * 32) / M,
        0.14277,
        tools(image_generation=IMAGE),
    ),
    # -- chat models that search, for a fee per request
    Invoice("openai", "gpt-4o-search-preview", chat(1_000, 200), 4_500 / M + 0.025, 0.0295),
    Invoice("openai", "gpt-4o-mini-search-preview", chat(1_000, 200), 270 / M + 0.025, 0.02527),
    Invoice("openai", "gpt-5-search-api", chat(1_000, 200), 3_250 / M + 0.01, 0.01325),
    # -- fine-tuned models, also with cached input, in a batch, and with a base without a date
    Invoice("openai", "ft:gpt-4o-2024-08-06:org::id", chat(1_000, 100, {"cached_tokens": 500}), 0.0043125, 0.00525),
    Invoice(
        "openai",
        "ft:gpt-4o-2024-08-06:org::id",
        chat(1_000, 100, {"cached_tokens": 500}),
        (500 * 2.225 + 500 * 0.90 + 100 * 12.50) / M,
        (1_000 * 2.225 + 100 * 12.50) / M,
        BATCH,
    ),
    Invoice(
        "openai",
        "ft:gpt-4o-mini:org::id",
        chat(1_000, 100, {"cached_tokens": 500}),
        (500 * 0.3 + 500 * 0.15 + 120) / M,
        0.00042,
    ),
    Invoice(
        "openai",
        "ft:gpt-4.1-mini:org::id",
        chat(1_000, 100, {"cached_tokens": 500}),
        (500 * 0.8 + 500 * 0.2 + 320) / M,
        0.00112,
    ),
    # -- audio and images
    Invoice(
        "openai",
        "gpt-audio-2025-08-28",
        chat(17, 592, None, {"audio_tokens": 482}),
        (17 * 2.5 + 110 * 10 + 482 * 64) / M,
        0.0319905,
    ),
    Invoice(
        "openai",
        "gpt-audio-mini-2025-12-15",
        chat(1_000, 100, {"audio_tokens": 900}),
        (100 * 0.6 + 900 * 10 + 240) / M,
        0.0093,
    ),
    Invoice(
        "openai",
        "gpt-audio",
        chat(1_000, 100, {"audio_tokens": 1_000}, {"audio_tokens": 100}),
        (32_000 + 6_400) / M,
        0.0384,
    ),
    Invoice("openai", "gpt-realtime", realtime(1_000, 500, 200, 50), (32_000 + 2_000 + 200 * 64 + 50 * 16) / M, 0.0476),
    Invoice(
        "openai",
        "gpt-realtime",
        realtime(1_000, 500, 200, 50, (600, 300)),
        (400 * 32 + 600 * 0.4 + 200 * 4 + 300 * 0.4 + 12_800 + 800) / M,
        0.0476,
    ),
    Invoice(
        "openai",
        "gpt-realtime-mini",
        realtime(1_000, 500, 200, 50, (600, 300)),
        (400 * 10 + 600 * 0.3 + 200 * 0.6 + 300 * 0.06 + 4_000 + 120) / M,
        0.01442,
    ),
    Invoice("openai", "gpt-realtime", chat(1_000, 100, {"image_tokens": 600}), (400 * 4 + 600 * 5 + 1_600) / M, 0.0062),
    Invoice("openai", "gpt-5-mini", chat(1_000, 200, {"image_tokens": 700}), 650 / M, 0.00065),  # images as text
    Invoice("openai", "gpt-4o", chat(1_000, 200, None, {"rejected_prediction_tokens": 80}), 4_500 / M, 0.0045),
    Invoice("openai", "gpt-4o", chat(1_000, 200, None, {"accepted_prediction_tokens": 120}), 4_500 / M, 0.0045),
]
OTHERS = [
    Invoice(
        "anthropic",
        "claude-sonnet-4-5",
        claude(100, 100, hour=20_000),
        (300 + 20_000 * 6 + 1_500) / M,
        (60_300 + 1_500) / M,
    ),
    Invoice("anthropic", "claude-sonnet-4-5", claude(100, 100, five=20_000), (300 + 20_000 * 3.75 + 1_500) / M, 0.0618),
    Invoice(
        "anthropic",
        "claude-sonnet-4-5",
        claude(100, 100, 5_000, 8_000, 2_000),
        (300 + 1_500 + 30_000 + 12_000 + 1_500) / M,
        (45_300 + 1_500) / M,
    ),
    Invoice("anthropic", "claude-haiku-4-5", claude(1_000, 100, hour=1_000), (1_000 + 2_000 + 500) / M, 0.0025),
    Invoice("anthropic", "claude-haiku-4-5", claude(1_000, 100, hour=1_000), (500 + 1_000 + 250) / M, 0.00125, BATCH),
    Invoice(
        "anthropic",
        "claude-opus-5-5",
        claude(1_000, 100, 9_000, hour=1_000),
        (4_000 + 1_800 + 8_000 + 2_000) / M,
        0.046,
    ),
    Invoice("anthropic", "claude-sonnet-5-5", claude(1_000, 100, hour=1_000), (2_000 + 4_000 + 1_000) / M, 0.005),
    Invoice(
        "anthropic",
        "claude-haiku-5-5",
        claude(1_000, 100, hour=120_000),
        (500 + 120_000 * 1 + 250) / M,
        (60_500 + 250) / M,
    ),
    Invoice("anthropic", "claude-haiku-5-5", claude(1_000, 100, hour=10_000), (100 + 2_000 + 50) / M, 0.00115),
    Invoice("anthropic", "claude-fable-5-2", claude(1_000, 100, searches=3), (8_000 + 4_000) / M + 0.03, 0.042),
    Invoice(
        "google", "gemini-2.5-flash", chat(1_000, 100, {"audio_tokens": 600}), (400 * 0.3 + 600 * 1 + 250) / M, 0.00097
    ),
    Invoice("google", "gemini-2.5-flash-lite", chat(1_000, 100, {"audio_tokens": 1_000}), (300 + 40) / M, 0.00034),
    Invoice(
        "google",
        "gemini-3.1-flash-lite",
        chat(1_000, 100, {"audio_tokens": 400}),
        (600 * 0.25 + 400 * 0.5 + 150) / M,
        0.0005,
    ),
    Invoice(
        "google",
        "gemini-2.5-flash-image",
        chat(1_000, 1_290, None, {"image_tokens": 1_290}),
        (300 + 1_290 * 30) / M,
        0.039,
    ),
    Invoice("google", "gemini-3.8-flash", chat(1_000, 100), (750 + 375) / M, 0.001125),
    Invoice("google", "gemini-3.8-flash", chat(1_000, 100), (1_500 + 750) / M, 0.00225, at(2027, 1, 1)),
    Invoice(
        "perplexity",
        "sonar-pro",
        {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100, "search_context_size": "low"},
        (3_000 + 1_500) / M + 0.006,
        0.0105,
    ),
    Invoice(
        "perplexity",
        "sonar",
        chat(1_000, 100),
        (1_000 + 100) / M + 0.012,
        0.0131,
        {"options": {"search_context_size": "high"}},
    ),
    Invoice(
        "perplexity",
        "sonar-deep-research",
        {
            "prompt_tokens": 33,
            "completion_tokens": 7_163,
            "total_tokens": 7_196,
            "citation_tokens": 20_016,
            "num_search_queries": 18,
            "reasoning_tokens": 73_997,
        },
        (33 * 2 + 7_163 * 8 + 20_016 * 2 + 73_997 * 3) / M + 18 * 0.005,
        (33 * 2 + 7_163 * 8 + 20_016 * 2 + 73_997 * 3) / M + 18 * 0.005,
    ),
    Invoice(
        "deepseek", "deepseek-v4-flash", chat(1_000, 100), (150 + 60) / M, 0.00021, at(2026, 11, 21, 2)
    ),  # Saturday
    Invoice("deepseek", "deepseek-v4-flash", chat(1_000, 100), (300 + 120) / M, 0.00042, at(2026, 11, 20, 2)),  # Friday
    Invoice(
        "deepseek",
        "deepseek-v4-pro",
        chat(1_000, 100, {"cached_tokens": 800}),
        (132 + 17.6 + 198) / M,
        0.000858,
        at(2026, 11, 22, 7),
    ),  # Sunday
    Invoice(
        "deepseek",
        "deepseek-v4-pro",
        chat(1_000, 100, {"cached_tokens": 800}),
        (264 + 35.2 + 396) / M,
        0.001716,
        at(2026, 11, 23, 7),
    ),  # Monday
    Invoice("moonshot", "kimi-k3", chat(1_000, 100, {"cached_tokens": 500}), (1_500 + 150 + 1_500) / M, 0.0045),
    Invoice("groq", "openai/gpt-oss-120b", chat(1_000, 100, {"cached_tokens": 500}), (75 + 37.5 + 60) / M, 0.00021),
    Invoice(
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        chat(3_000, 100, {"cached_tokens": 1_000}) | {"cache_creation": {"ephemeral_1h_input_tokens": 1_000}},
        (1_000 * 3 + 1_000 * 0.3 + 1_000 * 6 + 1_500) / M,
        0.0105,
    ),
    Invoice(
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        chat(210_000, 100) | {"cache_creation": {"ephemeral_1h_input_tokens": 10_000}},
        (200_000 * 6 + 10_000 * 12 + 2_250) / M,
        (210_000 * 6 + 2_250) / M,
    ),
    Invoice("mistral", "mistral-large-2512", chat(1_000, 100, {"cached_tokens": 500}), (250 + 25 + 150) / M, 0.00065),
]


def names(invoices: list[Invoice]) -> list[str]:
    return [f"{number}-{invoice.model}" for number, invoice in enumerate(invoices)]


@pytest.mark.parametrize("invoice", [*OPENAI, *OTHERS], ids=names([*OPENAI, *OTHERS]))
def test_the_cost_agrees_with_the_invoice(built_in: PriceBook, invoice: Invoice) -> None:
    provider = "openai" if invoice.source in ("openai", "residency", "windows", "sol") else invoice.source
    usage = read_usage(invoice.usage, provider=provider)
    uses = {**(usage.tools or {}), **invoice.more.get("tools", {})} or None
    more = {"at": NOW, **invoice.more, "tools": uses}
    cost = built_in.cost(usage, model=invoice.model, provider=provider, **more)
    assert cost.unpriced_reason is None
    assert cost.total_cost == usd(invoice.total)
    assert cost.original_cost == usd(invoice.original)
    rest = cost.total_cost - sum(charge["amount"] for charge in cost.charges or ())
    assert rest >= -1e-12
    for charge in cost.charges or ():
        assert charge["amount"] == usd(charge["quantity"] * charge["price"])


@pytest.mark.parametrize(
    ("model", "usage", "more", "reason"),
    [
        ("gpt-4o-audio-preview", chat(100, 10, {"audio_tokens": 50}), {}, "audio input tokens"),
        ("gpt-4o-mini-audio-preview", chat(100, 10, None, {"audio_tokens": 5}), {}, "audio output tokens"),
        ("gpt-5-mini", chat(100, 10, {"audio_tokens": 50}), {}, "audio input tokens"),
        ("gpt-4.1-nano", responses(100, 10, 0, 50, 50), {}, "cache writes with 12-hour retention"),
        ("gpt-5-mini", responses(100, 10), tools(teleport=1), "teleport calls"),
        (
            "gpt-5-mini",
            responses(100, 10),
            tools(image_generation={"calls": 1, "model": "gpt-image-1.5"}),
            "image generation",
        ),
        (
            "gpt-5-mini",
            responses(100, 10),
            tools(image_generation={**IMAGE, "model": "no-such-model"}),
            "no-such-model",
        ),
        ("gpt-5-mini", responses(100, 10), EIGHT, "completion window 8h"),
    ],
)
def test_a_component_without_a_price_leaves_the_cost_unknown(built_in, model, usage, more, reason):
    cost = built_in.cost(read_usage(usage, provider="openai"), model=model, provider="openai", **{"at": NOW, **more})
    assert cost.total_cost is cost.original_cost is None
    assert reason in (cost.unpriced_reason or "")
    assert model in (cost.unpriced_reason or "")
