"""Usage: found in what the SDK hands back, made plain, read in every dialect, normalised with proof only."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import wrapt
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseTextDeltaEvent,
)

from rlm_cachetrack.usage import reading
from rlm_cachetrack.usage.dialects import _with_the_words_of_all
from rlm_cachetrack.usage.reading import DIALECTS, NO_USAGE, TokenUsage, locate_usage, plain, read_usage
from tests.support.recorded import ABSENT, FIELDS, FILE, expected_tokens, load

ROOT = Path(__file__).resolve().parents[3]

CHAT_USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128},
}
RESPONSES_USAGE = {
    "input_tokens": 2600,
    "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400},
    "output_tokens": 90,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 2690,
}


def chat_chunk(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def chat(prompt: object, completion: object, total: object, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


# --- finding it ---


def test_usage_is_found_in_responses_of_the_sdk() -> None:
    completion = ChatCompletion.construct(**chat_chunk(usage=CHAT_USAGE))
    assert locate_usage(completion) is completion.usage
    response = Response.construct(id="r", output=[], usage=RESPONSES_USAGE)
    assert locate_usage(response) is response.usage


def test_usage_is_found_in_the_events_of_the_responses_api_that_end_it_only() -> None:
    created = ResponseCreatedEvent.construct(type="response.created", response={"id": "r", "usage": None})
    delta = ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="hi")
    completed = ResponseCompletedEvent.construct(
        type="response.completed", response={"id": "r", "usage": RESPONSES_USAGE}
    )
    assert locate_usage(created) is None
    assert locate_usage(delta) is None
    assert plain(locate_usage(completed)) == RESPONSES_USAGE


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("usage", chat_chunk(usage=CHAT_USAGE)),
        ("x_groq", chat_chunk(x_groq={"id": "req", "usage": CHAT_USAGE})),
        (
            "x_groq beside a null",
            chat_chunk(usage=None, x_groq={"id": "req", "usage": CHAT_USAGE}, service_tier="on_demand"),
        ),
        ("choices[0]", chat_chunk(choices=[{"index": 0, "delta": {}, "usage": CHAT_USAGE}])),
    ],
)
def test_usage_is_found_wherever_a_chunk_keeps_it(where: str, body: dict[str, Any]) -> None:
    assert plain(locate_usage(ChatCompletionChunk.construct(**body))) == CHAT_USAGE
    assert plain(locate_usage(body)) == CHAT_USAGE


@pytest.mark.parametrize(
    "body",
    [
        chat_chunk(),
        chat_chunk(usage=None),
        chat_chunk(usage={}),
        chat_chunk(usage="none"),
        chat_chunk(choices=[]),
        chat_chunk(choices=None),
        chat_chunk(choices=[None]),
        chat_chunk(x_groq={"id": "req"}),
        chat_chunk(x_groq=None),
        chat_chunk(response="text"),
    ],
)
def test_a_chunk_without_usage_has_none(body: dict[str, Any]) -> None:
    assert locate_usage(body) is None
    assert locate_usage(ChatCompletionChunk.construct(**body)) is None


def test_usage_is_found_behind_proxies_and_in_foreign_objects() -> None:
    completion = ChatCompletion.construct(**chat_chunk(usage=CHAT_USAGE))
    assert plain(locate_usage(wrapt.ObjectProxy(completion))) == CHAT_USAGE
    assert locate_usage(SimpleNamespace(usage=CHAT_USAGE)) is CHAT_USAGE

    class Computed:
        @property
        def usage(self) -> dict[str, Any]:
            return CHAT_USAGE

    assert locate_usage(Computed()) is CHAT_USAGE
    for nothing in (None, "text", 3, object(), [], b""):
        assert locate_usage(nothing) is None


# --- making it plain ---


def test_plain_holds_exactly_the_fields_the_server_sent() -> None:
    sent = {
        **CHAT_USAGE,
        "prompt_tokens_details": None,
        "cost": 0.25,
        "cost_details": {"upstream_inference_cost": None},
        "notes": [1, "two", {"three": 3.5}, None, True],
    }
    got = plain(ChatCompletion.construct(id="1", choices=[], usage=sent).usage)
    assert got == sent


def test_plain_copies_so_that_later_changes_of_the_response_do_not_reach_it() -> None:
    source = {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    got = plain(source)
    source["prompt_tokens_details"]["cached_tokens"] = 99  # type: ignore[index]
    assert got == {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pydantic.v1 does not support Python 3.14")
def test_plain_reads_models_of_pydantic_1() -> None:
    from pydantic import v1

    class Open(v1.BaseConfig):
        extra = v1.Extra.allow

    optional: Any = (Any, None)
    details = v1.create_model("Details", __config__=Open, cached_tokens=optional, audio_tokens=optional)
    model = v1.create_model(
        "Usage",
        __config__=Open,
        prompt_tokens=optional,
        total_tokens=optional,
        prompt_tokens_details=optional,
    )
    chunk = v1.create_model("Chunk", __config__=Open, usage=optional, choices=(Any, []))

    usage = model(prompt_tokens=9, prompt_tokens_details=details(cached_tokens=4), cost=0.5)
    assert plain(usage) == {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}, "cost": 0.5}
    assert locate_usage(chunk(usage=usage)) is usage
    assert locate_usage(chunk(x_groq={"usage": {"prompt_tokens": 9}})) == {"prompt_tokens": 9}
    assert locate_usage(chunk()) is None


def test_plain_is_none_for_what_is_no_usage() -> None:
    for thing in (None, 3, "text", [1], object(), SimpleNamespace(prompt_tokens=1)):
        assert plain(thing) is None
    assert plain(MappingProxyType({"prompt_tokens": 1})) == {"prompt_tokens": 1}


def test_plain_never_raises() -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("boom")

    assert plain(Hostile(a=1)) is None


def test_plain_is_strict_json_that_postgresql_takes() -> None:
    got = plain(
        {
            "nan": math.nan,
            "inf": -math.inf,
            "huge": 2**70,
            "nul": "a\0b",
            "surrogate": "x\ud800",
            "key\0": 1,
            7: "number as key",
            "object": {1},
        }
    )
    text = json.dumps(got, allow_nan=False)
    assert "\\u0000" not in text
    assert not re.search(r"\\ud[89a-f]", text)
    assert got is not None
    assert got["huge"] == str(2**70)
    assert got["7"] == "number as key"


def test_plain_ends_deep_nesting() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"in": deep}
    got, depth = plain(deep), 0
    while got:
        got, depth = got["in"], depth + 1
    assert depth <= 8


# --- reading it ---

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
        # Anthropic's own: neither of the two is among the 3.
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
        # The thoughts are in the total only: 109 - 35.
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
    pytest.param({"total_tokens": 7}, None, TokenUsage(None, None, 7, dialect="openai-compatible"), id="total only"),
]


@pytest.mark.parametrize(("raw", "provider", "reading"), READINGS)
def test_each_dialect_is_read(raw: dict[str, Any], provider: str | None, reading: TokenUsage) -> None:
    assert read_usage(raw, provider=provider) == reading


def test_every_dialect_has_an_example_here() -> None:
    assert {param.values[2].dialect for param in READINGS} == {row.name for row in DIALECTS}  # type: ignore[union-attr]


def test_the_shape_wins_over_the_provider() -> None:
    """A proxy's address says nothing of who answers behind it."""
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
def test_cached_tokens_are_read_in_the_words_of_another_dialect(spelling: str, mark: str, words: str) -> None:
    """A gateway adds marks of its own to what the server behind it says."""
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
def test_written_tokens_are_read_in_the_words_of_another_dialect(mark: str, written: dict[str, Any]) -> None:
    reading = read_usage({**chat(100, 10, 110), **MARKS[mark], **written})
    assert (reading.prompt_tokens, reading.cache_write_tokens, reading.anomaly) == (100, 32, None)


def test_a_dialects_own_spelling_is_read_before_those_of_others() -> None:
    raw = chat(100, 10, 110, num_cached_tokens=64, prompt_cache_hit_tokens=32, prompt_cache_miss_tokens=68)
    assert read_usage(raw).cached_tokens == 32
    raw = chat(100, 10, 110, num_cached_tokens=64, cached_tokens=32)
    assert read_usage(raw).cached_tokens == 64


def test_words_of_others_are_tried_with_openais_first_and_then_as_the_rows_are() -> None:
    """Two spellings that no row owns are sent beside the marks of a third: which counts must not be an accident."""
    marked = chat(100, 10, 110, queue_time=0.1)  # Groq's
    assert read_usage({**marked, "cached_tokens": 8}).cached_tokens == 8
    openai = {"prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": 8}
    assert read_usage({**marked, **openai}).cached_tokens == 4
    groq = next(row for row in DIALECTS if row.name == "groq")
    assert [".".join(path) for path in groq.cached] == [
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "input_tokens_details.cache_read_input_tokens",
        "prompt_cache_hit_tokens",
        "num_cached_tokens",
        "prompt_token_details.cached_tokens",
        "cache_read_input_tokens",
        "cached_tokens",
    ]


def test_adding_a_dialect_is_adding_a_row() -> None:
    """Its words are then read behind the marks of every other row, with nothing else to change."""
    rows = tuple(row for row in DIALECTS if row.name in ("groq", "openai-compatible"))
    new = replace(
        rows[0], name="new", markers=(("mark",),), cached=(("here",),), cache_write=(("there",),), source="2026-11-28"
    )
    table = _with_the_words_of_all((new, *rows))
    assert table[0].cached[0] == ("here",)
    for row in table[1:]:
        assert ("here",) in row.cached
        assert ("there",) in row.cache_write


def test_words_of_both_apis_are_read_where_one_of_them_is_left_at_0() -> None:
    """As gateways of the one-api family send them."""
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


def test_uncached_tokens_need_both_numbers() -> None:
    assert TokenUsage(prompt_tokens=10, cached_tokens=4).uncached_prompt_tokens == 6
    assert TokenUsage(prompt_tokens=10).uncached_prompt_tokens is None
    assert TokenUsage(cached_tokens=0).uncached_prompt_tokens is None


# --- normalising it ---


def test_cached_tokens_beside_the_prompt_are_added_and_flagged() -> None:
    """Grok on Azure: 7 tokens of prompt and 163 from the cache cannot be one in the other."""
    raw = chat(7, 1, 8, prompt_tokens_details={"text_tokens": 7, "cached_tokens": 163}, num_sources_used=0)
    assert read_usage(raw) == TokenUsage(170, 1, 171, 163, None, None, None, "cached_outside_prompt", "xai-chat")


def test_a_total_that_holds_the_cached_tokens_proves_them_apart() -> None:
    raw = chat(100, 10, 160, prompt_tokens_details={"cached_tokens": 50})
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.total_tokens, reading.cached_tokens) == (150, 160, 50)
    assert reading.anomaly == "cached_outside_prompt"


def test_reasoning_and_cached_tokens_may_both_stand_apart() -> None:
    raw = chat(
        100,
        10,
        190,
        prompt_tokens_details={"cached_tokens": 50},
        completion_tokens_details={"reasoning_tokens": 30},
    )
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == (150, 40, 190)


def test_what_anthropic_writes_to_the_cache_stands_apart_with_what_it_reads() -> None:
    raw = chat(10, 5, 15, cache_read_input_tokens=0, cache_creation_input_tokens=4000)
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.cached_tokens, reading.cache_write_tokens) == (4010, 0, 4000)


def test_anthropic_counts_with_a_total_that_includes_them_are_left_alone() -> None:
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
def test_an_impossible_split_of_a_dialect_that_counts_inside_is_dropped_and_flagged(
    raw: dict[str, Any], provider: str | None
) -> None:
    reading = read_usage(raw, provider=provider)
    assert (reading.prompt_tokens, reading.completion_tokens, reading.total_tokens) == (100, 10, 110)
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_exceeds_prompt"


def test_an_impossible_split_is_not_added_where_the_total_contradicts_it() -> None:
    reading = read_usage(chat(100, 10, 117, prompt_tokens_details={"cached_tokens": 120}))
    assert (reading.prompt_tokens, reading.total_tokens, reading.cached_tokens) == (100, 117, None)
    assert reading.anomaly == "total_mismatch,cached_exceeds_prompt"


def test_a_sum_that_no_column_holds_is_not_made() -> None:
    most = 2**31 - 1
    reading = read_usage(chat(most - 1, 0, most - 1, prompt_tokens_details={"cached_tokens": most}))
    assert reading.prompt_tokens == most - 1
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_exceeds_prompt"


def test_reasoning_is_added_only_where_the_total_proves_it() -> None:
    inside = chat(20, 30, 50, completion_tokens_details={"reasoning_tokens": 12})
    assert read_usage(inside).completion_tokens == 30
    beyond = chat(9, 52, 61, completion_tokens_details={"reasoning_tokens": 232})
    reading = read_usage(beyond)
    assert (reading.completion_tokens, reading.reasoning_tokens) == (52, 232)
    assert reading.anomaly == "reasoning_exceeds_completion"


def test_xai_counts_reasoning_apart_where_no_total_tells() -> None:
    raw = {
        "prompt_tokens": 20,
        "completion_tokens": 30,
        "completion_tokens_details": {"reasoning_tokens": 12},
        "num_sources_used": 0,
    }
    assert read_usage(raw).completion_tokens == 42


def test_more_written_than_was_not_cached_is_flagged_and_kept() -> None:
    raw = chat(2168, 100, 2268, prompt_tokens_details={"cached_tokens": 2161, "cache_write_tokens": 2161})
    reading = read_usage(raw)
    assert (reading.prompt_tokens, reading.cached_tokens, reading.cache_write_tokens) == (2168, 2161, 2161)
    assert reading.anomaly == "cache_write_exceeds_uncached"


def test_cached_tokens_without_a_prompt_are_no_rate() -> None:
    reading = read_usage({"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 50}})
    assert reading.cached_tokens is None
    assert reading.anomaly == "cached_without_prompt"
    none_cached = read_usage({"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}})
    assert (none_cached.cached_tokens, none_cached.anomaly) == (0, None)


@pytest.mark.parametrize(
    "bad", ["ten", "1.5", "-1", "99999999999", 1.5, -1, True, 2**31, [], {}, math.nan, math.inf, b"1", 10**400]
)
def test_malformed_counts_are_not_reported_and_the_sound_ones_are_kept(bad: object) -> None:
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


def test_whole_numbers_written_as_fractions_are_sound() -> None:
    assert read_usage(chat(10.0, 5, 15.0)) == TokenUsage(10, 5, 15, dialect="openai-compatible")


def test_whole_numbers_written_as_text_are_sound_as_they_are_to_the_sdk() -> None:
    raw = chat("10", "5", 15, prompt_tokens_details={"cached_tokens": "8"})
    assert read_usage(raw) == TokenUsage(10, 5, 15, 8, dialect="openai-compatible")
    completion = ChatCompletion.construct(id="1", choices=[], usage=raw)
    assert read_usage(plain(completion.usage)) == read_usage(raw)


@pytest.mark.parametrize("details", ["text", 3, [], True, {}, {"cached_tokens": None}])
def test_odd_details_are_not_reported(details: object) -> None:
    assert read_usage(chat(10, 5, 15, prompt_tokens_details=details)).cached_tokens is None


@pytest.mark.parametrize("bad", ["0.5", -0.1, math.nan, math.inf, True, [1]])
def test_a_malformed_cost_is_none(bad: object) -> None:
    reading = read_usage(chat(10, 5, 15, cost=bad))
    assert (reading.provider_cost_usd, reading.prompt_tokens, reading.anomaly) == (None, 10, "malformed")


def test_a_cost_of_nothing_is_reported_where_it_can_be_free() -> None:
    assert read_usage(chat(10, 5, 15, cost=0)).provider_cost_usd == 0.0
    assert read_usage(chat(10, 5, 15, cost=None)).provider_cost_usd is None


def test_reading_arbitrary_shapes_never_raises_and_never_gives_a_rate_over_one() -> None:
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


# --- the table ---


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


# --- what real providers sent ---

needs_corpus = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return load()


def payloads(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body, or the data of each event of a stream."""
    if isinstance(case.get("response_json"), dict):
        yield case["response_json"]
    for line in (case.get("response_sse") or "").splitlines():
        if line.startswith("data:"):
            try:
                data = json.loads(line[5:])
            except ValueError:  # [DONE], and events cut off
                continue
            if isinstance(data, dict):
                yield data


def raw_usage(case: dict[str, Any]) -> dict[str, Any] | None:
    """The last one that is not null: the API sends running totals, never parts."""
    last = None
    for payload in payloads(case):
        last = locate_usage(payload) or last
    return plain(last)


@needs_corpus
@pytest.mark.parametrize("know_provider", [False, True], ids=["behind a proxy", "provider known"])
def test_every_recorded_usage_is_read_as_expected_but_for_the_documented_exceptions(
    cases: list[dict[str, Any]], know_provider: bool
) -> None:
    kinds: Counter[str] = Counter()
    wrong = []
    for case in cases:
        want, kind = expected_tokens(case)
        reading = read_usage(raw_usage(case), provider=case["provider"] if know_provider else None)
        kinds[kind] += 1
        if {name: getattr(reading, name) for name in FIELDS} != want:
            wrong.append((case["id"], case["provider"], want, reading))
        assert reading.reasoning_tokens == case["extra"].get("reasoning_tokens"), case["id"]
        if kind == "cached tokens counted apart":
            assert reading.anomaly == "cached_outside_prompt", case["id"]
    assert wrong == []
    assert {kind: kinds[kind] for kind in kinds if kind != "equal"} == {
        "cached tokens counted apart": 33,
        "reasoning counted apart": 40,
        "spelling that a plain reading does not know": 40,
    }


@needs_corpus
def test_no_recorded_usage_gives_a_hit_rate_over_one(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        reading = read_usage(raw_usage(case))
        if reading.cached_tokens:
            assert reading.prompt_tokens is not None
            assert reading.cached_tokens <= reading.prompt_tokens, case["id"]


@needs_corpus
def test_recorded_costs_are_read(cases: list[dict[str, Any]]) -> None:
    """What the corpus noted as cost, and the two it does not know: Perplexity's object and xAI's ticks."""
    for case in cases:
        raw = raw_usage(case)
        noted = case["extra"].get("cost")
        ticks = (raw or {}).get("cost_in_usd_ticks")
        if ticks:
            noted = ticks / 10**10
        elif isinstance((raw or {}).get("cost"), dict):
            noted = raw["cost"]["total_cost"]  # type: ignore[index]
        assert read_usage(raw).provider_cost_usd == noted, case["id"]


@needs_corpus
def test_objects_of_the_sdk_give_the_same_usage_as_the_recorded_json(cases: list[dict[str, Any]]) -> None:
    models = {
        "chat": ChatCompletion,
        "responses": Response,
        "completions": Completion,
        "embeddings": CreateEmbeddingResponse,
    }
    compared = 0
    for case in cases:
        for payload in payloads(case):
            if case.get("response_sse"):
                if case["api"] == "responses" and payload.get("type") != "response.completed":
                    continue
                chunk = Completion if case["api"] == "completions" else ChatCompletionChunk
                model: Any = ResponseCompletedEvent if case["api"] == "responses" else chunk
            else:
                model = models[case["api"]]
            found = locate_usage(model.construct(**payload))
            assert plain(found) == plain(locate_usage(payload)), case["id"]
            compared += found is not None
    assert compared >= 1085  # every usage of the corpus, and those that a stream repeats


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
    """The usage with some of its values replaced."""
    if isinstance(value, dict):
        return {key: damaged(rng, item) for key, item in value.items()}
    odd = [None, 0, 1, value + 1 if isinstance(value, int) else 2, -3, 2**31 - 1, 2**31, 5.0, 5.5, "7", True, {}, []]
    return rng.choice(odd) if rng.random() < 0.15 else value


@pytest.mark.parametrize("provider", [None, "openai", "azure", "mistral", "xai", "Anthropic", "gemini"])
def test_a_usage_is_read_the_same_by_the_plan_of_its_shape(provider: str | None) -> None:
    """A plan is made of the first usage of a shape and then reads others of it, with other values."""
    rng = random.Random(provider)
    usages = [*SHAPES, *(damaged(rng, rng.choice(SHAPES)) for _ in range(3000))]
    by_plan = [read_usage(raw, provider=provider) for raw in usages]
    for raw, usage in zip(usages, by_plan, strict=True):
        reading._plans.clear()
        assert read_usage(raw, provider=provider) == usage, raw
