"""The price book: entries of the pricing file over the built-in table."""

import hashlib
import subprocess
import sys
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest

from rlm_cachetrack.pricing import price_book as pricing
from tests.unit.pricing.samples import DESIGN_FILE, NOW, usd, used


def test_the_pricing_file_of_the_design_document(book):
    prices = book(DESIGN_FILE)
    usage = used(10_000, 500, 6_000, 3_000)

    def total(model, provider="openai", tier=None):
        return prices.cost(usage, model=model, provider=provider, service_tier=tier, at=NOW).total_cost

    # 1,000 x 1.25 + 6,000 x 0.125 + 3,000 x 1.5625 + 500 x 10
    assert total("gpt-5") == usd(0.0116875)
    assert total("gpt-5", tier="flex") == usd(0.00584375)
    # the tier's list has no cache_write, so its prompt price applies: 4,000 x 2.50 + 6,000 x 0.25 + 500 x 20
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


def test_models_that_are_not_in_the_file_have_the_prices_of_the_table(book):
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


def test_omitted_cache_prices_are_the_prompt_price(book):
    rates = book("version: 1\nper: 1M\nmodels: {m: {prompt: 2, completion: 8}}").rates(model="m")
    assert (rates.cached, rates.cache_write) == (0.002, 0.002)


def test_an_entry_for_a_provider_does_not_apply_to_another(book):
    prices = book("version: 1\nper: 1M\nmodels: {gpt-5: {provider: xai, prompt: 99, completion: 99}}")

    def price(provider):
        rates = prices.rates(model="gpt-5", provider=provider, at=NOW)
        return rates and rates.prompt

    assert price("xai") == price("x-ai") == 0.099
    assert price("openai") == 0.00125  # from the table
    assert price("vllm") is None
    assert price(None) == price("unknown") == 0.099  # an unknown provider may be the one of the entry


def test_an_entry_without_a_provider_applies_to_every_provider(book):
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
def test_only_a_date_is_removed_from_a_name(book, name):
    prices = book("version: 1\nper: 1M\nmodels: {m: {prompt: 7, completion: 7}}")
    assert prices.rates(model=name, provider="vllm") is None


def test_the_exact_name_of_a_snapshot_takes_precedence_over_its_base(book):
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


def test_an_alias_applies_to_its_provider_only(book):
    prices = book("version: 1\nper: 1M\nmodels: {house: {alias: gpt-4o, provider: azure}}")
    assert prices.rates(model="house", provider="azure", at=NOW).prompt == 0.0025
    assert prices.rates(model="house", provider="vllm", at=NOW) is None


# -- loading ----------------------------------------------------------------------------------------------------------


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
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.split() == ["0.00125", "False"]


def test_prices_of_the_file_are_the_floats_nearest_to_the_decimals(book):
    prices = book("version: 1\nper: 1M\nmodels: {m: {prompt: 0.1, cached: 0.07, completion: 3.3, tiers: {flex: 0.7}}}")
    rates = prices.rates(model="m")
    assert rates.cached == float(Decimal("0.00007"))
    assert prices.rates(model="m", service_tier="flex").completion == float(Decimal("0.00231"))


def test_the_cache_of_schedules_is_bounded(built_in):
    for number in range(25_000):
        built_in.rates(model=f"made-up-{number}", provider="vllm")
    assert len(built_in._schedules) <= 10_000
    assert built_in.rates(model="gpt-5", provider="openai", at=NOW).prompt == 0.00125
