"""The supplement: prices that genai-prices lacks, and that end when genai-prices lists them."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import yaml
from genai_prices.types import ClauseEquals, ModelPrice, PriceVariant

from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.pricing.builtin_table import BuiltInTable
from rlm_cachetrack.pricing.price_list import PriceList, installed
from rlm_cachetrack.pricing.supplement import FILE
from tests.unit.pricing.samples import NOW, usd, used

# Model, tier, day, tokens of the prompt; USD per 1M tokens: prompt, cached, written, written for 12 hours, completion.
# https://developers.openai.com/api/docs/models/gpt-6.2-sol and …/gpt-6.2-astra, 2026-12-01.
GPT_6_2 = [
    ("gpt-6.2-sol", "default", date(2026, 12, 1), 272_000, (2, 0.10, 2.50, 5, 10)),
    ("gpt-6.2-sol", "default", date(2026, 12, 1), 272_001, (4, 0.20, 5, 10, 15)),
    ("gpt-6.2-sol", "batch", date(2026, 12, 1), 1_000, (1, 0.05, 1.25, 2.50, 5)),
    ("gpt-6.2-sol", "batch", date(2026, 12, 1), 300_000, (2, 0.10, 2.50, 5, 7.5)),
    ("gpt-6.2-sol", "fast", date(2026, 12, 1), 1_000, (4, 0.20, 5, 10, 20)),
    ("gpt-6.2-sol", "priority", date(2026, 12, 1), 300_000, (8, 0.40, 10, 20, 30)),
    ("gpt-6.2-sol", "ultrafast", date(2027, 2, 28), 1_000, (6, 0.30, 7.50, 15, 30)),
    ("gpt-6.2-sol", "ultrafast", date(2027, 3, 1), 1_000, (12, 0.60, 15, 30, 60)),
    ("gpt-6.2-sol", "flex", date(2026, 12, 1), 1_000, None),
    ("gpt-6.2-astra", "default", date(2026, 12, 1), 1_000, (8, 0.40, 10, 20, 40)),
    ("gpt-6.2-astra", "default", date(2026, 12, 1), 400_000, (16, 0.80, 20, 40, 60)),
    ("gpt-6.2-astra", "fast", date(2026, 12, 1), 1_000, (16, 0.80, 20, 40, 80)),
    ("gpt-6.2-astra", "flex", date(2026, 12, 1), 1_000, None),
]


@pytest.mark.parametrize(("model", "tier", "day", "prompt_tokens", "expected"), GPT_6_2)
def test_gpt_6_2_has_the_prices_of_its_page(built_in, model, tier, day, prompt_tokens, expected):
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rates = built_in.rates(model=model, provider="openai", service_tier=tier, at=at, prompt_tokens=prompt_tokens)
    if expected is None:
        assert rates is None
        return
    found = (*rates.prices[:3], rates.extras["cache_write_12h"], rates.completion)
    assert [price * 1_000 for price in found] == pytest.approx(expected, abs=1e-12)
    assert rates.source.startswith("supplement:")


# OpenAI's pricing page as in LiteLLM 1.110.2, 2026-12-01: writes for 12 hours in USD per 1M tokens.
TWELVE_HOURS = [
    ("gpt-6.1-terra", None, 1_000, 2.50),
    ("gpt-6.1-terra", None, 300_000, 5),
    ("gpt-6.1-sol", "batch", 1_000, 2.50),
    ("gpt-6.1-sol", "flex", 300_000, 5),
    ("gpt-6.1-sol", "fast", 1_000, 10),
    ("gpt-6.1-sol", "ultrafast", 1_000, 30),
    ("gpt-6-astra", "ultrafast", 300_000, 300),
    ("gpt-5.6-luna", None, 1_000, 0.50),
    ("gpt-5.6-cyber", None, 1_000, 31.25),
]


@pytest.mark.parametrize(("model", "tier", "prompt_tokens", "price"), TWELVE_HOURS)
def test_twelve_hour_writes_of_gpt_5_6_and_later(built_in, model, tier, prompt_tokens, price):
    rates = built_in.rates(
        model=model,
        provider="openai",
        service_tier=tier,
        at=datetime(2026, 12, 1, tzinfo=UTC),
        prompt_tokens=prompt_tokens,
    )
    assert rates.extras["cache_write_12h"] * 1_000 == pytest.approx(price, abs=1e-9)


def test_ultrafast_costs_six_times_the_standard_price(built_in):
    # LiteLLM 1.110.2: gpt-6-astra at Ultrafast: 60, cached 6, written 75, completion 300 USD per 1M tokens
    rates = built_in.rates(model="gpt-6-astra", provider="openai", service_tier="ultrafast", at=NOW)
    assert [price * 1_000 for price in rates.prices] == pytest.approx([60, 6, 75, 300])
    # a fee per use is not a token price
    assert rates.extras["web_search"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("model", "is_dearer"),
    [
        ("gpt-5.4", True),  # 2026-03-05, the first day
        ("gpt-5.4-mini-2026-03-17", True),
        ("gpt-6-luna", True),
        ("gpt-6.2-sol", True),
        ("gpt-5.2", False),
        ("gpt-5", False),
        ("gpt-4.1", False),
    ],
)
def test_data_residency_costs_ten_percent_for_models_since_2026_03_05(built_in, model, is_dearer):
    def total(region):
        options = {"region": region} if region else None
        return built_in.cost(used(1_000, 200, 0), model=model, provider="openai", at=NOW, options=options).total_cost

    for region in ("us", "eu", "au", "ca", "jp", "in", "sg", "kr", "gb", "ae"):
        assert total(region) == usd(total(None) * (1.1 if is_dearer else 1))


def test_background_windows_are_discounted(built_in):
    for model in ("gpt-6.1-sol", "gpt-6.2-sol"):
        assert built_in.rates(model=model, provider="openai", at=NOW).windows == {"2h": 0.7, "8h": 0.6}
    assert built_in.rates(model="gpt-5.1", provider="openai", at=NOW).windows == {}


# LiteLLM 1.110.2, 2026-12-01; USD per 1M tokens of prompt, cached, completion.
FINE_TUNED = [
    ("ft:gpt-4o-2024-08-06:org::id", None, (3.75, 1.875, 15)),
    ("ft:gpt-4o-2024-11-20:org:suffix:id", None, (3.75, 1.875, 15)),
    ("ft:gpt-4o-mini-2024-07-18:org::id", None, (0.30, 0.15, 1.20)),
    ("ft:gpt-4o-mini-2024-07-18:org::id", "batch", (0.15, 0.075, 0.60)),
    ("ft:gpt-4.1-2025-04-14:org::id", None, (3, 0.75, 12)),
    ("ft:gpt-4.1-2025-04-14:org::id", "batch", (1.50, 0.50, 6)),
    ("ft:gpt-4.1-mini-2025-04-14:org::id", None, (0.80, 0.20, 3.20)),
    ("ft:gpt-4.1-nano-2025-04-14:org::id", None, (0.20, 0.05, 0.80)),
    ("ft:o4-mini-2025-04-16:org::id", None, (4, 1, 16)),
    ("ft:gpt-6-sol:org::id", None, None),  # no entry: never the price of the base model
]


@pytest.mark.parametrize("provider", ["openai", "unknown@proxy.example.org"])
@pytest.mark.parametrize(("model", "tier", "expected"), FINE_TUNED)
def test_fine_tuned_models_have_prices_of_their_own(built_in, provider, model, tier, expected):
    rates = built_in.rates(model=model, provider=provider, service_tier=tier, at=NOW)
    found = None if rates is None else [rates.prompt * 1_000, rates.cached * 1_000, rates.completion * 1_000]
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize(
    ("model", "fee"),
    [("gpt-4o-search-preview-2025-03-11", 0.025), ("gpt-4o-mini-search-preview", 0.025), ("gpt-5-search-api", 0.01)],
)
def test_a_search_model_has_a_fee_per_request(built_in, model, fee):
    assert built_in.rates(model=model, provider="openai", at=NOW).extras["request"] == pytest.approx(fee)


@pytest.mark.parametrize("model", ["gpt-5.3-codex", "gpt-4.1-nano", "o3-pro", "ft:gpt-4.1-2025-04-14:org::id"])
def test_hosted_searches_have_a_price_for_models_without_one_in_the_list(built_in, model):
    extras = built_in.rates(model=model, provider="openai", at=NOW).extras
    assert (extras["web_search"], extras["file_search"]) == (pytest.approx(0.01), pytest.approx(0.0025))


# https://docs.mistral.ai/models, 2026-12-01
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mistral-large-latest", (0.50, 0.05, 1.50)),
        ("mistral/mistral-large-latest", (0.50, 0.05, 1.50)),
        ("codestral-latest", (0.30, 0.03, 0.90)),
        ("devstral-medium-latest", (0.40, 0.04, 2)),
        ("magistral-medium-latest", (1.50, 0.15, 7.50)),
        ("ministral-3b-latest", (0.10, 0.01, 0.10)),
        ("mistral-large-2411", (2, 0.20, 6)),  # the model that mistral-large-latest meant before keeps its price
    ],
)
def test_an_alias_has_the_price_of_the_model_that_it_means_today(built_in, model, expected):
    rates = built_in.rates(model=model, provider="mistral" if "/" not in model else None, at=NOW)
    assert [rates.prompt * 1_000, rates.cached * 1_000, rates.completion * 1_000] == pytest.approx(expected)


def test_an_alias_keeps_its_old_price_before_it_meant_another_model(built_in):
    def prompt_price(at):
        return built_in.rates(model="mistral-large-latest", provider="mistral", at=at).prompt * 1_000

    assert prompt_price(datetime(2025, 12, 1, 23, 59, tzinfo=UTC)) == 2
    assert prompt_price(datetime(2025, 12, 2, tzinfo=UTC)) == 0.5


def _listing(provider_id: str, model_id: str, like: str, **prices: str) -> PriceList:
    """Return the installed price list with other prices of a model, which is added if it is not listed."""
    original = installed()
    providers = [copy.deepcopy(one) if one.id == provider_id else one for one in original.providers]
    (changed,) = [one for one in providers if one.id == provider_id]
    model = changed.find_model(like)
    if model_id != like:
        model = copy.deepcopy(model)
        model.id, model.match = model_id, ClauseEquals(equals=model_id)
        changed.models.insert(0, model)
    for name, value in prices.items():
        setattr(model.prices, name, Decimal(value))
    return PriceList("genai-prices:2027-01-01-12345678", providers)


def test_an_entry_loses_to_a_price_list_that_has_the_model():
    newer = _listing("openai", "gpt-6.2-sol", "gpt-6.1-sol", input_mtok="1.5", cache_read_mtok="0.07")
    rates = BuiltInTable(newer).find("gpt-6.2-sol", "openai", "default").at(NOW).rates[0]
    assert (rates.prompt * 1_000, rates.cached * 1_000) == pytest.approx((1.5, 0.07))
    assert rates.source == "genai-prices:2027-01-01-12345678"


def test_an_alias_loses_to_a_price_list_that_corrected_it():
    newer = _listing("mistral", "mistral-large", "mistral-large", input_mtok="0.6", output_mtok="1.8")
    rates = BuiltInTable(newer).find("mistral-large-latest", "mistral", "default").at(NOW).rates[0]
    assert (rates.prompt * 1_000, rates.completion * 1_000) == pytest.approx((0.6, 1.8))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [("0.80", 0.96), ("0.90", 0.90)],  # the price of the USA, which the list has by mistake; a separate price
)
def test_a_factor_loses_to_a_price_list_that_has_the_multiplied_price(listed, expected):
    name = "us-gov.amazon.nova-pro-v1:0"
    newer = _listing("aws", name, "amazon.nova-pro-v1:0", input_mtok=listed)
    rates = BuiltInTable(newer).find(name, "aws", "default").at(NOW).rates[0]
    assert rates.prompt * 1_000 == pytest.approx(expected)


# Hosted web search on Azure: $14 per 1,000, unless a list has a fee of Azure's own.
@pytest.mark.parametrize(
    ("model_id", "like", "prices", "expected"),
    [
        ("gpt-5.4-mini", "o3-2025-04-16", {}, 0.014),  # added to Azure's list without a fee
        ("gpt-5.4-mini", "o3-2025-04-16", {"web_searches_kcount": "12"}, 0.012),
        ("o3-2025-04-16", "o3-2025-04-16", {"web_searches_kcount": "12"}, 0.012),
    ],
)
def test_a_fee_of_a_reseller_loses_to_a_price_list_that_has_it(model_id, like, prices, expected):
    newer = _listing("azure", model_id, like, **prices)
    rates = BuiltInTable(newer).find(model_id, "azure", "default").at(NOW).rates[0]
    assert rates.extras["web_search"] == pytest.approx(expected)


def test_a_fee_of_a_reseller_replaces_that_of_the_vendor(built_in):
    newer = _listing("openai", "gpt-5.4-mini", "gpt-5.4-mini", web_searches_kcount="12")
    for table in (BuiltInTable(), BuiltInTable(newer)):
        rates = table.find("gpt-5.4-mini", "azure", "default").at(NOW).rates[0]
        assert rates.extras["web_search"] == pytest.approx(0.014)
    claude = built_in.rates(model="claude-opus-5-5", provider="azure", at=NOW)
    assert claude.extras["web_search"] == pytest.approx(0.010)  # Claude has its own search


def test_a_speed_loses_to_a_price_list_that_has_it():
    fast = PriceVariant(when={"speed": "fast"}, prices=ModelPrice(input_mtok=Decimal(15), output_mtok=Decimal(75)))
    newer = _listing("anthropic", "claude-opus-4-6", "claude-opus-4-6")
    (changed,) = [one for one in newer.providers if one.id == "anthropic"]
    model = changed.find_model("claude-opus-4-6")
    assert BuiltInTable(newer).find("claude-opus-4-6", "anthropic", "default").at(NOW).rates[0].speeds == {"fast": 6}
    usual = model.get_prices(NOW)
    fast.prices.cache_read_mtok, fast.prices.cache_write_mtok = usual.cache_read_mtok * 3, usual.cache_write_mtok * 3
    fast.prices.cache_write_1h_mtok = usual.cache_write_1h_mtok * 3
    model.price_variants = [*model.price_variants, fast]
    assert BuiltInTable(newer).find("claude-opus-4-6", "anthropic", "default").at(NOW).rates[0].speeds == {"fast": 3}


def test_a_speed_that_is_no_multiple_of_the_standard_prices_has_no_price():
    newer = _listing("anthropic", "claude-opus-5-5", "claude-opus-5-5")
    (changed,) = [one for one in newer.providers if one.id == "anthropic"]
    (fast,) = [one for one in changed.find_model("claude-opus-5-5").price_variants if "speed" in one.when]
    fast.prices.output_mtok = Decimal(50)
    assert BuiltInTable(newer).find("claude-opus-5-5", "anthropic", "default").at(NOW).rates[0].speeds == {}


def test_a_component_loses_to_a_price_list_that_has_it():
    newer = _listing("openai", "gpt-4.1-nano", "gpt-4.1-nano", web_searches_kcount="12")
    rates = BuiltInTable(newer).find("gpt-4.1-nano", "openai", "default").at(NOW).rates[0]
    assert rates.extras["web_search"] == pytest.approx(0.012)
    assert rates.extras["file_search"] == pytest.approx(0.0025)


# Invoices, in USD per 1M tokens. Sources as above.
INVOICES = [
    # 100,000 written for 12 hours: 100 x 2 + 100,000 x 5 + 1,000 x 10
    ("gpt-6.2-sol", None, used(100_100, 1_000, 0, 100_000), {"cache_write_12h_tokens": 100_000}, 0.5102),
    # longer than 272,000: 100,000 x 4 + 200,000 x 0.20 + 1,000 x 15
    ("gpt-6.2-sol", None, used(300_000, 1_000, 200_000), None, 0.455),
    # Fast: 2,000 x 16 + 8,000 x 0.80 + 500 x 80
    ("gpt-6.2-astra", "fast", used(10_000, 500, 8_000), None, 0.0784),
    # 40,000 of 60,000 written for 12 hours, the others for 30 minutes: 20,000 x 1.25 + 40,000 x 2.5 + 100 x 5
    ("gpt-6.1-terra", None, used(60_000, 100, 0, 60_000), {"cache_write_12h_tokens": 40_000}, 0.1255),
    # fine-tuned: 2,000 x 3.75 + 8,000 x 1.875 + 500 x 15
    ("ft:gpt-4o-2024-08-06:org::id", None, used(10_000, 500, 8_000), None, 0.030),
    # fine-tuned: 2,000 x 0.80 + 8,000 x 0.20 + 500 x 3.20
    ("ft:gpt-4.1-mini-2025-04-14:org::id", None, used(10_000, 500, 8_000), None, 0.0048),
    # a search in each request: 1,000 x 2.50 + 200 x 10, and 0.025
    ("gpt-4o-search-preview", None, used(1_000, 200, 0), None, 0.0295),
]


@pytest.mark.parametrize(("model", "tier", "usage", "details", "total"), INVOICES)
def test_invoices_with_prices_of_the_supplement(built_in, model, tier, usage, details, total):
    cost = built_in.cost(
        usage._replace(details=details), model=model, provider="openai", service_tier=tier,
        at=datetime(2026, 12, 1, 12, tzinfo=UTC),
    )  # fmt: skip
    assert (cost.total_cost, cost.unpriced_reason) == (usd(total), None)


def test_every_entry_names_its_source_and_the_day():
    entries = [entry for part in yaml.safe_load(FILE.read_text()).values() for entry in part]
    assert len(entries) > 30
    for entry in entries:
        assert entry["source"].startswith("https://"), entry
        assert date(2026, 11, 1) <= entry["read"] <= date(2027, 1, 1), entry


def test_the_supplement_does_not_lead_to_a_price_for_self_priced_providers():
    book = PriceBook.load(None)
    for provider in ("vllm", "snowflake", "alibaba"):
        assert book.rates(model="gpt-6.2-sol", provider=provider, at=NOW) is None
    assert book.rates(model="gpt-6.2-sol", provider="azure", at=NOW).prompt == 0.002
    assert book.rates(model="gpt-6.2-sol", provider="azure", service_tier="batch", at=NOW).prompt == 0.001
    assert book.rates(model="openai/gpt-6.2-sol", provider="openrouter", at=NOW).prompt == 0.002


@pytest.mark.parametrize(
    ("provider", "model", "at", "expected"),
    [
        ("deepseek", "deepseek-chat", datetime(2025, 9, 1, 12), (0.27, 0.07, 1.10)),
        ("deepseek", "deepseek-chat", datetime(2025, 12, 1, 2), (0.28, 0.028, 0.42)),
        ("deepseek", "deepseek-reasoner", datetime(2026, 7, 1, 18), (0.28, 0.028, 0.42)),
        ("x-ai", "grok-code-fast-1", datetime(2026, 5, 1), (0.20, 0.02, 1.50)),
        ("x-ai", "grok-code-fast-1", datetime(2026, 6, 1), (1, 0.20, 2)),
        ("mistral", "mistral-medium", datetime(2026, 1, 1), (0.40, 0.04, 2)),
        ("mistral", "mistral-medium", datetime(2026, 6, 1), (1.50, 0.15, 7.50)),
        ("aws", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", NOW, (3.60, 0.36, 18)),
    ],
)
def test_an_outdated_price_is_replaced_from_a_day_on(built_in, provider, model, at, expected):
    rates = built_in.rates(model=model, provider=provider, at=at)
    assert [rates.prompt * 1_000, rates.cached * 1_000, rates.completion * 1_000] == pytest.approx(expected)


def test_a_price_that_the_list_has_corrected_is_that_of_the_list():
    model = "eu.amazon.nova-pro-v1:0"
    newer = _listing("aws", model, "amazon.nova-pro-v1:0", input_mtok="1.1", output_mtok="4.4")
    assert PriceBook(prices=newer).rates(model=model, provider="aws", at=NOW).prompt == pytest.approx(0.0011)


@pytest.mark.parametrize(("tokens", "expected"), [(272_000, (12.50, 75)), (272_001, (25, 112.50))])
def test_long_prompts_have_a_price_where_the_list_has_one_band(built_in, tokens, expected):
    rates = built_in.rates(model="gpt-5.6-cyber", provider="openai", at=NOW, prompt_tokens=tokens)
    assert [rates.prompt * 1_000, rates.completion * 1_000] == pytest.approx(expected)
