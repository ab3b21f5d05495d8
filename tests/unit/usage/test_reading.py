"""Usages of every dialect are read correctly."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack.usage import reading
from rlm_cachetrack.usage.dialects import _with_all_spellings
from rlm_cachetrack.usage.reading import DIALECTS, NO_USAGE, TokenUsage, read_usage
from tests.support.realtime_events import USAGE as REALTIME_USAGE
from tests.unit.usage.samples import CHAT_USAGE, RESPONSES_USAGE, chat

ROOT = Path(__file__).resolve().parents[3]


READINGS = [
    pytest.param(
        CHAT_USAGE,
        "openai",
        TokenUsage(2006, 300, 2306, 1920, None, 128, dialect="openai-chat"),
        id="openai chat",
    ),
    pytest.param(
        chat(2006, 300, 2306, prompt_tokens_details={"cached_tokens": 1920, "cache_write_tokens": 80}),
        None,
        TokenUsage(2006, 300, 2306, 1920, 80, None, dialect="openai-compatible"),
        id="chat with cache writes",
    ),
    pytest.param(
        RESPONSES_USAGE,
        "openai",
        TokenUsage(2600, 90, 2690, 2000, 400, 64, dialect="openai-responses"),
        id="openai responses",
    ),
    pytest.param(
        REALTIME_USAGE,
        "openai",
        TokenUsage(
            132,
            121,
            253,
            64,
            dialect="openai-responses",
            details={
                "audio_prompt_tokens": 13,
                "image_prompt_tokens": 30,
                "audio_cached_tokens": 4,
                "audio_completion_tokens": 91,
            },
        ),
        id="openai realtime",
    ),
    pytest.param(
        {"type": "duration", "seconds": 3.5},
        "openai",
        TokenUsage(dialect="openai-responses", details={"seconds": 3.5}),
        id="openai transcription by seconds",
    ),
    pytest.param(CHAT_USAGE, "azure", TokenUsage(2006, 300, 2306, 1920, None, 128, dialect="azure"), id="azure"),
    pytest.param(
        chat(
            540,
            9,
            549,
            prompt_tokens_details={"cached_tokens": 512},
            prompt_cache_hit_tokens=512,
            prompt_cache_miss_tokens=28,
        ),
        None,
        TokenUsage(540, 9, 549, 512, dialect="deepseek"),
        id="deepseek",
    ),
    pytest.param(
        chat(540, 9, 549, prompt_cache_hit_tokens=512, prompt_cache_miss_tokens=28),
        None,
        TokenUsage(540, 9, 549, 512, dialect="deepseek"),
        id="deepseek without details",
    ),
    pytest.param(
        chat(
            360,
            103,
            463,
            cost=0.00042153,
            is_byok=False,
            cost_details={"upstream_inference_cost": 0.0005},
            prompt_tokens_details={"cached_tokens": 43, "cache_write_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 49},
        ),
        None,
        TokenUsage(360, 103, 463, 43, 0, 49, 0.00042153, dialect="openrouter"),
        id="openrouter charges its own cost",
    ),
    pytest.param(
        chat(10, 5, 15, cost=0.25, is_byok=True, cost_details={"upstream_inference_cost": 4.75}),
        None,
        TokenUsage(10, 5, 15, provider_cost_usd=5.0, dialect="openrouter"),
        id="openrouter with the caller's own key: the fee and what upstream charges",
    ),
    pytest.param(
        {**RESPONSES_USAGE, "cost": 0.5, "cost_details": {}},
        None,
        TokenUsage(2600, 90, 2690, 2000, 400, 64, 0.5, dialect="openrouter"),
        id="openrouter responses",
    ),
    pytest.param(
        chat(20, 4, 24, queue_time=0.07, prompt_time=0.01, completion_time=0.009, total_time=0.02),
        None,
        TokenUsage(20, 4, 24, dialect="groq"),
        id="groq reports no cache: not reported, not zero",
    ),
    pytest.param(
        chat(
            154,
            17,
            318,
            prompt_tokens_details={"text_tokens": 154, "cached_tokens": 128},
            completion_tokens_details={"reasoning_tokens": 147},
            num_sources_used=0,
            cost_in_usd_ticks=4681000,
        ),
        None,
        # 154 + 17 + 147 = 318: the reasoning is output besides the 17. 4,681,000 ticks of 1e-10 USD.
        TokenUsage(154, 164, 318, 128, None, 147, 0.0004681, dialect="xai-chat"),
        id="xai chat counts reasoning apart",
    ),
    pytest.param(
        chat(
            205,
            18,
            223,
            prompt_tokens_details={"cached_tokens": 158},
            num_sources_used=0,
            cost_in_usd_ticks=0,
        ),
        "azure",
        TokenUsage(205, 18, 223, 158, dialect="xai-chat"),
        id="grok on azure: ticks of 0 are no cost",
    ),
    pytest.param(
        {
            "input_tokens": 607,
            "input_tokens_details": {"cached_tokens": 192},
            "output_tokens": 104,
            "output_tokens_details": {"reasoning_tokens": 90},
            "total_tokens": 711,
            "cost_in_usd_ticks": 8171500,
        },
        None,
        TokenUsage(607, 104, 711, 192, None, 90, 0.00081715, dialect="xai-responses"),
        id="xai responses count reasoning inside",
    ),
    pytest.param(
        chat(152, 12, 164, num_cached_tokens=151),
        None,
        TokenUsage(152, 12, 164, 151, dialect="mistral"),
        id="mistral, first spelling",
    ),
    pytest.param(
        chat(152, 12, 164, prompt_token_details={"cached_tokens": 151}),
        None,
        TokenUsage(152, 12, 164, 151, dialect="mistral"),
        id="mistral, second spelling",
    ),
    pytest.param(
        chat(177, 38, 215, prompt_tokens_details={"cached_tokens": 64}),
        "mistral",
        TokenUsage(177, 38, 215, 64, dialect="mistral"),
        id="mistral, third spelling",
    ),
    pytest.param(
        chat(
            9,
            100,
            109,
            num_cached_tokens=0,
            prompt_token_details=None,
            prompt_tokens_details={"cached_tokens": 5},
        ),
        None,
        TokenUsage(9, 100, 109, 5, dialect="mistral"),
        id="of several spellings the one that counted",
    ),
    pytest.param(
        chat(2989, 7, 2996, cached_tokens=2989),
        None,
        TokenUsage(2989, 7, 2996, 2989, dialect="moonshot"),
        id="moonshot and together: cached_tokens at the top",
    ),
    pytest.param(
        chat(2316, 30, 2346, cache_read_input_tokens=2048, cache_creation_input_tokens=256, response_cost=0.002),
        "anthropic",
        TokenUsage(2316, 30, 2346, 2048, 256, provider_cost_usd=0.002, dialect="litellm"),
        id="litellm: Anthropic's usage with LiteLLM's cost",
    ),
    pytest.param(
        {"input_tokens": 20, "output_tokens": 5, "total_tokens": 25, "response_cost": None},
        "openai",
        TokenUsage(20, 5, 25, dialect="litellm"),
        id="litellm: Responses, without a cost",
    ),
    pytest.param(
        chat(501, 51, 552, cache_read_input_tokens=400, cache_creation_input_tokens=100),
        None,
        TokenUsage(501, 51, 552, 400, 100, dialect="databricks"),
        id="databricks",
    ),
    pytest.param(
        {
            "input_tokens": 3,
            "output_tokens": 67,
            "cache_read_input_tokens": 300,
            "cache_creation_input_tokens": 20,
        },
        None,
        # Anthropic's own API: the 3 tokens include neither of the two counts.
        TokenUsage(323, 67, None, 300, 20, dialect="anthropic"),
        id="anthropic's own counting",
    ),
    pytest.param(
        chat(
            19,
            93,
            112,
            cost=0.00159375,
            market_cost=0.002,
            is_byok=False,
            cost_details={"upstream_inference_cost": None},
            prompt_tokens_details={"cached_tokens": 0},
            cache_creation_input_tokens=12,
        ),
        None,
        TokenUsage(19, 93, 112, 0, 12, None, 0.00159375, dialect="vercel-gateway"),
        id="vercel gateway",
    ),
    pytest.param(
        chat(2059, 201, 2260, prompt_tokens_details={"cached_tokens": 0, "cache_creation_input_tokens": 2048}),
        None,
        TokenUsage(2059, 201, 2260, 0, 2048, dialect="alibaba"),
        id="alibaba's explicit cache",
    ),
    pytest.param(
        chat(
            2181,
            57,
            2518,
            reasoning_tokens=280,
            traffic_type="ON_DEMAND",
            promptTokensDetails=[{"tokenCount": 2181}],
        ),
        None,
        # 2181 + 57 + 280 = 2518
        TokenUsage(2181, 337, 2518, None, None, 280, dialect="gemini"),
        id="gemini on vertex",
    ),
    pytest.param(
        chat(35, 12, 109),
        "gemini",
        # Only the total includes the thoughts: 109 - 35.
        TokenUsage(35, 74, 109, dialect="gemini"),
        id="gemini's compatible endpoint",
    ),
    pytest.param(
        chat(728, 314, 1042, prompt_tokens_details=None, completion_tokens_details=None),
        "vllm",
        TokenUsage(728, 314, 1042, dialect="vllm"),
        id="vllm and sglang: null details are not reported",
    ),
    pytest.param(
        chat(20, 5, 25, cost={"request_cost": 0.005, "total_cost": 0.00503}, search_context_size="low"),
        None,
        TokenUsage(20, 5, 25, provider_cost_usd=0.00503, dialect="perplexity"),
        id="perplexity",
    ),
    pytest.param(
        {
            "input_tokens": 1000,
            "output_tokens": 10,
            "total_tokens": 1010,
            "input_tokens_details": {"cache_read_input_tokens": 900, "cache_creation_input_tokens": 50},
            "cost": {"currency": "USD", "total_cost": 0.01},
        },
        None,
        TokenUsage(1000, 10, 1010, 900, 50, None, 0.01, dialect="perplexity"),
        id="perplexity responses",
    ),
    pytest.param(CHAT_USAGE, "bedrock", TokenUsage(2006, 300, 2306, 1920, None, 128, dialect="bedrock"), id="bedrock"),
    pytest.param(
        {"prompt_tokens": 7, "total_tokens": 7},
        "openai",
        TokenUsage(7, None, 7, dialect="embeddings"),
        id="embeddings have no completion",
    ),
    pytest.param(
        {"total_tokens": 7},
        "voyageai",
        TokenUsage(7, None, 7, dialect="voyage"),
        id="embeddings of Voyage have a total alone",
    ),
    pytest.param({"total_tokens": 7}, None, TokenUsage(None, None, 7, dialect="openai-compatible"), id="total only"),
]


@pytest.mark.parametrize(("raw", "provider", "reading"), READINGS)
def test_each_dialect_is_read(raw: dict[str, Any], provider: str | None, reading: TokenUsage) -> None:
    assert read_usage(raw, provider=provider) == reading


def test_every_dialect_has_an_example() -> None:
    assert {param.values[2].dialect for param in READINGS} == {row.name for row in DIALECTS}  # type: ignore[union-attr]


def test_markers_decide_before_the_provider() -> None:
    """The address of a proxy does not identify the provider behind it."""
    deepseek = chat(540, 9, 549, prompt_cache_hit_tokens=512, prompt_cache_miss_tokens=28)
    assert read_usage(deepseek, provider="openai").cached_tokens == 512
    assert read_usage(RESPONSES_USAGE, provider="mistral").dialect == "openai-responses"
    assert read_usage(CHAT_USAGE, provider="nobody").dialect == "openai-compatible"
    assert read_usage(CHAT_USAGE, provider="Azure").dialect == "azure"


SPELLINGS: dict[str, dict[str, Any]] = {
    "prompt_tokens_details": {"prompt_tokens_details": {"cached_tokens": 64}},
    "input_tokens_details": {"input_tokens_details": {"cached_tokens": 64}},
    "prompt_token_details": {"prompt_token_details": {"cached_tokens": 64}},
    "prompt_cache_hit_tokens": {"prompt_cache_hit_tokens": 64},
    "num_cached_tokens": {"num_cached_tokens": 64},
    "cached_tokens": {"cached_tokens": 64},
    "cache_read_input_tokens": {"cache_read_input_tokens": 64},
}
MARKS: dict[str, dict[str, Any]] = {
    "xai": {"num_sources_used": 0},
    "vercel": {"market_cost": "0.1", "cost": 0.1},
    "perplexity": {"search_context_size": "low"},
    "openrouter": {"cost": 0.1, "is_byok": False},
    "deepseek": {"prompt_cache_miss_tokens": 36},
    "mistral": {"prompt_token_details": None},
    "databricks": {"cache_creation_input_tokens": 0},
    "alibaba": {"prompt_tokens_details": {"cache_type": "ephemeral"}},
    "gemini": {"traffic_type": "ON_DEMAND"},
    "groq": {"queue_time": 0.1},
    "nothing": {},
}


@pytest.mark.parametrize("words", ["prompt", "input"])
@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_cached_tokens_are_read_in_the_spelling_of_another_dialect(spelling: str, mark: str, words: str) -> None:
    """A gateway adds its own markers to the usage of the server behind it."""
    counts = (100, 10, 110)
    raw = (
        chat(*counts)
        if words == "prompt"
        else dict(zip(("input_tokens", "output_tokens", "total_tokens"), counts, strict=True))
    )
    raw = {**raw, **MARKS[mark], **SPELLINGS[spelling]}
    for provider in (None, "openai", "azure", "gemini"):
        reading = read_usage(raw, provider=provider)
        assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == counts
        assert (reading.cached_tokens, reading.anomaly) == (64, None)


@pytest.mark.parametrize(
    "written",
    [
        {"cache_creation_input_tokens": 32},
        {"prompt_tokens_details": {"cache_write_tokens": 32}},
        {"prompt_tokens_details": {"cache_creation_tokens": 32}},
        {"prompt_tokens_details": {"cache_creation_input_tokens": 32}},
    ],
)
@pytest.mark.parametrize("mark", [mark for mark in MARKS if mark != "alibaba"])
def test_written_tokens_are_read_in_the_spelling_of_another_dialect(mark: str, written: dict[str, Any]) -> None:
    reading = read_usage({**chat(100, 10, 110), **MARKS[mark], **written})
    assert (reading.prompt_tokens, reading.cache_write_tokens, reading.anomaly) == (100, 32, None)


def test_a_dialect_reads_its_own_spelling_first() -> None:
    raw = chat(100, 10, 110, num_cached_tokens=64, prompt_cache_hit_tokens=32, prompt_cache_miss_tokens=68)
    assert read_usage(raw).cached_tokens == 32
    raw = chat(100, 10, 110, num_cached_tokens=64, cached_tokens=32)
    assert read_usage(raw).cached_tokens == 64


def test_other_spellings_are_tried_openais_first_then_in_the_order_of_rows() -> None:
    """If two spellings appear with the markers of a third dialect, a fixed order determines which one is read."""
    marked = chat(100, 10, 110, queue_time=0.1)  # Groq's
    assert read_usage({**marked, "cached_tokens": 8}).cached_tokens == 8
    openai = {"prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": 8}
    assert read_usage({**marked, **openai}).cached_tokens == 4
    groq = next(row for row in DIALECTS if row.name == "groq")
    assert [".".join(path) for path in groq.cached] == [
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "input_token_details.cached_tokens",
        "input_tokens_details.cache_read_input_tokens",
        "prompt_cache_hit_tokens",
        "num_cached_tokens",
        "prompt_token_details.cached_tokens",
        "cache_read_input_tokens",
        "cached_tokens",
    ]


def test_adding_a_dialect_is_adding_a_row() -> None:
    """The spellings of a new dialect are read together with the markers of every other row, without further changes."""
    rows = tuple(row for row in DIALECTS if row.name in ("groq", "openai-compatible"))
    new = replace(
        rows[0], name="new", markers=(("mark",),), cached=(("here",),), cache_write=(("there",),), source="2026-11-28"
    )
    table = _with_all_spellings((new, *rows))
    assert table[0].cached[0] == ("here",)
    for row in table[1:]:
        assert ("here",) in row.cached
        assert ("there",) in row.cache_write


def test_fields_of_both_apis_are_read_if_one_is_0() -> None:
    """Gateways based on one-api send both."""
    other = {"input_tokens": 0, "output_tokens": 0, "input_tokens_details": None}
    details = {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 4}}
    for provider in (None, "openai", "deepseek"):
        reading = read_usage(chat(100, 10, 110, **details, **other), provider=provider)
        assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == (100, 10, 110)
        assert (reading.cached_tokens, reading.reasoning_tokens, reading.anomaly) == (64, 4, None)
    other = {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
    reading = read_usage({**RESPONSES_USAGE, **other})
    assert (reading.prompt_tokens, reading.completion_tokens, reading.cached_tokens) == (2600, 90, 2000)


def test_no_usage_is_all_none() -> None:
    assert read_usage(None) == NO_USAGE == TokenUsage()
    assert read_usage({}) == TokenUsage(dialect="unknown")
    assert read_usage({"images": 3}) == TokenUsage(dialect="unknown")
    assert NO_USAGE.uncached_prompt_tokens is None


def test_uncached_tokens_need_prompt_and_cached_tokens() -> None:
    assert TokenUsage(prompt_tokens=10, cached_tokens=4).uncached_prompt_tokens == 6
    assert TokenUsage(prompt_tokens=10).uncached_prompt_tokens is None
    assert TokenUsage(cached_tokens=0).uncached_prompt_tokens is None


# -- the table of dialects --------------------------------------------------------------------------------------------


def test_each_dialect_is_in_the_documentation_with_its_source() -> None:
    page = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
    for row in DIALECTS:
        assert f"`{row.name}`" in page, row.name
        assert re.search(r"\d{4}-\d\d-\d\d$", row.source), row.name


def test_each_anomaly_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
    for code in (
        "malformed",
        "total_mismatch",
        "cached_outside_prompt",
        "cached_exceeds_prompt",
        "cached_without_prompt",
        "cache_write_exceeds_uncached",
        "reasoning_exceeds_completion",
    ):
        assert f"`{code}`" in page, code


def test_names_are_unique() -> None:
    names = [row.name for row in DIALECTS]
    assert len(names) == len(set(names))


# -- plans ------------------------------------------------------------------------------------------------------------


SHAPES: list[dict[str, Any]] = [
    CHAT_USAGE,
    {"input_tokens": 50, "output_tokens": 5, "total_tokens": 55, "output_tokens_details": {"reasoning_tokens": 2}},
    {**CHAT_USAGE, "prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 1993},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cached_tokens": 4},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "num_cached_tokens": 4},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cache_read_input_tokens": 4},
    {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "queue_time": 0.1},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost": 0.1, "is_byok": False},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost_in_usd_ticks": 0, "num_sources_used": 1},
    {"prompt_tokens": 9, "total_tokens": 9},
]


def damaged(rng: random.Random, value: Any) -> Any:
    """Return the usage with some of its values replaced."""
    if isinstance(value, dict):
        return {key: damaged(rng, item) for key, item in value.items()}
    odd = [None, 0, 1, value + 1 if isinstance(value, int) else 2, -3, 2**31 - 1, 2**31, 5.0, 5.5, "7", True, {}, []]
    return rng.choice(odd) if rng.random() < 0.15 else value


@pytest.mark.parametrize("provider", [None, "openai", "azure", "mistral", "xai", "Anthropic", "gemini"])
def test_a_cached_plan_reads_a_usage_like_a_new_one(provider: str | None) -> None:
    """A plan is built from the first usage of a shape and then reads other usages of that shape."""
    rng = random.Random(provider)
    usages = [*SHAPES, *(damaged(rng, rng.choice(SHAPES)) for _ in range(3000))]
    by_plan = [read_usage(raw, provider=provider) for raw in usages]
    for raw, usage in zip(usages, by_plan, strict=True):
        reading._plans.clear()
        assert read_usage(raw, provider=provider) == usage, raw
