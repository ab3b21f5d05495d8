"""Translate names of providers, models and service tiers into those of price lists."""

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
    "azure-ai": "azure",
    "z-ai": "zai",
    "zhipu": "zhipuai",
    "bigmodel": "zhipuai",
    "mistralai": "mistral",
    "fireworks-ai": "fireworks",
    "together-ai": "together",
    "togetherai": "together",
    "novita-ai": "novita",
    "ovh": "ovhcloud",
    "dashscope": "alibaba",
    "qwen": "alibaba",
    "voyage": "voyageai",
    "cohere-chat": "cohere",
    # Hugging Face charges the provider's own price, so the reverse holds, too. Source:
    # https://huggingface.co/docs/inference-providers/pricing; 2026-12-01.
    "nebius": "huggingface_nebius",
    "sambanova": "huggingface_sambanova",
    "hyperbolic": "huggingface_hyperbolic",
    "nscale": "huggingface_nscale",
    "publicai": "huggingface_publicai",
}
"""Provider names of captured calls and common spellings, mapped to the ids of genai-prices; None: unknown."""

SELF_PRICED_PROVIDERS = frozenset(
    """vllm ollama llamacpp llama-cpp lmstudio gpustack sglang tgi localai xinference
    watsonx snowflake heroku crusoe alibaba github github-models""".split()  # noqa: SIM905
)
"""Providers that set their own prices, and servers that users run themselves.

A vendor's price would be wrong for them, whatever the model's name: ``gpt-4`` is a popular ``--served-model-name``
of vLLM. A pricing file can price them. ``docs/prices.md`` has the reason for each.
"""

# Gateways that charge the vendor's list price. Sources: https://openrouter.ai/docs/faq ("we pass through the pricing of
# the underlying providers"), https://vercel.com/docs/ai-gateway/pricing ("no markup"); 2026-12-01.
_LIST_PRICE_GATEWAYS = frozenset({"openrouter", "vercel", "vercel-gateway"})

VENDOR_MODELS: Mapping[str, re.Pattern[str]] = {
    "openai": re.compile(
        r"gpt-(?!oss)|chatgpt-|o[134](-|$)|codex-|computer-use|text-embedding-|ft:(gpt|o\d)-|whisper-1$|tts-1(-|$)"
        r"|omni-moderation-"
    ),
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(r"gemini-"),
    "x-ai": re.compile(r"grok-"),
    "deepseek": re.compile(r"deepseek-(chat|reasoner)$"),
    "mistral": re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral)-.*latest$"),
    "perplexity": re.compile(r"sonar(-|$)"),
    "cohere": re.compile(r"command-"),
    "voyageai": re.compile(r"voyage-"),
    "aws": re.compile(r"(us|us-gov|eu|apac|jp|au|ca|in|global)\.[a-z0-9]+\."),  # inference profiles of Bedrock
    "databricks": re.compile(r"databricks-"),
    "fireworks": re.compile(r"accounts/fireworks/"),
    "cloudflare": re.compile(r"@cf/"),
}
"""Model names that only their vendor serves, so that the name alone gives the price, through any proxy.

Models with open weights are left out: any provider may serve gpt-oss, llama or glm at any price.
"""

# Prefixes by which proxies name the provider that serves a model, such as groq/llama-3.3-70b-versatile. Prefixes that
# are also the owner of open weights (openai/, google/, deepseek/, moonshotai/) do not name a provider. Source:
# https://docs.litellm.ai/docs/providers; 2026-12-01.
_ROUTE_PREFIXES = frozenset(
    """azure azure-ai baseten bedrock cerebras cloudflare cohere databricks fireworks-ai gemini groq mistral
    moonshot nebius novita openrouter ovhcloud perplexity sambanova together-ai vertex-ai voyage xai zai""".split()  # noqa: SIM905
)

_FULL_DATE = re.compile(r"[-@]20\d{2}(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])$")
_MONTH_DAY = re.compile(r"-(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$")


def canonical_provider(name: str | None) -> str | None:
    """Return the id of a provider in price lists; None if the provider is unknown."""
    key = (name or "unknown").strip().lower()
    if key.startswith("unknown@"):  # the host is not a known provider
        return None
    return PROVIDER_IDS.get(key, PROVIDER_IDS.get(key.replace("_", "-"), key))


def canonical_tier(name: str | None) -> str:
    """Return the name in price lists of a service tier that a provider returned; None is the base tier."""
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


def routes(model: str, provider: str | None) -> list[tuple[str, str]]:
    """Return the price lists in which to look up a model, as pairs of a provider and the name it uses there.

    Args:
        model: The name of the model, with the prefixes of proxies and gateways.
        provider: The canonical provider, None if unknown.
    """
    if provider == "huggingface":  # the name ends in the provider that served the call
        name, colon, served_by = model.rpartition(":")
        if not colon:
            return []
        return [(f"huggingface_{served_by}", name), (canonical_provider(served_by) or "", name)]
    name = _without_resource_path(model)
    found = [] if provider is None else [(provider, name)]
    prefix, slash, rest = name.partition("/")
    key = canonical_provider(prefix)
    if provider is None and slash and key is not None and prefix.lower().replace("_", "-") in _ROUTE_PREFIXES:
        found.append((key, rest.removeprefix("converse/").removeprefix("invoke/")))
    if slash and (key in VENDOR_MODELS or key == "azure"):
        if provider is not None and provider == key:  # Vertex AI writes google/gemini-2.5-flash
            found.append((provider, rest))
        name = rest  # gateways write openai/gpt-5
    found += [(vendor, name) for vendor, names in VENDOR_MODELS.items() if names.match(name.lower())]
    return list(dict.fromkeys(found))


def is_list_price_gateway(provider: str | None) -> bool:
    """Return True if a gateway with its own price list charges the vendors' prices for models it does not list."""
    return provider in _LIST_PRICE_GATEWAYS


def _without_resource_path(model: str) -> str:
    """Return the name without ``models/`` (Gemini), ``publishers/…/models/`` and ``projects/…`` (Vertex AI)."""
    if model.startswith(("models/", "publishers/", "projects/")) and (found := model.rpartition("models/"))[1]:
        return found[2]
    return model
