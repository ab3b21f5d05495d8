"""The reasons why models have no list price, as ``docs/prices.md`` explains them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .names import SELF_PRICED_PROVIDERS, canonical_provider, canonical_tier, routes

_OWN_SERVER = "a server that users run themselves has no list price"

_PROVIDERS = {
    "alibaba": "Alibaba's prices differ by region and kind of cache, which the response does not name",
    "snowflake": "Snowflake bills credits, and the price of a credit is in the contract",
    "watsonx": "IBM bills resource units, and their price is in the contract",
    "heroku": "Heroku bills its own plans",
    "crusoe": "Crusoe has no price list in genai-prices",
    "github": "GitHub Models is free within its limits, or billed by GitHub's own units",
    "github-models": "GitHub Models is free within its limits, or billed by GitHub's own units",
    "huggingface": "the router of Hugging Face chooses a provider; only a name such as MODEL:groq names it",
}

_MODELS = (
    ("openai", r"dall-e.*|sora.*", "billed by the image or the second of video"),
    ("groq", r"(groq/)?compound.*", "billed for the models and tools that it calls, which the response does not list"),
    ("cerebras", r"qwen-3-coder-480b", "retired, and genai-prices lists it without a price"),
)


def reason_unlisted(model: str, provider: str | None) -> str:
    """Return why a model has no list price, as the end of a sentence.

    Args:
        model: The name of the model.
        provider: The provider in any spelling; None if unknown.
    """
    key = canonical_provider(provider)
    if key in _PROVIDERS:
        return _PROVIDERS[key]
    if key in SELF_PRICED_PROVIDERS:
        return _OWN_SERVER
    for listed, name in routes(model, key):
        for owner, names, reason in _MODELS:
            if listed == owner and re.fullmatch(names, name, re.IGNORECASE):
                return reason
    if key is None:
        return "its provider is not known, and any provider may serve a model with open weights at any price"
    return f"the price list has no model of this name at {key}"


def reason_unpriced(row: Mapping[str, Any]) -> str:
    """Return why calls are unpriced, as a clause.

    Args:
        row: ``model``, ``provider``, ``service_tier`` and ``unpriced_reason`` of the calls, as stored.
    """
    stored: str | None = row["unpriced_reason"]
    if stored is None or stored.startswith(f"no price for {row['model']}"):
        return f"no price: {reason_unlisted(row['model'], row['provider'])}"
    return stored


def remedy(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words of the command that gives unpriced calls a price; none if no price is missing.

    ``USD`` and ``FACTOR`` stand for what the user fills in.

    Args:
        row: As for :func:`reason_unpriced`; ``unit`` is the unit in which a call without tokens is billed.
    """
    stored = row["unpriced_reason"] or ""
    if stored and "no price for" not in stored:
        return ()
    is_listed = stored and not stored.startswith((f"no price for {row['model']}", "no price for service tier"))
    missing = _missing_keys(stored.removesuffix(f" of {row['model']}")) if is_listed else []
    if is_listed and not missing:
        return ("prices", "update", "--reprice")
    words = ["prices", "add", row["model"]]
    if canonical_provider(row["provider"]) is not None:
        words += ["--provider", row["provider"]]
    if missing:  # the entry takes all other prices from the list
        return (*words, *[word for key in missing for word in ("--set", key)], "--reprice")
    if (unit := row.get("unit")) is not None:
        words += ["--set", f"{_UNIT_KEYS[unit]}=USD"]
    else:
        words += ["--prompt", "USD", "--cached", "USD", "--completion", "USD"]
    if stored.startswith("no price for service tier"):
        words += ["--set", f"tiers.{canonical_tier(row['service_tier'])}=FACTOR"]
    return (*words, "--reprice")


_UNIT_KEYS = {
    "seconds": "per_second",
    "characters": "per_1m_characters",
    "images": "per_image",
    "pages": "per_page",
    "text_messages": "per_text_message",
}

# The components that an unpriced_reason names, and their keys in the pricing file.
_KEYS = (
    (r"(audio|image) input tokens", r"\1.prompt=USD"),
    (r"(audio|image) cached input tokens", r"\1.cached=USD"),
    (r"(audio|image) output tokens", r"\1.completion=USD"),
    (r"cache writes with (1|12)-hour retention", r"cache_write_\1h=USD"),
    (r"completion window (\w+)", r"windows.\1=FACTOR"),
    (r"speed (\w+)", r"speeds.\1=FACTOR"),
    (r"a request", "per_request=USD"),
    *((unit.replace("_", " "), f"{key}=USD") for unit, key in _UNIT_KEYS.items()),
    (r"([\w ]+) calls", r"tools.\1=USD"),
)


def _missing_keys(reason: str) -> list[str]:
    """Return the values that `prices add --set` needs; empty if the file has no key for one of them."""
    keys = []
    for component in reason.removeprefix("no price for ").split(" and "):
        found = next((match.expand(key) for one, key in _KEYS if (match := re.fullmatch(one, component))), None)
        if found is None:
            return []
        keys.append(found.replace(" ", "_"))
    return keys
