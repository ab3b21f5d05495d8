"""Prices and costs that hand-made records leave out."""

import pytest

from rlm_cachetrack.pricing.costs import Cost
from tests.unit.pricing.samples import NOW, usd, used


def completed(book, given, usage, model="gpt-5", provider="openai"):
    return book.complete(given, usage, model=model, provider=provider, at=NOW)


def test_a_record_without_prices_is_priced_like_a_call(built_in):
    usage = used(10_000, 500, 8_000)
    assert completed(built_in, Cost(), usage) == built_in.cost(usage, model="gpt-5", provider="openai", at=NOW)


def test_a_given_prompt_price_uses_the_models_own_cache_ratio(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.010), used(10_000, 500, 8_000))
    # 90 % off as in the table, output as in the table: 2,000 x 10 + 8,000 x 1 + 500 x 10 per 1M
    assert cost.cached_token_price == pytest.approx(0.001)
    assert cost.completion_token_price == 0.01
    assert cost.total_cost == usd(0.033)
    assert cost.original_cost == usd(0.105)
    assert cost.price_source == "record"


def test_a_given_prompt_price_uses_the_models_own_write_premium(built_in):
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


def test_tokens_that_were_not_used_need_no_price(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.010), used(10_000, 0, 0), model="house-model")
    assert (cost.total_cost, cost.original_cost) == (usd(0.1), usd(0.1))


def test_the_original_of_a_given_total_adds_the_difference_of_prices(built_in):
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
def test_a_given_total_of_an_unknown_model_is_the_original_if_nothing_was_cached(built_in, usage, original):
    assert completed(built_in, Cost(total_cost=0.5), usage, model="house-model").original_cost == original


def test_given_costs_take_precedence_over_prices(built_in):
    given = Cost(prompt_token_price=1.0, total_cost=0.2, original_cost=0.3, price_source="contract")
    cost = completed(built_in, given, used(10_000, 500, 8_000))
    assert (cost.total_cost, cost.original_cost, cost.price_source) == (0.2, 0.3, "contract")


def test_a_given_price_of_zero_is_a_price(built_in):
    cost = completed(built_in, Cost(prompt_token_price=0.0, completion_token_price=0.0), used(1_000, 10, 5))
    assert (cost.total_cost, cost.original_cost) == (0.0, 0.0)


@pytest.mark.parametrize(("model", "provider"), [("house-model", None), ("gpt-5", "openai")])
def test_the_original_cost_of_given_prices_is_all_tokens_at_those_prices(built_in, model, provider):
    given = Cost(prompt_token_price=0.0015, completion_token_price=0.006, total_cost=0.0099)
    cost = completed(built_in, given, used(7_000, 700, 6_400), model=model, provider=provider)
    # 7,000 x 1.5 + 700 x 6 per 1M, whatever the total is
    assert (cost.total_cost, cost.original_cost) == (0.0099, usd(0.0147))


def test_the_original_cost_of_given_prices_needs_no_completion_price_without_output(built_in):
    given = Cost(prompt_token_price=0.0015, total_cost=0.0099)
    cost = completed(built_in, given, used(7_000, 0, 6_400), model="house-model", provider=None)
    assert cost.original_cost == usd(0.0105)
