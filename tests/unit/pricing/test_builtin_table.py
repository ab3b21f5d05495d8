"""Prices of the built-in table: invoices computed by hand, and what is unpriced."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from rlm_cachetrack.pricing.costs import UNPRICED, Cost
from tests.unit.pricing.samples import NOW, usd, used

# (model, tier, moment, usage, total, original); the comment above each has the arithmetic, in USD per 1M tokens.
INVOICES = [
    # 50 %: 2,000 x 2.50 + 8,000 x 1.25 + 500 x 10
    ("gpt-4o", None, NOW, used(10_000, 500, 8_000), 0.020, 0.030),
    # 75 %: 2,000 x 2 + 8,000 x 0.50 + 500 x 8
    ("gpt-4.1", "default", NOW, used(10_000, 500, 8_000), 0.012, 0.024),
    # 90 %: 2,000 x 1.25 + 8,000 x 0.125 + 500 x 10
    ("gpt-5", "auto", NOW, used(10_000, 500, 8_000), 0.0085, 0.0175),
    # a write premium of 25 %: 1,000 x 4 + 6,000 x 0.40 + 3,000 x 5 + 500 x 20
    ("gpt-5.6-sol", None, NOW, used(10_000, 500, 6_000, 3_000), 0.0314, 0.050),
    # the same on the day before the price was reduced: 1,000 x 5 + 6,000 x 0.50 + 3,000 x 6.25 + 500 x 30
    (
        "gpt-5.6-sol",
        None,
        datetime(2026, 8, 20, 23, 59, tzinfo=UTC),
        used(10_000, 500, 6_000, 3_000),
        0.04175,
        0.065,
    ),
    # written tokens may cost more than they save: 0 x 4 + 0 + 10,000 x 5 against 10,000 x 4
    ("gpt-5.6-sol", None, NOW, used(10_000, 0, 0, 10_000), 0.050, 0.040),
    # 272,000 tokens have the normal price: 72,000 x 2.50 + 200,000 x 0.25 + 1,000 x 15
    ("gpt-5.4", None, NOW, used(272_000, 1_000, 200_000), 0.245, 0.695),
    # one more token has the long-context price, for the whole call: 72,001 x 5 + 200,000 x 0.50 + 1,000 x 22.50
    ("gpt-5.4", None, NOW, used(272_001, 1_000, 200_000), 0.482505, 1.382505),
    # flex: 2,000 x 0.625 + 8,000 x 0.0625 + 500 x 5
    ("gpt-5", "flex", NOW, used(10_000, 500, 8_000), 0.00425, 0.00875),
    # flex and long: 100,000 x 4 + 200,000 x 0.40 + 1,000 x 15
    ("gpt-5.6-sol", "flex", NOW, used(300_000, 1_000, 200_000), 0.495, 1.215),
    # priority: 2,000 x 2.50 + 8,000 x 0.25 + 500 x 20; "fast" is another name of it
    ("gpt-5", "priority", NOW, used(10_000, 500, 8_000), 0.017, 0.035),
    ("gpt-5", "fast", NOW, used(10_000, 500, 8_000), 0.017, 0.035),
    # gpt-5.4 has no long-context price at priority: 100,000 x 5 + 200,000 x 0.50 + 1,000 x 30
    ("gpt-5.4", "priority", NOW, used(300_000, 1_000, 200_000), 0.630, 1.530),
    # batch: 2,000 x 0.625 + 8,000 x 0.0625 + 500 x 5
    ("gpt-5", "batch", NOW, used(10_000, 500, 8_000), 0.00425, 0.00875),
    # the Batch list of o3 has no cached price, so the standard one stays: 2,000 x 1 + 8,000 x 0.50 + 500 x 4
    ("o3", "batch", NOW, used(10_000, 500, 8_000), 0.008, 0.012),
    # a dated snapshot, 90 %
    ("gpt-5-2025-08-07", None, NOW, used(10_000, 500, 8_000), 0.0085, 0.0175),
    # an embedding reports no completion: 5,000 x 0.02
    ("text-embedding-3-small", None, NOW, used(5_000), 0.0001, 0.0001),
    # cache use not reported is priced as uncached: 10,000 x 1.25 + 500 x 10
    ("gpt-5", None, NOW, used(10_000, 500, None), 0.0175, 0.0175),
]


@pytest.mark.parametrize(("model", "tier", "at", "usage", "total", "original"), INVOICES)
def test_built_in_prices_agree_with_the_invoice(built_in, model, tier, at, usage, total, original):
    cost = built_in.cost(usage, model=model, provider="openai", service_tier=tier, at=at)
    assert cost.total_cost == usd(total)
    assert cost.original_cost == usd(original)
    assert cost.price_source is not None
    assert cost.price_source.startswith("genai-prices:")


def test_prices_are_usd_per_1000_tokens(built_in):
    rates = built_in.rates(model="gpt-5.6-sol", provider="openai", at=NOW)
    assert (rates.prompt, rates.cached, rates.cache_write, rates.completion) == (0.004, 0.0004, 0.005, 0.02)


def test_a_cache_price_that_is_not_listed_is_the_prompt_price(built_in):
    rates = built_in.rates(model="gpt-4-0613", provider="openai", at=NOW)  # 30 / 60, no caching
    assert (rates.prompt, rates.cached, rates.cache_write, rates.completion) == (0.03, 0.03, 0.03, 0.06)


def test_a_price_changes_on_its_day_in_utc(built_in):
    def prompt_price(at):
        return built_in.rates(model="o3", provider="openai", at=at).prompt

    assert prompt_price(datetime(2025, 6, 9, 23, 59, tzinfo=UTC)) == 0.01
    assert prompt_price(datetime(2025, 6, 10, tzinfo=UTC)) == 0.002
    # 01:00 on the 10th in Berlin is still the 9th in UTC; a naive moment is taken as UTC
    assert prompt_price(datetime(2025, 6, 10, 1, tzinfo=timezone(timedelta(hours=2)))) == 0.01
    assert prompt_price(datetime(2025, 6, 10, 1)) == 0.002


def test_prices_by_time_of_day_change_on_the_minute(built_in):
    def prompt_price(hour, minute, day=3):  # a Tuesday
        at = datetime(2026, 11, day, hour, minute, tzinfo=UTC)
        return built_in.rates(model="deepseek-v4-flash", provider="deepseek", at=at).prompt

    # 0.15 off peak, 0.30 from 01:00 to 04:00 and from 06:00 to 10:00
    moments = [(0, 59), (1, 0), (3, 59), (4, 0), (5, 59), (6, 0), (9, 59), (10, 0)]
    expected = [0.00015, 0.0003, 0.0003, 0.00015, 0.00015, 0.0003, 0.0003, 0.00015]
    assert [prompt_price(*moment) for moment in moments] == expected
    assert [prompt_price(*moment, day=4) for moment in moments] == expected  # the second round reads the cache


@pytest.mark.parametrize(
    ("model", "at", "prompt_price"),
    [
        ("deepseek-v4-flash", datetime(2026, 11, 20, 2), 0.00030),  # Friday
        ("deepseek-v4-flash", datetime(2026, 11, 21, 2), 0.00015),  # Saturday
        ("deepseek-v4-flash", datetime(2026, 11, 22, 9, 59), 0.00015),  # Sunday
        ("deepseek-v4-flash", datetime(2026, 11, 23, 2), 0.00030),  # Monday
        ("deepseek-v4-pro", datetime(2026, 11, 21, 7), 0.00066),
        ("deepseek-v4-pro", datetime(2026, 11, 24, 7), 0.00132),
        ("deepseek-flash", datetime(2026, 10, 3, 7), 0.00015),
        ("deepseek-v4-pro", datetime(2026, 10, 1, 7), 0.00066),  # Thursday, a Chinese holiday
        ("deepseek-v4-pro", datetime(2026, 8, 22, 7), 0.00132),  # the last Saturday with peak hours
        ("deepseek-v4-pro", datetime(2026, 8, 14, 7), 0.000435),  # before there were peak hours
        ("deepseek-chat", datetime(2025, 8, 9, 2), 0.00027),  # before the supplement's price
    ],
)
def test_peak_hours_of_deepseek_are_on_working_days_only(built_in, model, at, prompt_price):
    for _ in range(2):  # the second round reads the cache
        assert built_in.rates(model=model, provider="deepseek", at=at).prompt == prompt_price


def test_built_in_costs_equal_the_decimal_arithmetic_of_genai_prices(built_in):
    """Compare every model of the table that has token prices, with random usages, to 1e-9 USD."""
    from genai_prices import Usage
    from genai_prices.data import providers

    rng = random.Random(5)
    compared = 0
    for provider in providers:
        for model in provider.models:
            # A name that matches an earlier model of the list is compared for that model.
            if provider.find_model(model.id) is not model:
                continue
            prompt = rng.choice([900, 150_000, 272_001, 2_000_000])
            cached, completion = rng.randrange(prompt // 2), rng.randrange(100_000)
            written = rng.randrange(prompt // 2)
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(440_000))
            cost = built_in.cost(used(prompt, completion, cached, written), model=model.id, provider=provider.id, at=at)
            if cost.total_cost is None or cost.original_cost is None:
                continue
            if provider.id == "deepseek":  # genai-prices has peak hours on every day of the week
                continue
            # The supplement has a fee per request, and fees by size of search context.
            if provider.id == "perplexity" or (provider.id == "openai" and "search" in model.id):
                continue
            if provider.id == "mistral" or "cyber" in model.id or "grok-code" in model.id:  # completed or corrected
                continue
            usage = {"input_tokens": prompt, "output_tokens": completion}
            plain = model.calc_price(Usage(**usage), provider, genai_request_timestamp=at)
            assert cost.original_cost == pytest.approx(float(plain.total_price), abs=1e-9), model.id
            usage |= {"cache_read_tokens": cached, "cache_write_tokens": written}
            exact = model.calc_price(Usage(**usage), provider, genai_request_timestamp=at)
            assert cost.total_cost == pytest.approx(float(exact.total_price), abs=1e-9), model.id
            compared += 1
    assert compared > 1_000


@pytest.mark.parametrize(
    ("provider", "model", "prompt_price"),
    [
        ("azure", "gpt-5-2025-08-07", 0.00125),  # Azure has no list price for it, so OpenAI's applies
        ("azure", "gpt-35-turbo", 0.0005),  # as Azure spells gpt-3.5-turbo
        ("xai", "grok-4-0709", 0.003),
        ("gemini-compat", "gemini-2.5-pro", 0.00125),
        ("openrouter", "openai/gpt-5", 0.00125),
        ("moonshot", "kimi-k2-0905-preview", 0.0006),
        ("groq", "llama-3.3-70b-versatile", 0.00059),
        ("OpenAI", "gpt-5", 0.00125),
        ("unknown", "gpt-5", 0.00125),  # a proxy: only the model's name counts
        (None, "claude-sonnet-4-20250514", 0.003),
        ("litellm-proxy", "anthropic/claude-sonnet-4", 0.003),
        ("openai", "gpt-5-mini-2031-01-01", 0.00025),  # a snapshot newer than the table
    ],
)
def test_providers_are_found_by_our_names(built_in, provider, model, prompt_price):
    assert built_in.rates(model=model, provider=provider, at=NOW).prompt == pytest.approx(prompt_price)


@pytest.mark.parametrize(
    ("provider", "model", "tier"),
    [
        ("openai", "no-such-model", None),
        ("openai", "", None),
        ("no-such-provider", "no-such-model", None),
        ("vllm", "gpt-4", None),  # served under a vendor's name
        ("ollama", "gpt-oss:20b", None),
        ("llamacpp", "openai/gpt-oss-20b", None),
        ("unknown", "gpt-oss-20b", None),  # open weights, which any provider may serve
        ("unknown", "meta-llama/Llama-3.3-70B-Instruct", None),
        ("snowflake", "claude-sonnet-4-6", None),  # resold at its own price
        ("openai", "dall-e-3", None),  # priced by the image
        ("google", "gemma-3", None),  # an empty price list is not a price of 0
        ("openai", "gpt-5", "scale"),  # no price list has the tier
        ("openai", "gpt-5-nano", "priority"),
        ("openai", "gpt-4o-0613", None),  # the table's own names end in full dates
        ("azure", "claude-opus-5-5", "batch"),  # Azure does not offer Anthropic's service tiers
    ],
)
def test_an_unlisted_price_is_none_and_never_zero(built_in, provider, model, tier):
    cost = built_in.cost(used(1_000, 100, 0), model=model, provider=provider, service_tier=tier, at=NOW)
    assert cost._replace(unpriced_reason=None) == UNPRICED
    assert model in (cost.unpriced_reason or "")
    assert cost.total_cost is None


def test_a_tier_has_no_price_before_its_first_listed_day(built_in):
    # The table lists flex from 2026-10-12 on; the base price would be twice the invoice.
    before = datetime(2026, 10, 11, tzinfo=UTC)
    assert built_in.rates(model="gpt-5", provider="openai", service_tier="flex", at=before) is None
    assert built_in.rates(model="gpt-5", provider="openai", service_tier="flex", at=NOW).prompt == 0.000625


def test_groq_flex_costs_what_on_demand_costs(built_in):
    usage = used(1_000, 100)
    costs = {
        tier: built_in.cost(usage, model="llama-3.3-70b-versatile", provider="groq", service_tier=tier, at=NOW)
        for tier in (None, "on_demand", "flex")
    }
    # 1,000 x 0.59 + 100 x 0.79
    assert [cost.total_cost for cost in costs.values()] == [usd(0.000669)] * 3


def test_a_free_model_costs_zero(built_in):
    cost = built_in.cost(used(1_000, 100, 0), model="openai/gpt-oss-20b:free", provider="openrouter", at=NOW)
    assert (cost.total_cost, cost.original_cost, cost.prompt_token_price) == (0.0, 0.0, 0.0)


def test_a_fee_per_request_is_part_of_the_total_and_of_the_original_cost(built_in):
    cost = built_in.cost(used(1_000, 100, 0), model="sonar", provider="perplexity", at=NOW)
    assert (cost.prompt_token_price, cost.completion_token_price) == (0.001, 0.001)
    # 1,000 x 1 + 100 x 1 per 1M tokens, and 5 per 1,000 requests
    assert (cost.total_cost, cost.original_cost) == (usd(0.0061), usd(0.0061))
    assert cost.charges == [{"item": "request", "quantity": 1, "unit": "request", "price": 0.005, "amount": 0.005}]


def test_tokens_that_are_not_reported_have_a_price_but_no_cost(built_in):
    for usage in (used(), used(None, 100), used(None, None, None, None)):
        cost = built_in.cost(usage, model="gpt-5", provider="openai", at=NOW)
        assert (cost.total_cost, cost.original_cost) == (None, None)
        assert cost.prompt_token_price == 0.00125


def test_a_cost_that_the_provider_returned_takes_precedence(built_in):
    cost = built_in.cost(
        used(10_000, 500, 8_000, provider_cost=0.0100), model="openai/gpt-5", provider="openrouter", at=NOW
    )
    assert cost.total_cost == 0.0100
    # the table's difference: 8,000 cached tokens at 0.125 instead of 1.25 per 1M
    assert cost.original_cost == usd(0.0100 + 0.0090)
    assert cost.price_source == "provider"
    assert cost.cached_token_price == 0.000125


def test_a_returned_cost_without_a_known_model_has_no_original(built_in):
    cost = built_in.cost(used(100, 10, 50, provider_cost=0.5), model="x", provider="openrouter", at=NOW)
    assert cost == Cost(total_cost=0.5, price_source="provider")


def test_a_returned_cost_without_tokens_has_no_original(built_in):
    cost = built_in.cost(used(provider_cost=0.5), model="gpt-5", provider="openai", at=NOW)
    assert (cost.total_cost, cost.original_cost, cost.price_source) == (0.5, None, "provider")
