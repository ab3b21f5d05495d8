"""Components and factors in the pricing file: writes by retention, audio, images, tools, fees, regions, hours."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.pricing import Cost, PriceBook
from rlm_cachetrack.usage import TokenUsage

from .samples import HEAD, NOW, prompt_price, usd

Book = Callable[[str], PriceBook]

MODEL = """\
  m:
    prompt: 2
    cached: 0.2
    cache_write: 2.5
    completion: 10
    cache_write_1h: 4
    cache_write_12h: 5
    audio: {prompt: 32, cached: 0.4, completion: 64}
    image: {prompt: 5, cached: 0.5}
    tools: {web_search: 0.01, teleport: 3}
    per_request: 0.005
    regions: {eu: 1.1, "*": 1.2}
    windows: {8h: 0.6}
    tiers: {flex: 0.5}
"""


def cost(book: PriceBook, model: str = "m", tier: str | None = None, **more: Any) -> Cost:
    """Return the cost of 1,000 prompt tokens and 100 completion tokens."""
    facts = {name: more.pop(name) for name in ("tools", "options") if name in more}
    usage = TokenUsage(prompt_tokens=1_000, completion_tokens=100, **more)
    return book.cost(usage, model=model, service_tier=tier, at=NOW, **facts)


# The text is 1,000 x 2 + 100 x 10 = 0.003, the fee of the request 0.005.
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "usual": ({}, 0.008),
    "12 hours": ({"cache_write_tokens": 500, "details": {"cache_write_12h_tokens": 500}}, 0.0095),  # 500 x (5 - 2)
    "1 hour": ({"cache_write_tokens": 500, "details": {"cache_write_1h_tokens": 500}}, 0.009),  # 500 x (4 - 2)
    "default": ({"cache_write_tokens": 500}, 0.00825),  # 500 x (2.50 - 2)
    "audio in": ({"details": {"audio_prompt_tokens": 100}}, 0.011),  # 100 x (32 - 2)
    "audio cached": (
        # 100 x (0.40 - 2)
        {"cached_tokens": 100, "details": {"audio_prompt_tokens": 100, "audio_cached_tokens": 100}},
        0.00784,
    ),
    "audio out": ({"details": {"audio_completion_tokens": 100}}, 0.0134),  # 100 x (64 - 10)
    "image in": ({"details": {"image_prompt_tokens": 100}}, 0.0083),  # 100 x (5 - 2)
    "image out as text": ({"details": {"image_completion_tokens": 100}}, 0.008),
    "tools": ({"tools": {"web_search": 3, "teleport": 1}}, 3.038),
    "region": ({"options": {"region": "eu"}}, 0.0083),  # 0.003 x 1.1
    "any other region": ({"options": {"region": "jp"}}, 0.0086),  # 0.003 x 1.2
    "window": ({"options": {"completion_window": "8h"}}, 0.0068),  # 0.003 x 0.6
    "region and window": ({"options": {"region": "eu", "completion_window": "8h"}}, 0.00698),  # 0.003 x 0.66
    "flex": ({"tier": "flex", "details": {"audio_prompt_tokens": 100}}, 0.008),  # (0.003 + 100 x 30) / 2
}


@pytest.mark.parametrize(("call", "total"), CASES.values(), ids=CASES.keys())
def test_a_component_has_the_price_of_the_file(book: Book, call: dict[str, Any], total: float) -> None:
    found = cost(book(HEAD + MODEL), **call)
    assert found.total_cost == usd(total)
    assert found.unpriced_reason is None


def test_a_component_without_a_price_is_named(book: Book) -> None:
    prices = book(HEAD + "  m: {prompt: 2, completion: 10}\n")
    found = cost(prices, tools={"web_search": 1}, details={"audio_prompt_tokens": 100})
    assert found.total_cost is found.original_cost is None
    assert found.unpriced_reason == "no price for audio input tokens and web search calls of m"
    window = cost(prices, options={"completion_window": "8h"})
    assert window.unpriced_reason == "no price for completion window 8h of m"


def test_a_discount_applies_to_all_components(book: Book) -> None:
    prices = book(HEAD + MODEL + "discounts: {openai: 0.5}\n")
    usage = TokenUsage(prompt_tokens=1_000, completion_tokens=100)
    found = prices.cost(usage, model="m", provider="openai", at=NOW, tools={"web_search": 1})
    assert found.total_cost == usd(0.009)  # (0.003 + 0.005 + 0.01) / 2


HOURS = """\
  m:
    - {prompt: 1, completion: 1}
    - {prompt: 2, completion: 2, hours: [01:00-04:00, 06:00-10:00], weekdays: mon-fri}
    - {prompt: 4, completion: 4, hours: 22:00-01:00}
    - {prompt: 8, completion: 8, hours: 22:00-24:00, provider: openai, weekdays: [sat, sun]}
"""


@pytest.mark.parametrize(
    ("at", "provider", "price"),
    [
        (datetime(2026, 11, 20, 0, 59), None, 4),  # Friday
        (datetime(2026, 11, 20, 1), None, 2),
        (datetime(2026, 11, 20, 4), None, 1),
        (datetime(2026, 11, 20, 9, 59), None, 2),
        (datetime(2026, 11, 20, 10), None, 1),
        (datetime(2026, 11, 21, 2), None, 1),  # Saturday
        (datetime(2026, 11, 21, 22), None, 4),
        (datetime(2026, 11, 21, 23, 59), "openai", 8),
        (datetime(2026, 11, 23, 23), "openai", 4),  # Monday
    ],
)
def test_prices_depend_on_hours_and_weekdays(book: Book, at: datetime, provider: str | None, price: float) -> None:
    prices = book(HEAD + HOURS)
    for _ in range(2):  # the second round reads the cache
        assert prompt_price(prices, "m", at=at.replace(tzinfo=UTC), provider=provider) == price


def test_entries_of_the_same_hours_overlap(book: Book) -> None:
    text = """\
  m:
    - {prompt: 1, completion: 1, hours: 01:00-04:00}
    - {prompt: 2, completion: 2, hours: 03:00-05:00}
"""
    with pytest.raises(PricingError, match="is valid at the same time as"):
        book(HEAD + text)


PARENT = """\
  parent:
    prompt: 2
    cached: 0.2
    completion: 10
    cache_write_12h: 5
    tools: {web_search: 0.01}
    regions: {eu: 1.1}
    above: {1000: {prompt: 4, cached: 0.4, completion: 15}}
    tiers: {flex: 0.5}
"""


def test_a_model_inherits_prices_with_exceptions(book: Book) -> None:
    prices = book(
        HEAD + PARENT + "  child: {inherit: parent, prompt: 3, tools: {file_search: 0.002}, windows: {8h: 0.6}}\n"
    )
    rates = prices.rates(model="child", at=NOW)
    assert rates is not None
    assert rates.prices == (0.003, 0.0002, 0.002, 0.01)
    assert rates.extras == {"cache_write_12h": 0.005, "web_search": 0.01, "file_search": 0.002}
    assert (rates.regions, rates.windows) == ({"eu": 1.1}, {"8h": 0.6})
    long = prices.rates(model="child", at=NOW, prompt_tokens=1_001)
    assert long is not None
    assert long.prices == pytest.approx(
        (0.006, 0.0004, 0.004, 0.015)
    )  # long prompts change in the ratio of the exception
    flex = prices.rates(model="child", at=NOW, service_tier="flex")
    assert flex is not None
    assert flex.prompt == pytest.approx(0.0015)


def test_a_model_inherits_from_the_built_in_table(book: Book) -> None:
    prices = book(HEAD + "  gpt-6.1-terra: {inherit: gpt-6.1-terra, completion: 4}\n")
    rates = prices.rates(model="gpt-6.1-terra", provider="openai", at=NOW)
    assert rates is not None
    assert (rates.prompt, rates.completion) == (0.001, 0.004)
    assert rates.source.startswith("yaml:")
    assert "+genai-prices:" in rates.source


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{prompt: 1, completion: 1, hours: 25:00-26:00}",
            "models.m.hours: is 25:00-26:00; expected times of day in UTC",
        ),
        (
            "{prompt: 1, completion: 1, hours: 01:00-01:00}",
            "models.m.hours: is 01:00-01:00; expected times of day in UTC",
        ),
        ("{prompt: 1, completion: 1, weekdays: funday}", "models.m.weekdays: is funday; expected days such as mon-fri"),
        (
            "{prompt: 1, completion: 1, tools: {web_search: -1}}",
            "models.m.tools.web_search: is -1; expected USD for one use",
        ),
        ("{prompt: 1, completion: 1, per_request: x}", "models.m.per_request: is x; expected USD for one request"),
        ("{prompt: 1, completion: 1, audio: {in: 1}}", "models.m.audio.in: is not known"),
        ("{prompt: 1, completion: 1, audio: 3}", "models.m.audio: is 3; expected a mapping with prompt"),
        ("{prompt: 1, completion: 1, regions: {eu: x}}", "models.m.regions.eu: is x; expected a factor of at least 0"),
        ("{inherit: gpt-4oo}", "models.m.inherit: is gpt-4oo, an unknown model"),
        ("{inherit: m}", "models.m.inherit: is circular"),
        ("{inherit: gpt-5, alias: gpt-5}", "models.m.inherit: is not known"),
        ("{per_second: -1}", "models.m.per_second: is -1; expected USD for one second, a number of at least 0"),
        ("{per_1m_characters: x}", "models.m.per_1m_characters: is x; expected USD for 1M characters"),
        (
            "{per_second: 1, per_minute: 60}",
            "models.m.per_minute: is 60; expected either per_second or per_minute, not both",
        ),
        ("{per_minutes: 1}", "models.m.per_minutes: is not known (did you mean per_minute?)"),
        ("{per_image: 1, per_imag: 1}", "models.m.per_imag: is not known (did you mean per_image?)"),
        ("{per_image: 1, tiers: {flex: {prompt: 1}}}", "models.m.tiers.flex: is a mapping; expected a factor"),
        ("{per_image: 1, completion: 1}", "models.m.prompt: is missing"),
    ],
)
def test_a_mistake_in_a_component_is_reported_with_its_key(book: Book, line: str, message: str) -> None:
    if line == "{inherit: m}":
        line = "{inherit: n}\n  n: {inherit: m}"
    with pytest.raises(PricingError) as caught:
        book(f"{HEAD}  m: {line}\n")
    assert f"prices.yaml:4: {message}" in str(caught.value)


UNITS = """\
  transcriber: {per_minute: 0.006}
  speaker: {per_1m_characters: 15, provider: openai}
  film: {per_second: 0.1, tiers: {batch: 0.5}}
  picture: {per_image: 0.04}
  mixed: {prompt: 2.5, completion: 10, per_minute: 0.006, tiers: {batch: 0.5}}
  whisper-1: {inherit: whisper-1, per_minute: 0.003}
"""


@pytest.mark.parametrize(
    ("model", "tier", "details", "total"),
    [
        ("transcriber", None, {"seconds": 90}, 0.009),
        ("speaker", None, {"characters": 2_000}, 0.03),
        ("film", None, {"seconds": 8}, 0.8),
        ("film", "batch", {"seconds": 8}, 0.4),
        ("film", "flex", {"seconds": 8}, None),
        ("picture", None, {"images": 3}, 0.12),
        ("mixed", None, {"seconds": 60}, 0.006),
        ("whisper-1", None, {"seconds": 60}, 0.003),
        ("transcriber", None, {"characters": 60}, None),
    ],
)
def test_seconds_characters_and_images_have_the_price_of_the_file(
    book: Book, model: str, tier: str | None, details: dict[str, int], total: float | None
) -> None:
    usage = TokenUsage(details=details)
    found = book(HEAD + UNITS).cost(usage, model=model, provider="openai", service_tier=tier, at=NOW)
    assert found.total_cost == found.original_cost == (None if total is None else usd(total))
    assert found.prompt_token_price is None or model == "mixed"


def test_the_price_of_a_unit_needs_no_number_of_tokens(book: Book) -> None:
    found = book("version: 1\nmodels:\n  film: {per_second: 0.1}\n").rates(model="film", at=NOW)
    assert found is not None
    assert found.extras == {"seconds": 0.1}


def test_tokens_of_a_model_that_is_billed_by_units_have_no_price(book: Book) -> None:
    found = cost(book(HEAD + UNITS), "film")
    assert found.total_cost is None
    assert found.unpriced_reason == "no price for input tokens and output tokens of film"
