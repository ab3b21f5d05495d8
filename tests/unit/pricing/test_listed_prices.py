"""Every price that the installed genai-prices lists is charged, or documented as one that no response reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.pricing.builtin_table import PRICED_CONDITIONS, PRICED_FIELDS
from rlm_cachetrack.pricing.price_list import installed
from rlm_cachetrack.pricing.supplement import Supplement
from rlm_cachetrack.usage import TokenUsage

TODAY = datetime.now(UTC).replace(hour=12)

# Conditions of a price that no response reports; docs/prices.md explains why each needs no price here.
DOCUMENTED = {("openrouter", "route"), ("perplexity", "search_type")}


class Use(NamedTuple):
    """The use of 1,000 units of a component, and how many units its listed price is for."""

    usage: TokenUsage
    per: int = 1_000_000
    tools: dict[str, int] | None = None
    options: dict[str, str] | None = None


def _of_tokens(side: str, name: str) -> Use:
    prompt, completion = (1_000, 0) if side == "prompt" else (0, 1_000)
    return Use(TokenUsage(prompt, completion, 1_000, details={f"{name}_tokens": 1_000}))


def _cached(name: str) -> Use:
    details = {f"{name}_prompt_tokens": 1_000, f"{name}_cached_tokens": 1_000}
    return Use(TokenUsage(1_000, 0, 1_000, 1_000, details=details))


def _units(name: str, per: int) -> Use:
    return Use(TokenUsage(0, 0, 0, details={name: 1_000}), per)


USES = {
    "input_mtok": Use(TokenUsage(1_000, 0, 1_000)),
    "cache_read_mtok": Use(TokenUsage(1_000, 0, 1_000, 1_000)),
    "cache_write_mtok": Use(TokenUsage(1_000, 0, 1_000, 0, 1_000)),
    "cache_write_1h_mtok": Use(TokenUsage(1_000, 0, 1_000, 0, 1_000, details={"cache_write_1h_tokens": 1_000})),
    "output_mtok": Use(TokenUsage(0, 1_000, 1_000)),
    **{f"input_{one}_mtok": _of_tokens("prompt", f"{one}_prompt") for one in ("audio", "image", "video")},
    **{f"output_{one}_mtok": _of_tokens("completion", f"{one}_completion") for one in ("audio", "image", "video")},
    **{f"cache_{one}_read_mtok": _cached(one) for one in ("audio", "image")},
    "output_reasoning_mtok": Use(TokenUsage(0, 0, 0, reasoning_tokens=1_000)),
    "output_citation_mtok": Use(TokenUsage(0, 0, 0, details={"citation_tokens": 1_000})),
    "web_searches_kcount": Use(TokenUsage(0, 0, 0), 1_000, tools={"web_search": 1_000}),
    "storage_searches_kcount": Use(TokenUsage(0, 0, 0), 1_000, tools={"file_search": 1_000}),
    "requests_kcount": Use(TokenUsage(0, 0, 0), 1_000_000, options={"search_context_size": "high"}),
    "audio_hours": _units("seconds", 3_600),
    "input_audio_hours": _units("seconds", 3_600),
    "input_mchars": _units("characters", 1_000_000),
    "input_text_messages_kcount": _units("text_messages", 1_000),
    "input_document_kpages": _units("pages", 1_000),
    "input_annotated_document_kpages": _units("annotated_pages", 1_000),
}


def listed_prices() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield provider, model and prices by field, of every model, day and condition."""
    for provider in installed().providers:
        for model in provider.models:
            dated = [one.prices for one in model.prices] if isinstance(model.prices, list) else [model.prices]
            for prices in (*dated, *(variant.prices for variant in model.price_variants or ())):
                yield provider.id, model, {name: price for name, price in vars(prices).items() if price is not None}


def test_every_listed_field_is_charged():
    unknown = {(provider, model.id, *prices.keys() - PRICED_FIELDS) for provider, model, prices in listed_prices()}
    assert {each for each in unknown if len(each) > 2} == set()


def test_every_condition_of_a_price_is_looked_up_or_documented():
    documentation = (Path(__file__).parents[3] / "docs" / "prices.md").read_text(encoding="utf-8")
    for provider in installed().providers:
        for model in provider.models:
            for variant in model.price_variants or ():
                for name in variant.when.keys() - PRICED_CONDITIONS:
                    assert (provider.id, name) in DOCUMENTED, model.id
                    assert f"`{name}`" in documentation


def _today(model: Any) -> dict[str, Decimal]:
    """Return the listed prices of short prompts at the standard tier, by field."""
    if model.prices == []:
        return {}
    prices = {name: getattr(price, "base", price) for name, price in vars(model.get_prices(TODAY)).items()}
    return {name: price for name, price in prices.items() if price is not None}


def test_each_listed_field_has_a_use_in_this_module():
    assert USES.keys() >= {
        field for provider in installed().providers for one in provider.models for field in _today(one)
    }


@pytest.mark.parametrize("field", sorted(USES))
def test_the_use_of_a_listed_price_costs_that_price(built_in: PriceBook, field: str) -> None:
    use, checked, supplement = USES[field], 0, Supplement.load()
    for provider in installed().providers:
        for model in provider.models:
            key = {"model": model.id, "provider": provider.id, "at": TODAY}
            price, rates = _today(model).get(field), built_in.rates(**key)
            is_replaced = rates is None or rates.source != built_in.rates(model="gpt-5", at=TODAY).source
            if price is None or is_replaced or supplement.alias(provider.id, model.id) is not None:
                continue
            fee = 0 if field == "requests_kcount" else rates.extras.get("request_low", rates.extras.get("request", 0))
            cost = built_in.cost(use.usage, tools=use.tools, options=use.options, **key)
            assert cost.total_cost == pytest.approx(float(price) * 1_000 / use.per + fee), key
            checked += 1
    assert checked > 0
