"""Prices: invoices computed by hand, the pricing file and its mistakes, and what is left unpriced."""

import hashlib
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest

from rlm_cachetrack.errors import ConfigError, PricingError
from rlm_cachetrack.pricing import price_book as pricing
from rlm_cachetrack.pricing.costs import UNPRICED, Cost
from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.usage.reading import TokenUsage

# After every dated price that the tests rely on, so that a newer table cannot change what is expected.
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DESIGN_FILE = """\
version: 1
per: 1M
models:
  gpt-5:
    provider: openai
    prompt: 1.25
    cached: 0.125
    cache_write: 1.5625
    completion: 10
    tiers: {flex: 0.5, priority: {prompt: 2.5, cached: 0.25, completion: 20}}
  my-azure-deployment: {alias: gpt-5}
"""


@pytest.fixture(scope="module")
def built_in() -> PriceBook:
    return PriceBook.load(None)


@pytest.fixture
def book(tmp_path):
    def load(text: str | bytes) -> PriceBook:
        path = tmp_path / "prices.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return PriceBook.load(path)

    return load


def used(
    prompt: int | None = None,
    completion: int | None = None,
    cached: int | None = None,
    written: int | None = None,
    provider_cost: float | None = None,
) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=None,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=None,
        provider_cost_usd=provider_cost,
        anomaly=None,
        dialect="test",
    )


def usd(value: float) -> object:
    return pytest.approx(value, rel=0, abs=1e-12)


# (model, tier, moment, usage, total, original); the arithmetic stands above each, in USD per 1M tokens.
INVOICES = [
    # 50 %: 2,000 x 2.50 + 8,000 x 1.25 + 500 x 10
    ("gpt-4o", None, NOW, used(10_000, 500, 8_000), 0.020, 0.030),
    # 75 %: 2,000 x 2 + 8,000 x 0.50 + 500 x 8
    ("gpt-4.1", "default", NOW, used(10_000, 500, 8_000), 0.012, 0.024),
    # 90 %: 2,000 x 1.25 + 8,000 x 0.125 + 500 x 10
    ("gpt-5", "auto", NOW, used(10_000, 500, 8_000), 0.0085, 0.0175),
    # a write premium of 25 %: 1,000 x 4 + 6,000 x 0.40 + 3,000 x 5 + 500 x 20
    ("gpt-5.6-sol", None, NOW, used(10_000, 500, 6_000, 3_000), 0.0314, 0.050),
    # the same the day before the price fell: 1,000 x 5 + 6,000 x 0.50 + 3,000 x 6.25 + 500 x 30
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
    # 272,000 is not yet long: 72,000 x 2.50 + 200,000 x 0.25 + 1,000 x 15
    ("gpt-5.4", None, NOW, used(272_000, 1_000, 200_000), 0.245, 0.695),
    # one token more is, for the whole call: 72,001 x 5 + 200,000 x 0.50 + 1,000 x 22.50
    ("gpt-5.4", None, NOW, used(272_001, 1_000, 200_000), 0.482505, 1.382505),
    # flex: 2,000 x 0.625 + 8,000 x 0.0625 + 500 x 5
    ("gpt-5", "flex", NOW, used(10_000, 500, 8_000), 0.00425, 0.00875),
    # flex and long: 100,000 x 4 + 200,000 x 0.40 + 1,000 x 15
    ("gpt-5.6-sol", "flex", NOW, used(300_000, 1_000, 200_000), 0.495, 1.215),
    # priority: 2,000 x 2.50 + 8,000 x 0.25 + 500 x 20; "fast" is the same by another name
    ("gpt-5", "priority", NOW, used(10_000, 500, 8_000), 0.017, 0.035),
    ("gpt-5", "fast", NOW, used(10_000, 500, 8_000), 0.017, 0.035),
    # priority of gpt-5.4 knows no long-context price: 100,000 x 5 + 200,000 x 0.50 + 1,000 x 30
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
    def prompt_price(hour, minute, day=1):
        at = datetime(2026, 11, day, hour, minute, tzinfo=UTC)
        return built_in.rates(model="deepseek-v4-flash", provider="deepseek", at=at).prompt

    # 0.15 off peak, 0.30 from 01:00 to 04:00 and from 06:00 to 10:00
    moments = [(0, 59), (1, 0), (3, 59), (4, 0), (5, 59), (6, 0), (9, 59), (10, 0)]
    expected = [0.00015, 0.0003, 0.0003, 0.00015, 0.00015, 0.0003, 0.0003, 0.00015]
    assert [prompt_price(*moment) for moment in moments] == expected
    assert [prompt_price(*moment, day=2) for moment in moments] == expected  # remembered, and still right


def test_built_in_costs_equal_the_decimal_arithmetic_of_genai_prices(built_in):
    """Every model of the table that has token prices, at random usages, to 1e-9 USD."""
    from genai_prices import Usage
    from genai_prices.data import providers

    rng = random.Random(5)
    compared = 0
    for provider in providers:
        for model in provider.models:
            # Names that another model of the list answers to first are that model's to compare.
            if provider.find_model(model.id) is not model:
                continue
            prompt = rng.choice([900, 150_000, 272_001, 2_000_000])
            cached, completion = rng.randrange(prompt // 2), rng.randrange(100_000)
            written = rng.randrange(prompt // 2)
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(440_000))
            cost = built_in.cost(used(prompt, completion, cached, written), model=model.id, provider=provider.id, at=at)
            if cost.total_cost is None or cost.original_cost is None:
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
        ("azure", "gpt-5-2025-08-07", 0.00125),  # Azure has no list of its own for it: OpenAI's
        ("azure", "gpt-35-turbo", 0.0005),  # as Azure spells gpt-3.5-turbo
        ("xai", "grok-4-0709", 0.003),
        ("gemini-compat", "gemini-2.5-pro", 0.00125),
        ("openrouter", "openai/gpt-5", 0.00125),
        ("moonshot", "kimi-k2-0905-preview", 0.0006),
        ("groq", "llama-3.3-70b-versatile", 0.00059),
        ("OpenAI", "gpt-5", 0.00125),
        ("unknown", "gpt-5", 0.00125),  # a proxy: the name alone
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
        ("unknown", "gpt-oss-20b", None),  # open weights: anybody may serve them
        ("unknown", "meta-llama/Llama-3.3-70B-Instruct", None),
        ("snowflake", "claude-sonnet-4-6", None),  # resold at its own price
        ("openai", "whisper-1", None),  # by the minute
        ("google", "gemma-3", None),  # an empty price list is not a price of 0
        ("openai", "gpt-5", "scale"),  # nobody lists a price for the tier
        ("openai", "gpt-5-nano", "priority"),
        ("openai", "gpt-4o-0613", None),  # the table's own names end in full dates
        ("azure", "gpt-5", "priority"),  # OpenAI's tiers are not Azure's
    ],
)
def test_what_has_no_known_price_is_null_and_never_zero(built_in, provider, model, tier):
    cost = built_in.cost(used(1_000, 100, 0), model=model, provider=provider, service_tier=tier, at=NOW)
    assert cost == UNPRICED
    assert cost.total_cost is None


def test_a_tier_has_no_price_before_the_table_knows_one(built_in):
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


def test_a_fee_per_request_leaves_the_total_unknown_and_the_prices_known(built_in):
    cost = built_in.cost(used(1_000, 100, 0), model="sonar", provider="perplexity", at=NOW)
    assert (cost.prompt_token_price, cost.completion_token_price) == (0.001, 0.001)
    assert (cost.total_cost, cost.original_cost) == (None, None)


def test_tokens_that_are_not_reported_have_no_cost_but_a_price(built_in):
    for usage in (used(), used(None, 100), used(None, None, None, None)):
        cost = built_in.cost(usage, model="gpt-5", provider="openai", at=NOW)
        assert (cost.total_cost, cost.original_cost) == (None, None)
        assert cost.prompt_token_price == 0.00125


def test_a_cost_that_the_provider_returned_wins(built_in):
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


# The pricing file --------------------------------------------------------------------------------------


def test_the_file_of_the_design(book):
    prices = book(DESIGN_FILE)
    usage = used(10_000, 500, 6_000, 3_000)

    def total(model, provider="openai", tier=None):
        return prices.cost(usage, model=model, provider=provider, service_tier=tier, at=NOW).total_cost

    # 1,000 x 1.25 + 6,000 x 0.125 + 3,000 x 1.5625 + 500 x 10
    assert total("gpt-5") == usd(0.0116875)
    assert total("gpt-5", tier="flex") == usd(0.00584375)
    # the tier's list has no cache_write, so its prompt price: 4,000 x 2.50 + 6,000 x 0.25 + 500 x 20
    assert total("gpt-5", tier="priority") == usd(0.0215)
    assert total("gpt-5-2025-08-07") == usd(0.0116875)
    assert total("my-azure-deployment", provider="azure") == usd(0.0116875)
    assert total("my-azure-deployment", provider="azure", tier="flex") == usd(0.00584375)


def test_the_source_names_the_file_by_its_hash(book):
    sha8 = hashlib.sha256(DESIGN_FILE.encode()).hexdigest()[:8]
    prices = book(DESIGN_FILE)
    assert prices.cost(used(1, 1), model="gpt-5", provider="openai").price_source == f"yaml:{sha8}"
    assert prices.describe() == f"prices.yaml (2 models, {sha8}) over genai-prices {version('genai-prices')}"


def test_describe_names_the_built_in_table(built_in):
    assert built_in.describe() == f"built-in genai-prices {version('genai-prices')}"


def test_what_the_file_does_not_name_comes_from_the_table(book):
    cost = book(DESIGN_FILE).cost(used(1_000, 0, 0), model="gpt-4o", provider="openai", at=NOW)
    assert cost.total_cost == usd(0.0025)
    assert cost.price_source.startswith("genai-prices:")


def test_the_same_prices_per_1k_and_per_1m(book):
    million = book("version: 1\nper: 1M\nmodels: {m: {prompt: 1.25, cached: 0.125, completion: 10}}")
    at_model = book("version: 1\nper: 1M\nmodels: {m: {per: 1k, prompt: 0.00125, cached: 0.000125, completion: 0.01}}")
    usage = used(10_000, 500, 8_000)
    for prices in (million, at_model):
        # 2,000 x 1.25 + 8,000 x 0.125 + 500 x 10
        assert prices.cost(usage, model="m").total_cost == usd(0.0085)
        assert prices.rates(model="m", provider=None).prompt == 0.00125


def test_left_out_cache_prices_are_the_prompt_price(book):
    rates = book("version: 1\nper: 1M\nmodels: {m: {prompt: 2, completion: 8}}").rates(model="m")
    assert (rates.cached, rates.cache_write) == (0.002, 0.002)


def test_an_entry_for_a_provider_does_not_serve_another(book):
    prices = book("version: 1\nper: 1M\nmodels: {gpt-5: {provider: xai, prompt: 99, completion: 99}}")

    def price(provider):
        rates = prices.rates(model="gpt-5", provider=provider, at=NOW)
        return rates and rates.prompt

    assert price("xai") == price("x-ai") == 0.099
    assert price("openai") == 0.00125  # from the table
    assert price("vllm") is None
    assert price(None) == price("unknown") == 0.099  # nobody knows that it is another


def test_an_entry_without_a_provider_serves_every_one(book):
    prices = book("version: 1\nper: 1M\nmodels: {Qwen/Qwen3-0.6B: {prompt: 1, completion: 2}}")
    assert [prices.rates(model="Qwen/Qwen3-0.6B", provider=p).prompt for p in ("vllm", "together", None)] == [
        0.001,
        0.001,
        0.001,
    ]


@pytest.mark.parametrize("name", ["m-2025-08-07", "m-20250807", "m@20250807", "m-0613", "m"], ids=lambda name: name)
def test_a_dated_snapshot_falls_back_to_its_base_name(book, name):
    prices = book("version: 1\nper: 1M\nmodels: {m: {prompt: 7, completion: 7}}")
    assert prices.rates(model=name, provider="vllm").prompt == 0.007


@pytest.mark.parametrize("name", ["m-mini", "m-2025-13-07", "m-2025-08-07-x", "m-1399", "m-12345", "M", "-0613"])
def test_only_a_date_is_left_off(book, name):
    prices = book("version: 1\nper: 1M\nmodels: {m: {prompt: 7, completion: 7}}")
    assert prices.rates(model=name, provider="vllm") is None


def test_the_exact_name_of_a_snapshot_goes_before_its_base(book):
    prices = book(
        "version: 1\nper: 1M\nmodels: {m: {prompt: 1, completion: 1}, m-2025-08-07: {prompt: 2, completion: 2}}"
    )
    assert prices.rates(model="m-2025-08-07").prompt == 0.002
    assert prices.rates(model="m-2025-09-09").prompt == 0.001


def test_a_served_tier_that_the_file_does_not_list_is_unpriced(book):
    prices = book("version: 1\nper: 1M\nmodels: {gpt-5: {prompt: 1, completion: 1, tiers: {flex: 0}}}")
    assert prices.rates(model="gpt-5", service_tier="priority", at=NOW) is None
    assert prices.rates(model="gpt-5", service_tier="flex", at=NOW).prompt == 0.0
    assert prices.rates(model="gpt-5", service_tier="standard", at=NOW).prompt == 0.001


def test_fast_is_the_priority_tier(book):
    assert book(DESIGN_FILE).rates(model="gpt-5", service_tier="fast").prompt == 0.0025


def test_aliases_chain_and_may_end_in_the_table(book):
    prices = book(
        "version: 1\nper: 1M\n"
        "models:\n"
        "  a: {alias: b}\n"
        "  b: {alias: c-2025-08-07}\n"
        "  c: {provider: openai, prompt: 3, completion: 3}\n"
        "  house: {alias: gpt-4o}\n"
        "  gpt-5: {alias: gpt-5-2025-08-07}\n"
    )
    assert prices.rates(model="a", provider="azure").prompt == 0.003
    for provider in ("azure", "vllm", None):
        assert prices.rates(model="house", provider=provider, at=NOW).prompt == 0.0025
    assert prices.rates(model="gpt-5", provider="openai", at=NOW).prompt == 0.00125


def test_an_alias_holds_for_its_provider_only(book):
    prices = book("version: 1\nper: 1M\nmodels: {house: {alias: gpt-4o, provider: azure}}")
    assert prices.rates(model="house", provider="azure", at=NOW).prompt == 0.0025
    assert prices.rates(model="house", provider="vllm", at=NOW) is None


HEAD = "version: 1\nper: 1M\nmodels:\n"
MALFORMED = {
    # name: (text, line, key, what stands there, what was expected)
    "empty": ("", 1, "the file", "is empty", "version: 1"),
    "only a comment": ("# nothing\n", 1, "the file", "is empty", "version: 1"),
    "a list": ("- a\n- b\n", 1, "the file", "is a list", "version, per and models"),
    "no version": ("per: 1M\nmodels: {}\n", 1, "version", "is missing", "version: 1"),
    "newer version": ("version: 2\nper: 1M\nmodels: {}\n", 1, "version", "is 2", "expected 1"),
    "no models": ("version: 1\nper: 1M\n", 1, "models", "is missing", "model names"),
    "empty models": ("version: 1\nper: 1M\nmodels:\n", 3, "models", "is empty", "a mapping of model names"),
    "unit": ("version: 1\nper: 1G\nmodels: {}\n", 2, "per", "is 1G", "1M or 1K"),
    "no unit": (
        "version: 1\nmodels:\n  m: {prompt: 1, completion: 1}\n",
        3,
        "models.m.per",
        "is missing",
        "1M or per: 1K",
    ),
    "unit of a model": (
        HEAD + "  m: {per: [1], prompt: 1, completion: 1}\n",
        4,
        "models.m.per",
        "is a list",
        "1M or 1K",
    ),
    "top-level typo": (
        "version: 1\nper: 1M\nmodel: {}\nmodels: {}\n",
        3,
        "model",
        "did you mean models?",
        "version, per",
    ),
    "key typo": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    chached: 0.1\n",
        7,
        "models.m.chached",
        "did you mean cached?",
        "one of provider, per, prompt",
    ),
    "tier typo": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    tiers:\n      flx: 0.5\n",
        8,
        "models.m.tiers.flx",
        "did you mean flex?",
        "one of flex, priority, batch",
    ),
    "duplicate model": (
        HEAD + "  m: {prompt: 1, completion: 1}\n  m: {prompt: 2, completion: 1}\n",
        5,
        "models.m",
        "already defined on line 4",
        "one definition",
    ),
    "duplicate price": (
        HEAD + "  m:\n    prompt: 1\n    prompt: 2\n    completion: 1\n",
        6,
        "models.m.prompt",
        "already defined on line 5",
        "one definition",
    ),
    "negative": (
        HEAD + "  m:\n    prompt: -1.25\n    completion: 1\n",
        5,
        "models.m.prompt",
        "is -1.25",
        "USD per 1M tokens, a number of at least 0",
    ),
    "nan": (HEAD + "  m: {prompt: .nan, completion: 1}\n", 4, "models.m.prompt", "is .nan", "a number"),
    "inf": (HEAD + "  m: {prompt: 1, completion: .inf}\n", 4, "models.m.completion", "is .inf", "a number"),
    "too great": (HEAD + "  m: {prompt: 1e400, completion: 1}\n", 4, "models.m.prompt", "1e400", "a number"),
    "bool": (HEAD + "  m: {prompt: true, completion: 1}\n", 4, "models.m.prompt", "is true", "a number"),
    "text": (HEAD + "  m: {prompt: cheap, completion: 1}\n", 4, "models.m.prompt", "is cheap", "a number"),
    "quoted": (
        HEAD + '  m: {prompt: "1.25", completion: 1}\n',
        4,
        "models.m.prompt",
        'the text "1.25"',
        "a number",
    ),
    "with a sign": (HEAD + "  m: {prompt: $1, completion: 1}\n", 4, "models.m.prompt", "is $1", "a number"),
    "octal": (HEAD + "  m: {prompt: 010, completion: 1}\n", 4, "models.m.prompt", "is 010", "a number"),
    "no price": (HEAD + "  m: {prompt: , completion: 1}\n", 4, "models.m.prompt", "is empty", "a number"),
    "price missing": (HEAD + "  m:\n    prompt: 1\n", 4, "models.m.completion", "is missing", "USD per 1M"),
    "price in 1K": (
        "version: 1\nper: 1K\nmodels:\n  m: {prompt: x, completion: 1}\n",
        4,
        "models.m.prompt",
        "is x",
        "USD per 1K tokens",
    ),
    "a price for a model": (
        HEAD + "  m: 1.25\n",
        4,
        "models.m",
        "is 1.25",
        "prompt and completion, or alias",
    ),
    "tiers as a list": (
        HEAD + "  m: {prompt: 1, completion: 1, tiers: [flex]}\n",
        4,
        "models.m.tiers",
        "is a list",
        "a factor or prices",
    ),
    "negative factor": (
        HEAD + "  m: {prompt: 1, completion: 1, tiers: {flex: -1}}\n",
        4,
        "models.m.tiers.flex",
        "is -1",
        "a factor of at least 0",
    ),
    "tier without completion": (
        HEAD + "  m:\n    prompt: 1\n    completion: 1\n    tiers:\n      batch: {prompt: 1}\n",
        8,
        "models.m.tiers.batch.completion",
        "is missing",
        "USD per 1M",
    ),
    "alias beside prices": (
        HEAD + "  m:\n    alias: gpt-5\n    prompt: 1\n",
        6,
        "models.m.prompt",
        "cannot be combined with alias",
        "either alias or prices",
    ),
    "alias of nothing": (HEAD + "  m: {alias: }\n", 4, "models.m.alias", "is empty", "a name"),
    "alias of itself": (HEAD + "  m: {alias: m}\n", 4, "models.m.alias", "m -> m", "a model that has prices"),
    "circle": (
        HEAD + "  a:\n    alias: b\n  b: {alias: c}\n  c: {alias: a}\n",
        5,
        "models.a.alias",
        "a -> b -> c -> a",
        "a model that has prices",
    ),
    "provider": (
        HEAD + "  m: {provider: [openai], prompt: 1, completion: 1}\n",
        4,
        "models.m.provider",
        "is a list",
        "a name",
    ),
    "a list as a key": (
        HEAD + "  ? [a, b]\n  : {prompt: 1, completion: 1}\n",
        4,
        "models.?",
        "a key",
        "a name",
    ),
}


@pytest.mark.parametrize(("text", "line", "key", "found", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_a_mistake_names_file_line_key_and_what_was_expected(book, tmp_path, text, line, key, found, expected):
    with pytest.raises(PricingError) as caught:
        book(text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{tmp_path / 'prices.yaml'}:{line}: {key}: ")
    message, _, expectation = first.partition("; expected ")
    assert found in message
    assert expected.removeprefix("expected ") in expectation
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (HEAD + "  m: {prompt: 1\n", 5, "not valid YAML"),
        (HEAD + "\tm: {prompt: 1}\n", 4, "not valid YAML"),
        (HEAD + "  m: *missing\n", 4, "missing"),
        ("version: 1\n---\nversion: 1\n", 2, "single document"),
        (HEAD.encode() + b"  caf\xe9: {prompt: 1, completion: 1}\n", 4, "0xe9 is not UTF-8"),
        (HEAD + "  m\x00: {}\n", 4, "not valid YAML"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
    ids=["unclosed", "tab", "anchor", "two documents", "latin-1", "NUL", "nesting"],
)
def test_a_file_that_is_no_yaml_is_refused_with_its_line(book, text, line, found):
    with pytest.raises(PricingError, match=rf"prices\.yaml:{line}: .*; expected ") as caught:
        book(text)
    assert found in str(caught.value)


def test_all_mistakes_of_a_file_are_reported_at_once_in_order(book):
    with pytest.raises(PricingError) as caught:
        book("version: 3\nper: 1X\nmodels:\n  a: {prompt: -1, completion: no}\n  b: {alias: b}\n  c: {cost: 1}\n")
    lines = [line.split(": ")[0].rsplit(":", 1)[1] for line in str(caught.value).splitlines()]
    # version, per, a.prompt, a.completion, b.alias; c has an unknown key and lacks both prices
    assert lines == ["1", "2", "4", "4", "5", "6", "6", "6"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PricingError, match=r"gone\.yaml: no such file; expected a pricing YAML"):
        PriceBook.load(tmp_path / "gone.yaml")


def test_a_folder_is_no_pricing_file(tmp_path):
    with pytest.raises(PricingError, match="cannot be read"):
        PriceBook.load(str(tmp_path))


def test_a_file_with_a_byte_order_mark_and_anchors_is_read(book):
    prices = book(
        b"\xef\xbb\xbfversion: 1\r\nper: 1M\r\nmodels:\r\n  a: &same {prompt: 1, completion: 2.5e-1}\r\n  b: *same\r\n"
    )
    assert prices.rates(model="b").completion == 0.00025


# Records made by hand ----------------------------------------------------------------------------------


def completed(book, given, usage, model="gpt-5", provider="openai"):
    return book.complete(given, usage, model=model, provider=provider, at=NOW)


def test_a_record_without_prices_is_priced_like_a_call(built_in):
    usage = used(10_000, 500, 8_000)
    assert completed(built_in, Cost(), usage) == built_in.cost(usage, model="gpt-5", provider="openai", at=NOW)


def test_a_prompt_price_given_takes_the_models_own_cache_ratio(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.010), used(10_000, 500, 8_000))
    # 90 % off as in the table, output as in the table: 2,000 x 10 + 8,000 x 1 + 500 x 10 per 1M
    assert cost.cached_token_price == pytest.approx(0.001)
    assert cost.completion_token_price == 0.01
    assert cost.total_cost == usd(0.033)
    assert cost.original_cost == usd(0.105)
    assert cost.price_source == "record"


def test_a_prompt_price_given_takes_the_models_own_write_premium(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.008), used(1_000, 0, 0, 1_000), model="gpt-5.6-sol")
    assert cost.cache_write_token_price == pytest.approx(0.010)
    assert (cost.total_cost, cost.original_cost) == (usd(0.010), usd(0.008))


def test_an_unknown_model_gets_no_discount(built_in):
    given = Cost(prompt_token_price=0.010, completion_token_price=0.030)
    cost = completed(built_in, given, used(10_000, 500, 8_000), model="house-model")
    assert (cost.cached_token_price, cost.cache_write_token_price) == (0.010, 0.010)
    assert (cost.total_cost, cost.original_cost) == (usd(0.115), usd(0.115))


def test_a_price_for_a_free_model_gets_no_discount(built_in):
    cost = completed(
        built_in,
        Cost(prompt_token_price=0.010),
        used(1_000, 0, 500),
        model="openai/gpt-oss-20b:free",
        provider="openrouter",
    )
    assert cost.cached_token_price == 0.010


def test_given_prices_stay_and_the_rest_is_filled(built_in):
    given = Cost(cached_token_price=0.0005, completion_token_price=0.020)
    cost = completed(built_in, given, used(10_000, 500, 8_000))
    # 2,000 x 1.25 + 8,000 x 0.50 + 500 x 20 per 1M
    assert (cost.prompt_token_price, cost.cached_token_price) == (0.00125, 0.0005)
    assert cost.total_cost == usd(0.0165)


def test_output_without_a_price_leaves_the_cost_unknown(built_in):
    given = Cost(prompt_token_price=0.010)
    cost = completed(built_in, given, used(10_000, 500, 8_000), model="house-model")
    assert (cost.prompt_token_price, cost.completion_token_price) == (0.010, None)
    assert (cost.total_cost, cost.original_cost) == (None, None)


def test_kinds_of_tokens_that_were_not_used_need_no_price(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.010), used(10_000, 0, 0), model="house-model")
    assert (cost.total_cost, cost.original_cost) == (usd(0.1), usd(0.1))


def test_a_total_given_gets_the_difference_that_the_prices_make(built_in):
    cost = completed(built_in, Cost(total_cost=0.5), used(10_000, 500, 8_000))
    assert cost.total_cost == 0.5
    assert cost.original_cost == usd(0.5 + 0.009)
    assert cost.price_source == "record"


@pytest.mark.parametrize(
    ("usage", "original"),
    [
        (used(100, 10, 0), 0.5),
        (used(100, 10, 50), None),
        (used(100, 10, None), None),
        (used(100, 10, 0, 5), None),
    ],
)
def test_a_total_for_an_unknown_model_is_the_original_only_where_nothing_was_cached(built_in, usage, original):
    assert completed(built_in, Cost(total_cost=0.5), usage, model="house-model").original_cost == original


def test_costs_given_win_over_what_prices_say(built_in):
    given = Cost(prompt_token_price=1.0, total_cost=0.2, original_cost=0.3, price_source="contract")
    cost = completed(built_in, given, used(10_000, 500, 8_000))
    assert (cost.total_cost, cost.original_cost, cost.price_source) == (0.2, 0.3, "contract")


def test_a_price_of_zero_given_is_a_price(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.0, completion_token_price=0.0), used(1_000, 10, 5))
    assert (cost.total_cost, cost.original_cost) == (0.0, 0.0)


# Loading -----------------------------------------------------------------------------------------------


def test_loading_a_file_checks_it_without_loading_the_table(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(DESIGN_FILE)
    code = (
        "import sys; from rlm_cachetrack.pricing.price_book import PriceBook;"
        "from rlm_cachetrack.usage.reading import TokenUsage;"
        f"book = PriceBook.load({str(path)!r}); book.describe();"
        "cost = book.cost(TokenUsage(prompt_tokens=1000), model='gpt-5', provider='openai');"
        "print(cost.total_cost, 'genai_prices' in sys.modules)"
    )
    root = Path(pricing.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0.00125", "False"]


def test_prices_of_the_file_are_the_floats_nearest_to_the_decimals(book):
    prices = book("version: 1\nper: 1M\nmodels: {m: {prompt: 0.1, cached: 0.07, completion: 3.3, tiers: {flex: 0.7}}}")
    rates = prices.rates(model="m")
    assert rates.cached == float(Decimal("0.00007"))
    assert prices.rates(model="m", service_tier="flex").completion == float(Decimal("0.00231"))


def test_names_from_servers_do_not_fill_the_memory(built_in):
    for number in range(25_000):
        built_in.rates(model=f"made-up-{number}", provider="vllm")
    assert len(built_in._schedules) <= 10_000
    assert built_in.rates(model="gpt-5", provider="openai", at=NOW).prompt == 0.00125
