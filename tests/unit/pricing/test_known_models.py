"""Names of models in real traffic: each has a price, or a documented reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_cachetrack.pricing.unlisted import reason_unlisted
from rlm_cachetrack.usage import TokenUsage
from tests.unit.pricing.samples import NOW

# USD per 1M prompt tokens; a text is a part of the reason that docs/prices.md gives. Prices: genai-prices 0.2.3, and
# the sources in supplement.yaml.
NAMES = [
    # providers with their own host
    ("minimax", "MiniMax-M2.1", 0.30),
    ("novita", "deepseek/deepseek-v3.1", 0.27),
    ("baseten", "moonshotai/Kimi-K3", 3),
    ("ovhcloud", "Meta-Llama-3_3-70B-Instruct", 0.74),
    ("cohere", "command-a", 2.50),
    ("databricks", "databricks-claude-sonnet-4-5", 3),
    ("databricks", "databricks-gpt-5-4-mini", 0.75),
    ("databricks", "databricks-gpt-6-1-sol", 2),
    ("databricks", "databricks-gpt-5", 1.25),
    ("databricks", "databricks-gpt-oss-120b", 0.15),
    ("zhipuai", "glm-4.6", "no model of this name at zhipuai"),  # bigmodel.cn has other prices than z.ai
    # names in the forms of an API or a proxy
    ("gemini", "models/gemini-2.5-flash", 0.30),
    ("vertex", "google/gemini-2.5-pro", 1.25),
    ("vertex", "publishers/google/models/gemini-2.5-flash", 0.30),
    ("unknown@proxy", "models/gemini-2.5-pro", 1.25),
    ("unknown@proxy:4000", "gemini/gemini-2.5-flash", 0.30),
    ("unknown@proxy:4000", "vertex_ai/gemini-2.5-flash", 0.30),
    ("unknown@proxy:4000", "groq/llama-3.3-70b-versatile", 0.59),
    ("unknown@proxy:4000", "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.88),
    ("unknown@proxy:4000", "azure/gpt-5", 1.25),
    ("unknown@proxy:4000", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3.30),
    ("unknown@proxy:4000", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3.30),
    ("unknown@proxy:4000", "bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3.30),
    ("unknown@proxy:4000", "openrouter/openai/gpt-5", 1.25),
    ("unknown@proxy:4000", "xai/grok-4-fast", 0.20),
    ("unknown@proxy:4000", "mistral/mistral-large-latest", 0.50),
    ("unknown@proxy:4000", "openai/gpt-6.2-astra", 8),
    ("unknown@proxy:4000", "accounts/fireworks/models/kimi-k2-instruct", 0.60),
    ("unknown@proxy:4000", "openai/gpt-oss-120b", "open weights"),
    ("unknown@proxy:4000", "moonshotai/Kimi-K2-Instruct", "open weights"),
    ("unknown@proxy:4000", "deepseek/deepseek-v3.1", "open weights"),
    ("unknown@proxy:4000", "google/gemma-3-27b-it", "open weights"),
    # gateways that charge the vendor's price for what they do not list
    ("openrouter", "x-ai/grok-4", 3),
    ("openrouter", "openai/gpt-6.2-sol", 2),
    ("vercel-gateway", "anthropic/claude-sonnet-4.5", 3),
    ("vercel-gateway", "moonshotai/kimi-k2", "no model of this name at vercel-gateway"),
    # Hugging Face names the provider after the model
    ("huggingface", "moonshotai/Kimi-K2-Instruct:groq", 1),
    ("huggingface", "moonshotai/Kimi-K2-Instruct:novita", 0.57),
    ("huggingface", "openai/gpt-oss-120b:groq", 0.15),
    ("huggingface", "openai/gpt-oss-120b", "chooses a provider"),
    ("nebius", "moonshotai/Kimi-K2-Instruct", 0.50),
    # Azure lists few models itself
    ("azure", "Llama-3.3-70B-Instruct", 0.71),
    ("azure", "Mistral-Large-3", 0.50),
    ("azure", "DeepSeek-V3.1", 1.23),
    ("azure", "gpt-6.2-sol", 2),
    # no price by token
    ("openai", "omni-moderation-2024-09-26", 0),
    ("openai", "dall-e-3", "by the image"),
    ("groq", "groq/compound-mini", "models and tools that it calls"),
    ("cerebras", "qwen-3-coder-480b", "retired"),
    ("alibaba", "qwen3-max", "differ by region"),
    ("snowflake", "claude-sonnet-4-5", "credits"),
    ("vllm", "gpt-4", "users run themselves"),
]


@pytest.mark.parametrize(("provider", "model", "expected"), NAMES)
def test_a_name_has_a_price_or_a_documented_reason(built_in, provider, model, expected):
    rates = built_in.rates(model=model, provider=provider, at=NOW)
    if isinstance(expected, str):
        assert rates is None
        assert expected in reason_unlisted(model, provider)
    else:
        assert rates.prompt * 1_000 == pytest.approx(expected)


# USD, as genai-prices 0.2.3 lists them; gpt-live-1 and 1.1: their pages on developers.openai.com, 2026-12-01.
UNITS = [
    ("openai", "whisper-1", "seconds", 60, 0.006),
    ("openai", "gpt-transcribe", "seconds", 60, 0.0045),
    ("openai", "gpt-live-1", "seconds", 60, 0.05),
    ("openai", "gpt-live-1.1", "seconds", 60, 0.05),
    ("openai", "gpt-live-1.1", "paused_seconds", 60, 0.02),
    ("openai", "tts-1", "characters", 1_000_000, 15),
    ("openai", "tts-1-hd", "characters", 1_000_000, 30),
    ("azure", "whisper-1", "seconds", 60, 0.006),
    ("groq", "whisper-large-v3", "seconds", 3600, 0.111),
    # names that the list lacks: the pages named in our supplement, 2026-12-02
    ("openai", "tts-1-hd-1106", "characters", 1_000_000, 30),
    ("azure", "whisper", "seconds", 60, 0.006),
    ("azure", "mistral-ocr-4-0", "annotated_pages", 1_000, 5),
    ("mistral", "mistral-ocr-3", "pages", 1_000, 2),
    ("mistral", "voxtral-mini-tts-latest", "characters", 1_000_000, 16),
    ("mistral", "voxtral-mini-transcribe-3", "seconds", 60, 0.0035),
    ("mistral", "voxtral-mini-realtime-latest", "seconds", 60, 0.006),
    ("xai", "grok-voice-transcribe-2.0", "seconds", 3_600, 0.10),
    ("xai", "grok-voice-2.0", "text_messages", 1_000, 4),
]


@pytest.mark.parametrize(("provider", "model", "unit", "quantity", "expected"), UNITS)
def test_other_units_than_tokens_have_a_price(built_in, provider, model, unit, quantity, expected):
    cost = built_in.cost(TokenUsage(details={unit: quantity}), model=model, provider=provider, at=NOW)
    assert cost.total_cost == pytest.approx(expected)
    assert cost.original_cost == pytest.approx(expected)
    (charge,) = cost.charges
    assert (charge["item"], charge["quantity"]) == (unit, quantity)
    assert charge["unit"] in ("second", "character", "page", "message")


@pytest.mark.parametrize(
    ("model", "usage", "reason"),
    [
        ("gpt-4o-mini-tts", TokenUsage(details={"characters": 9}), "no price for characters of gpt-4o-mini-tts"),
        ("whisper-1", TokenUsage(), "the response reported no token usage"),
        ("whisper-1", TokenUsage(10, 3, 13), "no price for input tokens and output tokens of whisper-1"),
    ],
)
def test_a_unit_without_a_price_is_named_and_not_free(built_in, model, usage, reason):
    cost = built_in.cost(usage, model=model, provider="openai", at=NOW)
    assert (cost.total_cost, cost.unpriced_reason) == (None, reason)


def test_units_beside_reported_tokens_are_not_a_gap(built_in):
    usage = TokenUsage(100, 200, 300, details={"images": 1})
    cost = built_in.cost(usage, model="gpt-image-2", provider="openai", at=NOW)
    assert cost.total_cost == pytest.approx((100 * 5 + 200 * 30) / 1e6)


def test_the_reasons_are_in_the_documentation():
    documentation = (Path(__file__).parents[3] / "docs" / "prices.md").read_text(encoding="utf-8")
    for word in ("dall-e-3", "groq/compound", "Alibaba", "Snowflake", "Hugging Face", "open weights", "vLLM"):
        assert word in documentation, word
