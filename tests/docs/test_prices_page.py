"""The worked examples of docs/prices.md: the library computes each amount, and the arithmetic on the page is right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.usage import read_usage

from .blocks import ROOT

PAGE = (ROOT / "docs" / "prices.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### (.+)\n(?:(?!^#).*\n)*?`([^`]*= \$[\d.]+)`$", PAGE, re.MULTILINE))
NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
IMAGE = {"calls": 1, "model": "gpt-image-1.5", "prompt_tokens": 1_200, "image_prompt_tokens": 1_000}
IMAGE |= {"completion_tokens": 4_160, "total_tokens": 5_360}


def responses(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": details,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Input, cached input, cache writes, output": (
        "gpt-6.1-sol",
        responses(10_000, 500, cached_tokens=6_000, cache_write_tokens=3_000),
        {},
    ),
    "Cache writes for 12 hours (OpenAI)": (
        "gpt-6.1-terra",
        responses(
            100_100,
            100,
            cached_tokens=0,
            cache_write_tokens=100_000,
            cache_write_tokens_details={"ttl_12h_tokens": 60_000, "ttl_30m_tokens": 40_000},
        ),
        {},
    ),
    "Cache writes for 1 hour (Anthropic)": (
        "claude-sonnet-4-5",
        {
            "input_tokens": 100,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 20_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 20_000},
            "output_tokens": 100,
        },
        {"provider": "anthropic"},
    ),
    "Audio": ("gpt-audio", chat(17, 592, completion_tokens_details={"audio_tokens": 482}), {}),
    "Images in the prompt and in the response": (
        "gpt-realtime",
        {
            "input_tokens": 1_000,
            "output_tokens": 100,
            "total_tokens": 1_100,
            "input_token_details": {"text_tokens": 400, "image_tokens": 600, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": 100, "audio_tokens": 0},
        },
        {},
    ),
    "Web search": ("gpt-5.4-mini", responses(1_000, 200, cached_tokens=0), {"tools": {"web_search": 2}}),
    "File search": ("gpt-5.4-mini", responses(1_000, 200, cached_tokens=0), {"tools": {"file_search": 1}}),
    "Image generation": (
        "gpt-5.4-mini",
        responses(1_000, 200, cached_tokens=0),
        {"tools": {"image_generation": IMAGE}},
    ),
    "Fee per request": ("gpt-4o-search-preview", chat(1_000, 200), {}),
    "Seconds, characters, images": ("whisper-1", {"type": "duration", "seconds": 90}, {}),
    "Pages of documents (Mistral)": (
        "mistral-ocr-latest",
        {"type": "none", "seconds": 0},
        {"provider": "mistral", "details": {"pages": 12}},
    ),
    "Voice sessions (xAI)": (
        "grok-voice-latest",
        {
            "input_tokens": 90,
            "output_tokens": 60,
            "total_tokens": 150,
            "input_token_details": {"text_tokens": 40, "audio_tokens": 50},
            "billable_audio_seconds": 30.0,
            "input_text_messages": 2,
        },
        {"provider": "xai"},
    ),
    "Reasoning, citations and searches (Perplexity)": (
        "sonar-deep-research",
        chat(1_000, 100, reasoning_tokens=2_000, citation_tokens=500, num_search_queries=4),
        {"provider": "perplexity"},
    ),
}


def test_every_component_has_an_example() -> None:
    part = PAGE.partition("## What a cost is made of")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (.+)$", part, re.MULTILINE)
    assert set(headings) == {*CALLS, "Factors"}
    assert set(EXAMPLES) == set(CALLS)


@pytest.mark.parametrize("heading", CALLS)
def test_the_arithmetic_of_an_example_is_right(heading: str) -> None:
    formula, _, amount = EXAMPLES[heading].rpartition(" = $")
    signs = {",": "", "$": "", "\N{MULTIPLICATION SIGN}": "*", "÷": "/", "M": "e6"}
    expression = formula.translate(str.maketrans(signs))
    assert re.fullmatch(r"[\d.+*/() e]+", expression), "only arithmetic is evaluated"
    assert eval(expression) == pytest.approx(float(amount), abs=1e-12)


@pytest.mark.parametrize("heading", CALLS)
def test_the_library_computes_the_amount_of_an_example(heading: str) -> None:
    model, usage, facts = CALLS[heading]
    more = {"provider": "openai", "at": NOW, **facts}
    read = read_usage(usage, provider=more["provider"])
    read = read._replace(details=more.pop("details", read.details))
    cost = PriceBook().cost(read, model=model, **more)
    amount = float(EXAMPLES[heading].rpartition(" = $")[2])
    assert cost.unpriced_reason is None
    assert cost.total_cost == pytest.approx(amount, abs=1e-12)
