"""Names by which price lists know providers, models and service tiers."""

from __future__ import annotations

import re
from collections.abc import Mapping

BASE_TIER = "default"
TIERS = ("flex", "priority", "batch", "scale", "performance", "ultrafast")
"""The other service tiers: those that providers return as ``service_tier``, and ``batch`` for the Batch API."""

# Names that providers use for the base tier. Source: https://console.groq.com/docs/service-tiers,
# https://openrouter.ai/docs/guides/features/service-tiers; 2026-11-23.
_BASE_TIER_NAMES = frozenset({"", BASE_TIER, "auto", "standard", "standard_only", "on_demand"})
# Source: https://openrouter.ai/docs/client-sdks/python/components/responsesrequestservicetier; 2026-11-23.
TIER_ALIASES = {"fast": "priority"}

PROVIDER_IDS: Mapping[str, str | None] = {
    "unknown": None,
    "xai": "x-ai",
    "bedrock": "aws",
    "amazon-bedrock": "aws",
    "gemini": "google",
    "gemini-compat": "google",
    "vertex": "google",
    "vertex-ai": "google",
    "moonshot": "moonshotai",
    "azure-openai": "azure",
    "z-ai": "zai",
}
"""Provider names of captured calls and common spellings, mapped to the ids of genai-prices; None: unknown."""

SELF_PRICED_PROVIDERS = frozenset(
    """vllm ollama llamacpp llama-cpp lmstudio gpustack sglang tgi localai xinference
    watsonx snowflake heroku crusoe alibaba huggingface github github-models""".split()  # noqa: SIM905
)
"""Providers that set their own prices, and servers that users run themselves.

A vendor's price would be wrong for them, whatever the model's name: ``gpt-4`` is a popular ``--served-model-name``
of vLLM. A pricing file can price them.
"""

VENDOR_MODELS: Mapping[str, re.Pattern[str]] = {
    "openai": re.compile(r"gpt-(?!oss)|chatgpt-|o[134](-|$)|codex-|computer-use|text-embedding-|ft:(gpt|o\d)-"),
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(r"gemini-"),
    "x-ai": re.compile(r"grok-"),
    "deepseek": re.compile(r"deepseek-(chat|reasoner)$"),
    "mistral": re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral)-.*latest$"),
    "perplexity": re.compile(r"sonar(-|$)"),
    "cohere": re.compile(r"command-"),
    "voyageai": re.compile(r"voyage-"),
}
"""Model names that only their vendor serves, so that the name alone gives the price, through any proxy.

Models with open weights are left out: any provider may serve gpt-oss, llama or glm at any price.
"""

_FULL_DATE = re.compile(r"[-@]20\d{2}(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])$")
_MONTH_DAY = re.compile(r"-(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$")


def canonical_provider(name: str | None) -> str | None:
    """Return the id by which price lists know a provider, None if the provider is unknown."""
    key = (name or "unknown").strip().lower()
    return PROVIDER_IDS.get(key, PROVIDER_IDS.get(key.replace("_", "-"), key))


def canonical_tier(name: str | None) -> str:
    """Return the service tier by which price lists know a tier that a provider returned; None is the base tier."""
    tier = (name or "").strip().lower()
    return BASE_TIER if tier in _BASE_TIER_NAMES else TIER_ALIASES.get(tier, tier)


def snapshot_names(model: str, *, month_day: bool = True) -> tuple[str, ...]:
    """Return the names to look up for a model: its own, then the name without the date of a snapshot.

    Args:
        model: A name such as ``gpt-5-2025-08-07`` or ``claude-sonnet-4-20250514``.
        month_day: Whether ``-0613`` in ``gpt-4-0613`` counts as a date.
    """
    base = _FULL_DATE.sub("", model)
    if base == model and month_day:
        base = _MONTH_DAY.sub("", model)
    return (model, base) if base not in (model, "") else (model,)
